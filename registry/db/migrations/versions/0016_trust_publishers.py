"""Let CI workflows publish without a stored token"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.create_table(
        "publishers",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("package_id", sa.BigInteger(), nullable=True),
        sa.Column("pending_name", sa.Text(), nullable=True),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("wanted", JSONB(), nullable=False),
        sa.Column("repository_id", sa.Text(), nullable=True),
        sa.Column("repository_owner_id", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('github', 'gitlab', 'oidc')", name="publishers_kind_check"),
        sa.CheckConstraint("(package_id IS NULL) <> (pending_name IS NULL)", name="publishers_package_check"),
        sa.ForeignKeyConstraint(["package_id"], ["packages.id"], name="publishers_package_id_fkey"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="publishers_user_id_fkey"),
        sa.PrimaryKeyConstraint("id", name="publishers_pkey"),
    )
    op.create_index("publishers_package_id_idx", "publishers", ["package_id"])
    op.create_index("publishers_pending_name_idx", "publishers", ["pending_name"])
    op.create_index("publishers_user_id_idx", "publishers", ["user_id"])
    op.create_table(
        "used_id_tokens",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name="used_id_tokens_pkey"),
    )
    op.create_index("used_id_tokens_expires_at_idx", "used_id_tokens", ["expires_at"])
    op.add_column("package_versions", sa.Column("provenance", JSONB(), nullable=True))
    op.add_column("api_tokens", sa.Column("publisher", JSONB(), nullable=True))
    op.add_column("api_tokens", sa.Column("publisher_id", sa.BigInteger(), nullable=True))
    op.create_foreign_key(
        "api_tokens_publisher_id_fkey", "api_tokens", "publishers", ["publisher_id"], ["id"], ondelete="CASCADE"
    )


def downgrade() -> None:
    op.drop_constraint("api_tokens_publisher_id_fkey", "api_tokens")
    op.drop_column("api_tokens", "publisher_id")
    op.drop_column("api_tokens", "publisher")
    op.drop_column("package_versions", "provenance")
    op.drop_table("used_id_tokens")
    op.drop_table("publishers")
