"""Count the downloads of each package per day"""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"

# Triggers keep the counts correct while an earlier release, which doesn't know them, still writes, and when the doctor
# repairs daily counts. They run once per statement. Rows are added in the order of the key, as all writers do.
COUNT = """
CREATE FUNCTION count_package_days() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO package_days AS d (package_id, day, count)
        SELECT package_id, day, sum(count) FROM added GROUP BY 1, 2 ORDER BY 1, 2
        ON CONFLICT (package_id, day) DO UPDATE SET count = d.count + excluded.count;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO package_days AS d (package_id, day, count)
        SELECT package_id, day, -sum(count) FROM removed GROUP BY 1, 2 ORDER BY 1, 2
        ON CONFLICT (package_id, day) DO UPDATE SET count = d.count + excluded.count;
    ELSE
        INSERT INTO package_days AS d (package_id, day, count)
        SELECT package_id, day, sum(count) FROM (
            SELECT package_id, day, count FROM added UNION ALL SELECT package_id, day, -count FROM removed
        ) AS changed GROUP BY 1, 2 HAVING sum(count) <> 0 ORDER BY 1, 2
        ON CONFLICT (package_id, day) DO UPDATE SET count = d.count + excluded.count;
    END IF;
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    op.create_table(
        "package_days",
        sa.Column("package_id", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["package_id"], ["packages.id"], name=op.f("package_days_package_id_fkey")),
    )
    op.create_index(
        "package_days_key", "package_days", ["package_id", "day"], unique=True, postgresql_include=["count"]
    )
    op.create_index(
        "package_days_day_idx", "package_days", ["day"], unique=False, postgresql_include=["package_id", "count"]
    )
    op.execute(COUNT)
    _count("INSERT", "NEW TABLE AS added")
    _count("DELETE", "OLD TABLE AS removed")
    _count("UPDATE", "OLD TABLE AS removed NEW TABLE AS added")


def _count(event: str, changed: str) -> None:
    op.execute(f"""
        CREATE TRIGGER count_package_days_{event.lower()} AFTER {event} ON download_days
        REFERENCING {changed} FOR EACH STATEMENT EXECUTE FUNCTION count_package_days()
    """)


def downgrade() -> None:
    op.execute("DROP FUNCTION count_package_days() CASCADE")
    op.drop_table("package_days")
