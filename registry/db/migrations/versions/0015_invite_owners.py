"""Invite users to own or maintain a package"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.create_table(
        "invitations",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("package_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("is_transfer", sa.Boolean(), nullable=False),
        sa.Column("inviter_id", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("role IN ('owner', 'maintainer')", name="invitations_role_check"),
        sa.CheckConstraint("(user_id IS NULL) <> (email IS NULL)", name="invitations_invited_check"),
        sa.ForeignKeyConstraint(["package_id"], ["packages.id"], name="invitations_package_id_fkey"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="invitations_user_id_fkey"),
        sa.ForeignKeyConstraint(["inviter_id"], ["users.id"], name="invitations_inviter_id_fkey"),
        sa.PrimaryKeyConstraint("id", name="invitations_pkey"),
    )
    op.create_index("invitations_package_id_idx", "invitations", ["package_id"])
    op.create_index("invitations_user_id_idx", "invitations", ["user_id"])
    op.create_index("invitations_inviter_id_idx", "invitations", ["inviter_id"])
    op.create_index("invitations_email_idx", "invitations", [sa.text("lower(email)")])


def downgrade() -> None:
    op.drop_table("invitations")
