"""Links in mails."""

import sqlalchemy as sa

from registry.db.tables.base import metadata

# The tokens in links of mails. They are kept for a day after they are created, because they count as sent mails.
mail_tokens = sa.Table(
    "mail_tokens",
    metadata,
    # SHA-256 in hex.
    sa.Column("hash", sa.Text, primary_key=True),
    sa.Column(
        "purpose",
        sa.Text,
        sa.CheckConstraint("purpose IN ('verify', 'reset')", "mail_tokens_purpose_check"),
        nullable=False,
    ),
    sa.Column("user_id", sa.BigInteger, sa.ForeignKey("users.id"), nullable=False, index=True),
    # Where it was sent. It works only while this is the user's address.
    sa.Column("email", sa.Text, nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now(), index=True),
    sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("used_at", sa.DateTime(timezone=True)),
)
sa.Index("mail_tokens_email_idx", sa.func.lower(mail_tokens.c.email))
