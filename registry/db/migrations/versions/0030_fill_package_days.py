"""Count the downloads per package and day of the past, and index versions by time"""

import sqlalchemy as sa
from alembic import op

from registry.db.lock_numbers import ADD_DOWNLOADS
from registry.db.migrations.online import create_index

revision = "0030"
down_revision = "0029"

STEP = 1000
FILL = """
DO $$ BEGIN
    PERFORM pg_advisory_xact_lock(%(lock)s);
    INSERT INTO package_days (package_id, day, count)
    SELECT package_id, day, sum(count) FROM download_days
    WHERE package_id >= %(first)s AND package_id < %(after)s GROUP BY 1, 2
    ON CONFLICT (package_id, day) DO UPDATE SET count = excluded.count WHERE package_days.count <> excluded.count;
END $$
"""
_LAST = sa.text("SELECT coalesce(max(id), 0) FROM packages")


def upgrade() -> None:
    # Each step is a transaction of its own and sets the counts of STEP package ids. All writers of daily counts hold
    # the lock, so nothing is counted between the sum and its commit. A step that is repeated changes nothing.
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        connection.execute(sa.text("SET lock_timeout = 0"))
        for first in range(0, int(connection.execute(_LAST).scalar_one()) + 1, STEP):
            op.execute(FILL % {"lock": ADD_DOWNLOADS, "first": first, "after": first + STEP})
    create_index(
        "package_versions_published_idx", "package_versions", [sa.text("published_at DESC"), sa.text("id DESC")],
        postgresql_where=sa.text("deleted_at IS NULL"),
    )  # fmt: skip


def downgrade() -> None:
    op.drop_index("package_versions_published_idx", table_name="package_versions")
