"""Index the columns that decide which version of a package is the latest"""

import sqlalchemy as sa
from alembic import op

from registry.db.migrations.online import create_index

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    create_index(
        "package_versions_choice_idx",
        "package_versions",
        ["package_id", "yanked", "is_prerelease", sa.text("sort_key DESC")],
        postgresql_where=sa.text("deleted_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_index("package_versions_choice_idx", table_name="package_versions")
