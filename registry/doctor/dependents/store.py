"""The SQL that compares the lists of dependents with the latest versions, and writes them again."""

import sqlalchemy as sa
from sqlalchemy.sql import bindparam as p

from registry.db.engine import Connection, statement
from registry.doctor.check import Found
from registry.doctor.store import first_of, found

# What the trigger list_dependents in registry/db/migrations writes.
_EXPECTED = """
    SELECT DISTINCT ON (1, 2) replace(d.key, '_', '-') COLLATE "C" AS dependency, packages.name AS dependent,
           packages.id AS package_id, d.value AS range
    FROM packages JOIN package_versions v ON v.id = packages.latest_version_id
    CROSS JOIN LATERAL jsonb_each_text(v.dependencies_json) d
"""
_DIFFERING = f"""
    SELECT dependency, dependent, coalesce(e.package_id, l.package_id) AS package_id, l.range AS listed,
           e.range AS expected
    FROM ({_EXPECTED} ORDER BY 1, 2, d.key) AS e FULL JOIN dependents AS l USING (dependency, dependent)
    WHERE e.range IS DISTINCT FROM l.range OR e.package_id IS DISTINCT FROM l.package_id
"""
_FIND = first_of(f"""
    SELECT dependent || ' on ' || dependency || ': ' || coalesce(listed, 'nothing') || ' instead of '
           || coalesce(expected, 'nothing') AS what
    FROM ({_DIFFERING}) AS d
""")
_WRONG = statement(sa.text(f"SELECT DISTINCT package_id AS id FROM ({_DIFFERING}) AS d ORDER BY 1"))
_ids = p("ids", type_=sa.ARRAY(sa.BigInteger))
_LOCK = statement(sa.text("SELECT FROM packages WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE").bindparams(_ids))
_REMOVE = statement(sa.text("DELETE FROM dependents WHERE package_id = ANY(:ids)").bindparams(_ids))
_ADD = statement(
    sa.text(f"""
    INSERT INTO dependents (dependency, dependent, package_id, range)
    {_EXPECTED} WHERE packages.id = ANY(:ids) ORDER BY 1, 2, d.key
    """).bindparams(_ids)
)


async def differences(conn: Connection) -> Found:
    """Dependents that are missing, surplus or have another range."""
    return await found(conn, _FIND)


async def wrong_packages(conn: Connection) -> list[int]:
    """The ids of packages whose dependencies are listed wrongly."""
    return [row.id for row in await conn.all(_WRONG)]


async def list_again(conn: Connection, ids: list[int]) -> None:
    """Locks packages and lists their dependencies again."""
    await conn.all(_LOCK, ids=ids)
    await conn.run(_REMOVE, ids=ids)
    await conn.run(_ADD, ids=ids)
