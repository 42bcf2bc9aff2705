"""Trusted publishers: CI jobs that publish without a stored token."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from registry.db.tables.base import metadata, now

# CI workflows that may publish a package without a stored token.
publishers = sa.Table(
    "publishers",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    # A pending publisher has the name of a package that doesn't exist yet. The first publish sets the package.
    sa.Column("package_id", sa.BigInteger, sa.ForeignKey("packages.id"), index=True),
    sa.Column("pending_name", sa.Text, index=True),
    # Who added it. Until there is a package, it publishes for this user.
    sa.Column("user_id", sa.BigInteger, sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column(
        "kind", sa.Text, sa.CheckConstraint("kind IN ('github', 'gitlab', 'oidc')", "publishers_kind_check"),
        nullable=False,
    ),
    sa.Column("issuer", sa.Text, nullable=False),
    # The values that the claims of an ID token must have.
    sa.Column("wanted", JSONB, nullable=False),
    # The numbers of the repository and of its owner, bound at first use.
    sa.Column("repository_id", sa.Text),
    sa.Column("repository_owner_id", sa.Text),
    now("created_at"),
    sa.Column("last_used_at", sa.DateTime(timezone=True)),
    sa.CheckConstraint("(package_id IS NULL) <> (pending_name IS NULL)", "publishers_package_check"),
)  # fmt: skip

# ID tokens that were exchanged. Each works once.
used_id_tokens = sa.Table(
    "used_id_tokens",
    metadata,
    # SHA-256 of issuer and jti.
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False, index=True),
)
