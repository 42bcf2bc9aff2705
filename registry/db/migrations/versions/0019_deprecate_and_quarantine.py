"""Describe deprecations, and put packages in quarantine"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.add_column("packages", sa.Column("deprecation_successor", sa.Text(), nullable=True))
    op.add_column("packages", sa.Column("deprecated_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("packages", sa.Column("quarantine_reason", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("packages", "quarantine_reason")
    op.drop_column("packages", "deprecated_at")
    op.drop_column("packages", "deprecation_successor")
