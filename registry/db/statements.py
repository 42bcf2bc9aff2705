"""Statements that are compiled from SQLAlchemy Core once, when their module is imported."""

import re
from collections.abc import Mapping
from typing import Any

import orjson
from psycopg2.extras import Json
from sqlalchemy.dialects.postgresql import psycopg2 as dialects
from sqlalchemy.sql import ClauseElement

DIALECT = dialects.dialect(paramstyle="pyformat")  # type: ignore[no-untyped-call]
_PLACEHOLDER = re.compile(r"%\((\w+)\)s")


class Statement:
    """An SQL text with `%(name)s` placeholders and the default values of some of them.

    `parts` are the statements that `together()` joined, or the statement itself. Each connection runs `prepares` once
    before it runs the statement for the first time.
    """

    def __init__(self, sql: str, defaults: Mapping[str, Any], *, prepares: "tuple[Statement, ...]" = ()) -> None:
        self.sql = sql
        self.defaults = dict(defaults)
        self.prepares = prepares
        self.parts: tuple[Statement, ...] = (self,)


def statement(clause: ClauseElement) -> Statement:
    """Compiles `clause` for aiopg. Each call gives values for the bindparams that have none."""
    compiled = DIALECT.statement_compiler(DIALECT, clause)
    defaults = {name: value for name, value in compiled.params.items() if not compiled.binds[name].required}
    return Statement(str(compiled), defaults)


def together(*statements: Statement) -> Statement:
    """Joins statements into one round trip. Each sees the changes of those before it. Returns the last one's rows."""
    defaults = dict(item for each in statements for item in each.defaults.items())
    if len(defaults) < sum(len(each.defaults) for each in statements):
        raise ValueError("two statements have a default of the same name")
    prepares = tuple(each for stmt in statements for each in stmt.prepares)
    joined = Statement("; ".join(each.sql for each in statements), defaults, prepares=prepares)
    joined.parts = tuple(part for each in statements for part in each.parts)
    return joined


def prepared(name: str, stmt: Statement) -> Statement:
    """`stmt` as a prepared statement, which each connection plans once. `name` is unique in the whole service.

    The default values of `stmt` become constants of the prepared statement.
    """
    given = [place for place in dict.fromkeys(_PLACEHOLDER.findall(stmt.sql)) if place not in stmt.defaults]
    numbers = {place: f"${number}" for number, place in enumerate(given, 1)}
    sql = _PLACEHOLDER.sub(lambda found: numbers.get(found[1], found[0]), stmt.sql)
    values = ", ".join(f"%({place})s" for place in given)
    call = f"EXECUTE {name}({values})" if given else f"EXECUTE {name}"
    return Statement(call, {}, prepares=(Statement(f"PREPARE {name} AS {sql}", stmt.defaults),))


def json(value: Any) -> Json:
    """`value` as a JSON parameter."""
    return Json(value, dumps=lambda v: orjson.dumps(v, option=orjson.OPT_UTC_Z).decode())
