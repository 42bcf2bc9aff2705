"""Send mail: tokens in links, invitations that were mailed, first publishes of tokens"""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    op.create_table(
        "mail_tokens",
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("purpose IN ('verify', 'reset')", name="mail_tokens_purpose_check"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="mail_tokens_user_id_fkey"),
        sa.PrimaryKeyConstraint("hash", name="mail_tokens_pkey"),
    )
    op.create_index("mail_tokens_user_id_idx", "mail_tokens", ["user_id"])
    op.create_index("mail_tokens_created_at_idx", "mail_tokens", ["created_at"])
    op.create_index("mail_tokens_email_idx", "mail_tokens", [sa.text("lower(email)")])
    op.add_column("invitations", sa.Column("mailed_at", sa.DateTime(timezone=True), nullable=True))
    # Tokens that exist already may have published: nobody is told of them.
    op.add_column("api_tokens", sa.Column("has_published", sa.Boolean(), server_default=sa.true(), nullable=False))
    op.alter_column("api_tokens", "has_published", server_default=sa.false())


def downgrade() -> None:
    op.drop_column("api_tokens", "has_published")
    op.drop_column("invitations", "mailed_at")
    op.drop_table("mail_tokens")
