"""Tell downloads apart by client, and keep them by month

Downloads counted before keep their numbers; what kind of client they came from was not recorded, so it stays unknown,
and none of them is known to be unique.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"

ROLLUPS = {"download_days": ["package_id", "day", "package_version_id"], "registry_days": ["day"]}
TRAITS = ["kind", "client", "system", "country"]


def upgrade() -> None:
    for table, keys in ROLLUPS.items():
        for trait in TRAITS:
            op.add_column(table, sa.Column(trait, sa.Text(), server_default="", nullable=False))
        op.add_column(table, sa.Column("unique_count", sa.BigInteger(), server_default="0", nullable=False))
        op.drop_constraint(f"{table}_pkey", table, type_="primary")
        op.create_primary_key(f"{table}_pkey", table, keys + TRAITS)
        counts = sa.table(table, sa.column("kind"), sa.column("client"))
        op.execute(sa.update(counts).values(kind="unknown", client="Other"))
    _set_aside()
    op.execute("CREATE SEQUENCE downloads_id_seq")
    op.create_table(
        "downloads",
        sa.Column(
            "id", sa.BigInteger(), server_default=sa.text("nextval('downloads_id_seq'::regclass)"), nullable=False
        ),
        sa.Column("downloaded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("package_version_id", sa.BigInteger(), nullable=True),
        sa.Column("package", sa.Text(), nullable=True),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("ip_address", postgresql.INET(), nullable=True),
        sa.Column("user_agent", sa.Text(), server_default="", nullable=False),
        sa.Column("client_hash", sa.Text(), server_default="", nullable=False),
        sa.Column("status", sa.SmallInteger(), server_default="200", nullable=False),
        sa.Column("bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("is_unique", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        *(sa.Column(trait, sa.Text(), server_default="", nullable=False) for trait in TRAITS),
        sa.Column("rule", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["package_version_id"], ["package_versions.id"], name=op.f("downloads_package_version_id_fkey")
        ),
        sa.PrimaryKeyConstraint("id", "downloaded_at", name=op.f("downloads_pkey")),
        postgresql_partition_by="RANGE (downloaded_at)",
    )
    op.create_index("downloads_client_idx", "downloads", ["package_version_id", "client_hash", "downloaded_at"])
    _bring_back()


def _set_aside() -> None:
    op.rename_table("downloads", "downloads_before")
    op.execute("ALTER TABLE downloads_before RENAME CONSTRAINT downloads_pkey TO downloads_before_pkey")
    op.execute("ALTER TABLE downloads_before RENAME CONSTRAINT downloads_package_version_id_fkey TO before_fkey")
    op.execute("ALTER TABLE downloads_before ALTER COLUMN id DROP IDENTITY")


def _bring_back() -> None:
    """The rows of before, in partitions of their months."""
    op.execute(
        """
        DO $$
        DECLARE month timestamptz;
        BEGIN
            FOR month IN SELECT DISTINCT date_trunc('month', downloaded_at, 'UTC') FROM downloads_before LOOP
                EXECUTE format(
                    'CREATE TABLE %I PARTITION OF downloads FOR VALUES FROM (%L) TO (%L)',
                    'downloads_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM'),
                    month,
                    (month AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC'
                );
            END LOOP;
        END $$
        """
    )
    op.execute(
        """
        INSERT INTO downloads (id, downloaded_at, package_version_id, ip_address, user_agent, bytes, kind, client, rule)
        SELECT b.id, b.downloaded_at, b.package_version_id, b.ip_address, b.user_agent, v.tarball_size,
               'unknown', 'Other', 'not-recorded'
        FROM downloads_before b JOIN package_versions v ON v.id = b.package_version_id
        """
    )
    op.execute("SELECT setval('downloads_id_seq', greatest((SELECT max(id) FROM downloads), 1))")
    op.drop_table("downloads_before")


def downgrade() -> None:
    op.rename_table("downloads", "downloads_after")
    op.execute("ALTER TABLE downloads_after RENAME CONSTRAINT downloads_pkey TO downloads_after_pkey")
    op.execute("ALTER TABLE downloads_after RENAME CONSTRAINT downloads_package_version_id_fkey TO after_fkey")
    op.execute("ALTER TABLE downloads_after ALTER COLUMN id DROP DEFAULT")
    op.execute("DROP SEQUENCE downloads_id_seq")
    op.create_table(
        "downloads",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("package_version_id", sa.BigInteger(), nullable=False),
        sa.Column("ip_address", postgresql.INET(), nullable=True),
        sa.Column("downloaded_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("user_agent", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["package_version_id"], ["package_versions.id"], name=op.f("downloads_package_version_id_fkey")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("downloads_pkey")),
    )
    op.create_index(op.f("downloads_package_version_id_idx"), "downloads", ["package_version_id"])
    op.execute(
        """
        INSERT INTO downloads (id, package_version_id, ip_address, downloaded_at, user_agent)
        SELECT id, package_version_id, ip_address, downloaded_at, user_agent FROM downloads_after
        WHERE package_version_id IS NOT NULL
        """
    )
    op.execute("SELECT setval(pg_get_serial_sequence('downloads', 'id'), greatest((SELECT max(id) FROM downloads), 1))")
    op.drop_table("downloads_after")
    for table, keys in ROLLUPS.items():
        _sum_up(table, keys)


def _sum_up(table: str, keys: list[str]) -> None:
    """One row for each of `keys` again."""
    counts = sa.table(table, *(sa.column(name) for name in [*keys, "count"]))
    columns = [counts.c[key] for key in keys]
    sums = sa.select(*columns, sa.func.sum(counts.c.count).label("count")).group_by(*columns)
    rows = op.get_bind().execute(sums).mappings().all()
    op.execute(sa.delete(counts))
    op.drop_constraint(f"{table}_pkey", table, type_="primary")
    for column in [*TRAITS, "unique_count"]:
        op.drop_column(table, column)
    op.create_primary_key(f"{table}_pkey", table, keys)
    if rows:
        op.get_bind().execute(sa.insert(counts), [dict(row) for row in rows])
