"""Statements that are compiled from SQLAlchemy Core once, when their module is imported."""

import re
from collections.abc import Mapping
from typing import Any

import orjson
from psycopg2.extras import Json
from sqlalchemy.dialects.postgresql import psycopg2 as dialects
from sqlalchemy.sql import ClauseElement

DIALECT = dialects.dialect(paramstyle="pyformat")  # type: ignore[no-untyped-call]
_PLACE = re.compile(r"%\((\w+)\)s")


class Statement:
    """One SQL text with `%(name)s` places, compiled from SQLAlchemy Core when it is made.

    `parts` are those that were put `together()`, else itself; `prepares` what each connection runs once before.
    """

    def __init__(self, sql: str, defaults: Mapping[str, Any], *, prepares: "tuple[Statement, ...]" = ()) -> None:
        self.sql = sql
        self.defaults = dict(defaults)
        self.prepares = prepares
        self.parts: tuple[Statement, ...] = (self,)


def statement(clause: ClauseElement) -> Statement:
    """Compiles `clause` for aiopg. Its bindparams without a value are given at each call."""
    compiled = DIALECT.statement_compiler(DIALECT, clause)
    defaults = {name: value for name, value in compiled.params.items() if not compiled.binds[name].required}
    return Statement(str(compiled), defaults)


def together(*statements: Statement) -> Statement:
    """All of them in one trip, each seeing what the one before did; the rows are those of the last."""
    defaults = dict(item for each in statements for item in each.defaults.items())
    if len(defaults) < sum(len(each.defaults) for each in statements):
        raise ValueError("two statements have a default of the same name")
    prepares = tuple(each for stmt in statements for each in stmt.prepares)
    joined = Statement("; ".join(each.sql for each in statements), defaults, prepares=prepares)
    joined.parts = tuple(part for each in statements for part in each.parts)
    return joined


def prepared(name: str, stmt: Statement) -> Statement:
    """`stmt`, planned once by each connection instead of at each call, its defaults with it; `name` is its own."""
    given = [place for place in dict.fromkeys(_PLACE.findall(stmt.sql)) if place not in stmt.defaults]
    numbers = {place: f"${number}" for number, place in enumerate(given, 1)}
    sql = _PLACE.sub(lambda found: numbers.get(found[1], found[0]), stmt.sql)
    values = ", ".join(f"%({place})s" for place in given)
    call = f"EXECUTE {name}({values})" if given else f"EXECUTE {name}"
    return Statement(call, {}, prepares=(Statement(f"PREPARE {name} AS {sql}", stmt.defaults),))


def json(value: Any) -> Json:
    """`value` as a JSON parameter."""
    return Json(value, dumps=lambda v: orjson.dumps(v, option=orjson.OPT_UTC_Z).decode())
