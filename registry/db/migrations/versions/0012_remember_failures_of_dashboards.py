"""Remember why a consumer fails and which documents dashboards lack"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.add_column("consumers", sa.Column("failure", sa.Text(), nullable=True))
    op.add_column("consumers", sa.Column("failed_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "dashboard_failures",
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("failed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("document", name="dashboard_failures_pkey"),
    )


def downgrade() -> None:
    op.drop_table("dashboard_failures")
    op.drop_column("consumers", "failed_at")
    op.drop_column("consumers", "failure")
