"""Count the clients of each package per day"""

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision = "0032"


def upgrade() -> None:
    op.create_table(
        "package_clients",
        sa.Column("package_id", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("clients", sa.BigInteger(), nullable=False),
        sa.Column("is_estimate", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.ForeignKeyConstraint(["package_id"], ["packages.id"], name=op.f("package_clients_package_id_fkey")),
        sa.PrimaryKeyConstraint("package_id", "day", name=op.f("package_clients_pkey")),
    )
    op.create_table(
        "day_clients",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("package_id", sa.BigInteger(), nullable=False),
        sa.Column("client", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("day", "package_id", "client", name=op.f("day_clients_pkey")),
    )
    # The consumer that counts clients begins with the first download that is kept. The one that updates the search
    # index begins here: the release has a new layout of the index, whose documents have the counts of today.
    op.execute("INSERT INTO consumers (name, seq) SELECT 'counts', max(id) FROM downloads HAVING max(id) > 0")
    # Fills the days whose single downloads are not kept any more. Each run of the job handles some packages.
    op.execute("""
        INSERT INTO jobs (kind, payload, max_attempts) SELECT 'estimate clients', '{"after": 0}', 10
        WHERE EXISTS (SELECT FROM download_days)
    """)
    op.add_column("downloads", sa.Column("address_key", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("downloads", "address_key")
    op.execute("DELETE FROM jobs WHERE kind = 'estimate clients'")
    op.execute("DELETE FROM consumers WHERE name IN ('clients', 'counts')")
    op.drop_table("day_clients")
    op.drop_table("package_clients")
