"""Packages, their versions and owners, and what users do with them."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TSVECTOR

from registry.db.tables.base import metadata, now, text

packages = sa.Table(
    "packages",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    # Sorted by bytes, whatever the locale of the database.
    sa.Column("name", sa.Text(collation="C"), nullable=False, unique=True),
    sa.Column("similarity_key", sa.Text, nullable=False, unique=True),
    # The columns up to `search_vector` are copied from the latest version by registry.packages.store.refresh().
    text("description"),
    text("author"),
    text("license"),
    text("homepage"),
    text("repository"),
    sa.Column("keywords", ARRAY(sa.Text), nullable=False, server_default="{}"),
    sa.Column("search_vector", TSVECTOR),
    # NULL: the package is hidden, because it has no version or is in quarantine.
    sa.Column("latest_version_id", sa.BigInteger),
    sa.Column("owner_id", sa.BigInteger, sa.ForeignKey("users.id"), nullable=False, index=True),
    # NULL: the package is not deprecated. Otherwise a text for its users.
    sa.Column("deprecated", sa.Text),
    # The package to use instead, if there is one. Both columns only count while the package is deprecated.
    sa.Column("deprecation_successor", sa.Text),
    sa.Column("deprecated_at", sa.DateTime(timezone=True)),
    # NULL: the package is not in quarantine. Otherwise `latest_version_id` is NULL as well.
    sa.Column("quarantine_reason", sa.Text),
    sa.Column("download_count", sa.BigInteger, nullable=False, server_default="0"),
    now("created_at"),
    now("updated_at"),
)
sa.Index("packages_search_vector_idx", packages.c.search_vector, postgresql_using="gin")
_SHOWN = packages.c.latest_version_id.is_not(None)
sa.Index("packages_downloads_idx", packages.c.download_count.desc(), packages.c.name, postgresql_where=_SHOWN)
sa.Index("packages_updated_idx", packages.c.updated_at.desc(), packages.c.name, postgresql_where=_SHOWN)
sa.Index("packages_created_idx", packages.c.created_at.desc(), packages.c.name, postgresql_where=_SHOWN)
sa.Index("packages_shown_name_idx", packages.c.name, postgresql_where=_SHOWN)
sa.Index("packages_quarantined_idx", packages.c.id, postgresql_where=packages.c.quarantine_reason.is_not(None))

# The lexemes by which PostgreSQL finds a package. The consumer of registry.search.fallback.consumer writes them.
package_words = sa.Table(
    "package_words",
    metadata,
    # A foreign key would lock rows of `packages`, and publishes would wait for it. These rows are never deleted.
    sa.Column("package_id", sa.BigInteger, primary_key=True, autoincrement=False),
    # They describe the package as it was after this event.
    sa.Column("seq", sa.BigInteger, nullable=False),
    # registry.search.fallback.lexemes.ANALYSIS when they were written.
    sa.Column("analysis", sa.SmallInteger, nullable=False),
    sa.Column("words", TSVECTOR, nullable=False),
)
sa.Index("package_words_analysis_idx", package_words.c.analysis, package_words.c.package_id)
sa.Index("package_words_words_idx", package_words.c.words, postgresql_using="gin")

# Who may change a package. A trigger on `packages` adds the first owner (migration 0007).
package_owners = sa.Table(
    "package_owners",
    metadata,
    sa.Column("package_id", sa.BigInteger, sa.ForeignKey("packages.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("user_id", sa.BigInteger, sa.ForeignKey("users.id"), primary_key=True, index=True),
    sa.Column(
        "role", sa.Text, sa.CheckConstraint("role IN ('owner', 'maintainer')", "package_owners_role_check"),
        nullable=False,
    ),
    now("since"),
)  # fmt: skip

# What users report to the admins, such as malware.
reports = sa.Table(
    "reports",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("package_id", sa.BigInteger, sa.ForeignKey("packages.id"), nullable=False, index=True),
    sa.Column("user_id", sa.BigInteger, sa.ForeignKey("users.id"), nullable=False),
    sa.Column(
        "kind", sa.Text, sa.CheckConstraint("kind IN ('malware', 'spam', 'other')", "reports_kind_check"),
        nullable=False,
    ),
    sa.Column("text", sa.Text, nullable=False),
    now("created_at"),
    # NULL: no admin has closed the report.
    sa.Column("closed_at", sa.DateTime(timezone=True)),
)  # fmt: skip

# Names that admins keep from being published, in addition to those of registry/package_format/names.py.
reserved_names = sa.Table(
    "reserved_names",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("similarity_key", sa.Text, nullable=False, unique=True),
    text("reason"),
    sa.Column("user_id", sa.BigInteger, sa.ForeignKey("users.id"), nullable=False),
    now("created_at"),
)

# Open invitations. One that ends, for whatever reason, is deleted; the audit log remembers it.
invitations = sa.Table(
    "invitations",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("package_id", sa.BigInteger, sa.ForeignKey("packages.id"), nullable=False, index=True),
    # Either a user or an address is invited.
    sa.Column("user_id", sa.BigInteger, sa.ForeignKey("users.id"), index=True),
    sa.Column("email", sa.Text),
    sa.Column(
        "role", sa.Text, sa.CheckConstraint("role IN ('owner', 'maintainer')", "invitations_role_check"), nullable=False
    ),
    # Whether accepting it removes the former owners.
    sa.Column("is_transfer", sa.Boolean, nullable=False),
    sa.Column("inviter_id", sa.BigInteger, sa.ForeignKey("users.id"), nullable=False, index=True),
    now("created_at"),
    sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
    # When the invited user was told by mail.
    sa.Column("mailed_at", sa.DateTime(timezone=True)),
    sa.CheckConstraint("(user_id IS NULL) <> (email IS NULL)", "invitations_invited_check"),
)
sa.Index("invitations_email_idx", sa.func.lower(invitations.c.email))

package_versions = sa.Table(
    "package_versions",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("package_id", sa.BigInteger, sa.ForeignKey("packages.id"), nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    # The version without build metadata. Two versions that differ only in it count as one.
    sa.Column("canonical", sa.Text, nullable=False),
    # Sorted by bytes, the keys are in the order of SemVer precedence.
    sa.Column("sort_key", sa.Text(collation="C"), nullable=False),
    sa.Column("is_prerelease", sa.Boolean, nullable=False),
    text("description"),
    text("author"),
    text("license"),
    text("homepage"),
    text("repository"),
    text("readme"),
    # Only releases before 1.1 write this column. It holds the manifest if manifest_text is NULL.
    sa.Column("manifest", JSONB, nullable=False, server_default="{}"),
    # synapse.json as it was published.
    sa.Column("manifest_text", sa.Text),
    sa.Column("dependencies_json", JSONB, nullable=False),
    sa.Column("keywords_json", JSONB, nullable=False),
    sa.Column("checksum", sa.Text, nullable=False),
    sa.Column("tarball_path", sa.Text, nullable=False),
    sa.Column("tarball_size", sa.BigInteger, nullable=False),
    sa.Column("download_count", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("yanked", sa.Boolean, nullable=False, server_default=sa.false()),
    text("yank_reason"),
    now("published_at"),
    sa.Column("published_by", sa.BigInteger, sa.ForeignKey("users.id"), nullable=False),
    # Which CI job published it; see registry/publishers/matching.py. NULL for a publish by a user.
    sa.Column("provenance", JSONB),
    # A deleted version keeps its row, so that its number is never used again. The sweep removes the tarball and sets
    # swept_at.
    sa.Column("deleted_at", sa.DateTime(timezone=True)),
    sa.Column("swept_at", sa.DateTime(timezone=True)),
    sa.UniqueConstraint("package_id", "canonical", name="package_versions_canonical_key"),
)
sa.Index("package_versions_order_idx", package_versions.c.package_id, package_versions.c.sort_key)

# The order in which the latest version is chosen.
sa.Index(
    "package_versions_choice_idx",
    package_versions.c.package_id,
    package_versions.c.yanked,
    package_versions.c.is_prerelease,
    package_versions.c.sort_key.desc(),
    postgresql_where=package_versions.c.deleted_at.is_(None),
)
sa.Index(
    "package_versions_published_idx",
    package_versions.c.published_at.desc(),
    package_versions.c.id.desc(),
    postgresql_where=package_versions.c.deleted_at.is_(None),
)
sa.Index("package_versions_tarball_path_idx", package_versions.c.tarball_path)
sa.Index(
    "package_versions_deleted_idx",
    package_versions.c.deleted_at,
    postgresql_where=sa.and_(package_versions.c.deleted_at.is_not(None), package_versions.c.swept_at.is_(None)),
)

# Which packages depend on which, by their latest versions. Hidden packages are left out. Triggers on `packages` update
# it (migration 0031).
dependents = sa.Table(
    "dependents",
    metadata,
    # The `similarity_key` of the name in the manifest, whether or not there is such a package.
    sa.Column("dependency", sa.Text(collation="C"), primary_key=True),
    # The name of the package that depends on it; `package_id` is its id.
    sa.Column("dependent", sa.Text(collation="C"), primary_key=True),
    sa.Column(
        "package_id", sa.BigInteger, sa.ForeignKey("packages.id", ondelete="CASCADE"), nullable=False, index=True
    ),
    sa.Column("range", sa.Text, nullable=False),
)

# The numbers of visible packages and of versions that are not deleted: the sums of all slots. Triggers update them
# (migration 0003).
totals = sa.Table(
    "totals",
    metadata,
    sa.Column("slot", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("packages", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("versions", sa.BigInteger, nullable=False, server_default="0"),
)

idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("user_id", sa.BigInteger, sa.ForeignKey("users.id"), primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("answer", JSONB, nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now(), index=True),
)
