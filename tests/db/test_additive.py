"""During an upgrade the former release still runs, so its statements must work on the new schema."""

from dataclasses import dataclass

import pytest
import sqlalchemy as sa

from registry.db import migrate
from registry.setting_parts import DatabaseSettings
from registry.settings import Settings
from tests.db.test_migrations import REVISIONS, connect, empty

__all__ = ["empty"]

_COLUMNS = sa.text("""
    SELECT table_name, column_name, concat_ws(' ', data_type, udt_name, collation_name) AS type,
           is_nullable = 'YES' AS nullable, column_default IS NOT NULL OR is_identity = 'YES' AS filled
    FROM information_schema.columns WHERE table_schema = 'public'
""")
_CONSTRAINTS = sa.text("""
    SELECT conrelid::regclass::text AS "table", pg_get_constraintdef(c.oid) AS text,
           ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = conrelid AND attnum = ANY (conkey)) AS columns
    FROM pg_constraint c WHERE connamespace = 'public'::regnamespace AND contype IN ('c', 'f', 'p', 'u', 'x')
    UNION
    SELECT indrelid::regclass::text, pg_get_indexdef(indexrelid),
           ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = indrelid AND attnum = ANY (indkey))
    FROM pg_index WHERE indisunique AND indrelid::regclass::text !~ '^pg_'
""")


@dataclass(frozen=True)
class Schema:
    """What statements depend on: columns as (type, nullable, has a default), and constraints."""

    columns: dict[tuple[str, str], tuple[str, bool, bool]]
    constraints: dict[tuple[str, str], frozenset[str]]

    @property
    def tables(self) -> set[str]:
        return {table for table, _ in self.columns}


def schema(conn: sa.Connection) -> Schema:
    return Schema(
        {(row[0], row[1]): (row[2], row[3], row[4]) for row in conn.execute(_COLUMNS)},
        {(row[0], row[1]): frozenset(row[2]) for row in conn.execute(_CONSTRAINTS)},
    )


def breaks(old: Schema, new: Schema) -> list[str]:
    """The changes in `new` that can make a statement fail that works on `old`."""
    found = []
    for (table, name), (type_, nullable, filled) in old.columns.items():
        if (table, name) not in new.columns:
            found.append(f"{table}.{name} is gone")
            continue
        new_type, new_nullable, new_filled = new.columns[table, name]
        if new_type != type_:
            found.append(f"{table}.{name} is {new_type}, was {type_}")
        if nullable and not new_nullable:
            found.append(f"{table}.{name} must not be NULL any more")
        if filled and not new_filled:
            found.append(f"{table}.{name} has no default any more")
    for (table, name), (_, nullable, filled) in new.columns.items():
        if table in old.tables and (table, name) not in old.columns and not nullable and not filled:
            found.append(f"{table}.{name} is new and must be given")
    for (table, text), names in new.constraints.items():
        known = all((table, name) in old.columns for name in names)
        if table in old.tables and known and (table, text) not in old.constraints:
            found.append(f"{table} refuses more: {text}")
    return found


def test_no_migration_breaks_the_release_before_it(empty: DatabaseSettings):
    before = None
    for revision in REVISIONS:
        migrate.upgrade(empty, revision)
        with connect(empty) as conn:
            after = schema(conn)
        assert before is None or breaks(before, after) == [], revision
        before = after
    assert before is not None
    assert "packages" in before.tables


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("ALTER TABLE packages DROP COLUMN deprecated", ["packages.deprecated is gone"]),
        ("ALTER TABLE index_failures RENAME TO failures", ["index_failures.document is gone"]),
        ("ALTER TABLE packages ALTER COLUMN deprecated TYPE varchar", ["packages.deprecated is"]),
        ("ALTER TABLE packages ALTER COLUMN deprecated SET NOT NULL", ["packages.deprecated must not"]),
        ("ALTER TABLE packages ALTER COLUMN description DROP DEFAULT", ["packages.description has no"]),
        ("ALTER TABLE packages ADD COLUMN stars integer NOT NULL", ["packages.stars is new"]),
        ("ALTER TABLE packages ADD UNIQUE (owner_id)", ["packages refuses more"]),
        ("CREATE UNIQUE INDEX ON packages (lower(license))", ["packages refuses more"]),
        ("ALTER TABLE packages ADD CHECK (download_count >= 0)", ["packages refuses more"]),
        ("ALTER TABLE packages ADD COLUMN stars integer NOT NULL DEFAULT 0", []),
        ("ALTER TABLE packages ADD COLUMN mirror bigint REFERENCES packages (id) UNIQUE", []),
        ("CREATE TABLE stars (package_id bigint PRIMARY KEY REFERENCES packages (id), count integer NOT NULL)", []),
        ("CREATE INDEX ON packages (license)", []),
    ],
)
def test_breaking_changes_are_distinguished_from_additions(database_url: str, change: str, found: list[str]):
    with connect(Settings.read({"REGISTRY_DB_URL": database_url}).database) as conn:
        before = schema(conn)
        conn.execute(sa.text(change))
        seen = breaks(before, schema(conn))
    assert bool(seen) == bool(found)
    assert all(any(each.startswith(text) for each in seen) for text in found), seen
