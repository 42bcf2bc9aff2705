"""Users, their credentials, and the failures that delay logins."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from registry.db.tables.base import metadata, now, text

users = sa.Table(
    "users",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("username", sa.Text, nullable=False),
    sa.Column("email", sa.Text),
    sa.Column("password_hash", sa.Text, nullable=False),
    sa.Column("role", sa.Text, sa.CheckConstraint("role IN ('user', 'admin')", "users_role_check"), nullable=False),
    # A password change increments it, which ends every token that was issued before.
    sa.Column("credentials_version", sa.Integer, nullable=False, server_default="1"),
    sa.Column("is_active", sa.Boolean, nullable=False, server_default=sa.true()),
    now("created_at"),
    # When the account ended. The row stays, so that its name is never given to anybody else.
    sa.Column("deleted_at", sa.DateTime(timezone=True)),
    sa.Column("email_verified_at", sa.DateTime(timezone=True)),
)
sa.Index("users_username_key", sa.func.lower(users.c.username), unique=True)
sa.Index("users_email_key", sa.func.lower(users.c.email), unique=True)

revoked_tokens = sa.Table(
    "revoked_tokens",
    metadata,
    sa.Column("jti", sa.Text, primary_key=True),
    sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
)

api_tokens = sa.Table(
    "api_tokens",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("user_id", sa.BigInteger, sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False, unique=True),
    sa.Column("scopes", ARRAY(sa.Text), nullable=False),
    # NULL: all packages of the user.
    sa.Column("packages", ARRAY(sa.Text)),
    sa.Column("expires_at", sa.DateTime(timezone=True)),
    now("created_at"),
    sa.Column("last_used_at", sa.DateTime(timezone=True)),
    # When somebody reported the token as leaked, which ended it.
    sa.Column("reported_at", sa.DateTime(timezone=True)),
    text("reported_url"),
    text("reported_source"),
    # The trusted publisher for which the token was made, and what its ID token said about the origin of versions.
    sa.Column("publisher_id", sa.BigInteger, sa.ForeignKey("publishers.id", ondelete="CASCADE"), index=True),
    sa.Column("publisher", JSONB),
    # Whether its user was told of its first publish. Tokens that are older than this column have it set.
    sa.Column("has_published", sa.Boolean, nullable=False, server_default=sa.false()),
)

password_failures = sa.Table(
    "password_failures",
    metadata,
    # A keyed hash of an account's name, a signed-in user or a client's address.
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("failed_at", sa.DateTime(timezone=True), nullable=False, index=True),
    # NULL: there were too few failures to delay the next attempt.
    sa.Column("next_try_at", sa.DateTime(timezone=True)),
)

# Networks from which accounts signed in. Failed logins from there are counted apart from those of strangers.
sign_in_networks = sa.Table(
    "sign_in_networks",
    metadata,
    # Keyed hashes: of the account's name together with the network, and of the name alone.
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("account", sa.Text, nullable=False, index=True),
    sa.Column("signed_in_at", sa.DateTime(timezone=True), nullable=False, index=True),
)
