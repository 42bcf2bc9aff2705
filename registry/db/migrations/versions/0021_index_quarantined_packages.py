"""Index the packages in quarantine"""

import sqlalchemy as sa
from alembic import op

from registry.db.migrations.online import create_index

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    create_index(
        "packages_quarantined_idx", "packages", ["id"], postgresql_where=sa.text("quarantine_reason IS NOT NULL")
    )


def downgrade() -> None:
    op.drop_index("packages_quarantined_idx", table_name="packages")
