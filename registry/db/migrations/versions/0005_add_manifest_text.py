"""Keep manifests as the text that was published"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("package_versions", sa.Column("manifest_text", sa.Text(), nullable=True))
    # The release before this one reads the JSONB column, and shows an empty object for what this release publishes.
    op.alter_column(
        "package_versions",
        "manifest",
        existing_type=postgresql.JSONB(astext_type=sa.Text()),
        existing_nullable=False,
        server_default="{}",
    )


def downgrade() -> None:
    op.alter_column(
        "package_versions",
        "manifest",
        existing_type=postgresql.JSONB(astext_type=sa.Text()),
        existing_nullable=False,
        server_default=None,
    )
    op.drop_column("package_versions", "manifest_text")
