"""Collect reports of packages"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.create_table(
        "reports",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("package_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('malware', 'spam', 'other')", name="reports_kind_check"),
        sa.ForeignKeyConstraint(["package_id"], ["packages.id"], name="reports_package_id_fkey"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="reports_user_id_fkey"),
        sa.PrimaryKeyConstraint("id", name="reports_pkey"),
    )
    op.create_index("reports_package_id_idx", "reports", ["package_id"])


def downgrade() -> None:
    op.drop_table("reports")
