"""Count wrong passwords, and store where a leaked API token was found"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "password_failures",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_try_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("key", name=op.f("password_failures_pkey")),
    )
    op.create_index(op.f("password_failures_failed_at_idx"), "password_failures", ["failed_at"], unique=False)
    op.add_column("api_tokens", sa.Column("reported_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("api_tokens", sa.Column("reported_url", sa.Text(), server_default="", nullable=False))
    op.add_column("api_tokens", sa.Column("reported_source", sa.Text(), server_default="", nullable=False))


def downgrade() -> None:
    op.drop_column("api_tokens", "reported_source")
    op.drop_column("api_tokens", "reported_url")
    op.drop_column("api_tokens", "reported_at")
    op.drop_index(op.f("password_failures_failed_at_idx"), table_name="password_failures")
    op.drop_table("password_failures")
