"""Sessions and second factors."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, INET

from registry.db.tables.base import metadata, now

# The logins that a user sees and can end. Whether a token is valid is decided by `revoked_tokens` and
# `users.credentials_version`, which older releases know as well.
sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("jti", sa.Text, nullable=False, unique=True),
    sa.Column("user_id", sa.BigInteger, sa.ForeignKey("users.id"), nullable=False, index=True),
    # That of the user at the login. The session is over when the user's is higher.
    sa.Column("credentials_version", sa.Integer, nullable=False),
    now("created_at"),
    now("last_used_at"),
    sa.Column("ip", INET),
    sa.Column("user_agent", sa.Text, nullable=False, server_default=""),
    sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False, index=True),
    # When the user of a browser's session last proved who they are. NULL for the session of an API login.
    sa.Column("confirmed_at", sa.DateTime(timezone=True)),
)

# Authenticator apps (RFC 6238). A secret without `confirmed_at` is not a factor yet.
totp_secrets = sa.Table(
    "totp_secrets",
    metadata,
    sa.Column("user_id", sa.BigInteger, sa.ForeignKey("users.id"), primary_key=True),
    # Encrypted by registry/sealing.py.
    sa.Column("sealed", sa.Text, nullable=False),
    now("created_at"),
    sa.Column("confirmed_at", sa.DateTime(timezone=True)),
)

# The time steps whose code was used. A code is good for a minute and a half, so rows are only needed that long.
used_totp_steps = sa.Table(
    "used_totp_steps",
    metadata,
    sa.Column("user_id", sa.BigInteger, sa.ForeignKey("users.id"), primary_key=True),
    sa.Column("step", sa.BigInteger, primary_key=True),
)

# SHA-256 of recovery codes. A code that was used is deleted.
recovery_codes = sa.Table(
    "recovery_codes",
    metadata,
    sa.Column("user_id", sa.BigInteger, sa.ForeignKey("users.id"), primary_key=True),
    sa.Column("hash", sa.Text, primary_key=True),
)

passkeys = sa.Table(
    "passkeys",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("user_id", sa.BigInteger, sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column("credential_id", sa.LargeBinary, nullable=False, unique=True),
    # COSE_Key (RFC 9052).
    sa.Column("public_key", sa.LargeBinary, nullable=False),
    sa.Column("sign_count", sa.BigInteger, nullable=False),
    sa.Column("transports", ARRAY(sa.Text), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    now("created_at"),
    sa.Column("last_used_at", sa.DateTime(timezone=True)),
)

# Logins whose password was right, and that wait for a second factor.
login_challenges = sa.Table(
    "login_challenges",
    metadata,
    # SHA-256 of the challenge.
    sa.Column("hash", sa.Text, primary_key=True),
    sa.Column("user_id", sa.BigInteger, sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column("credentials_version", sa.Integer, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False, index=True),
)

# Challenges of WebAuthn that were answered. Each is answered once.
spent_challenges = sa.Table(
    "spent_challenges",
    metadata,
    sa.Column("hash", sa.Text, primary_key=True),
    sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False, index=True),
)
