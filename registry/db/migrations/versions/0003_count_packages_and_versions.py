"""Keep the numbers of packages and versions in a table"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

# Triggers keep the numbers correct while an earlier release, which doesn't know them, still writes. For inserts and
# deletes they run once per statement.
# `totals` has 64 rows (slots). A connection updates the slot that follows from the id of its server process, so two
# connections seldom wait for each other.
COUNT_PACKAGES = """
CREATE FUNCTION count_packages() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE more bigint;
BEGIN
    IF TG_OP = 'INSERT' THEN
        more := (SELECT count(*) FROM added WHERE latest_version_id IS NOT NULL);
    ELSIF TG_OP = 'DELETE' THEN
        more := -(SELECT count(*) FROM removed WHERE latest_version_id IS NOT NULL);
    ELSE
        more := CASE WHEN NEW.latest_version_id IS NOT NULL THEN 1 ELSE -1 END;
    END IF;
    IF more <> 0 THEN
        UPDATE totals SET packages = packages + more WHERE slot = pg_backend_pid() % 64;
    END IF;
    RETURN NULL;
END $$
"""
COUNT_VERSIONS = """
CREATE FUNCTION count_versions() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE more bigint;
BEGIN
    IF TG_OP = 'INSERT' THEN
        more := (SELECT count(*) FROM added WHERE deleted_at IS NULL);
    ELSIF TG_OP = 'DELETE' THEN
        more := -(SELECT count(*) FROM removed WHERE deleted_at IS NULL);
    ELSE
        more := CASE WHEN NEW.deleted_at IS NULL THEN 1 ELSE -1 END;
    END IF;
    IF more <> 0 THEN
        UPDATE totals SET versions = versions + more WHERE slot = pg_backend_pid() % 64;
    END IF;
    RETURN NULL;
END $$
"""
FILL = """
INSERT INTO totals (slot, packages, versions)
SELECT slot,
       CASE slot WHEN 0 THEN (SELECT count(*) FROM packages WHERE latest_version_id IS NOT NULL) ELSE 0 END,
       CASE slot WHEN 0 THEN (SELECT count(*) FROM package_versions WHERE deleted_at IS NULL) ELSE 0 END
FROM generate_series(0, 63) AS slot
"""


def upgrade() -> None:
    op.create_table(
        "totals",
        sa.Column("slot", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("packages", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("versions", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("slot", name=op.f("totals_pkey")),
    )
    # Writers wait, so that each row is counted either here or by the triggers.
    op.execute("LOCK TABLE packages, package_versions IN SHARE ROW EXCLUSIVE MODE")
    op.execute(COUNT_PACKAGES)
    op.execute(COUNT_VERSIONS)
    _count("packages", "latest_version_id", "count_packages")
    _count("package_versions", "deleted_at", "count_versions")
    op.execute(FILL)


def _count(table: str, column: str, function: str) -> None:
    op.execute(f"""
        CREATE TRIGGER {function}_added AFTER INSERT ON {table}
        REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION {function}()
    """)
    op.execute(f"""
        CREATE TRIGGER {function}_removed AFTER DELETE ON {table}
        REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION {function}()
    """)
    op.execute(f"""
        CREATE TRIGGER {function}_changed AFTER UPDATE OF {column} ON {table} FOR EACH ROW
        WHEN ((OLD.{column} IS NULL) <> (NEW.{column} IS NULL)) EXECUTE FUNCTION {function}()
    """)


def downgrade() -> None:
    op.execute("DROP FUNCTION count_packages() CASCADE")
    op.execute("DROP FUNCTION count_versions() CASCADE")
    op.drop_table("totals")
