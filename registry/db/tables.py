"""Every table. Constraints have names, since the code derives named errors from them."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, INET, JSONB, TSVECTOR

metadata = sa.MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_name)s_key",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "ix": "%(table_name)s_%(column_0_name)s_idx",
    }
)


def _now(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now())


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, server_default="")


def _traits(*, primary_key: bool = False) -> list[sa.Column[str]]:
    """Columns that downloads are grouped by, in addition to version and day. Each has few values; "" means unknown."""
    names = ("kind", "client", "system", "country")
    return [sa.Column(name, sa.Text, nullable=False, server_default="", primary_key=primary_key) for name in names]


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
    _now("created_at"),
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
    _now("created_at"),
    sa.Column("last_used_at", sa.DateTime(timezone=True)),
    # When somebody reported the token as leaked, which ended it.
    sa.Column("reported_at", sa.DateTime(timezone=True)),
    _text("reported_url"),
    _text("reported_source"),
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

packages = sa.Table(
    "packages",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    # Sorted by bytes, whatever the locale of the database.
    sa.Column("name", sa.Text(collation="C"), nullable=False, unique=True),
    sa.Column("similarity_key", sa.Text, nullable=False, unique=True),
    # The columns up to `search_vector` are copied from the latest version by registry.packages.store.refresh().
    _text("description"),
    _text("author"),
    _text("license"),
    _text("homepage"),
    _text("repository"),
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
    _now("created_at"),
    _now("updated_at"),
)
sa.Index("packages_search_vector_idx", packages.c.search_vector, postgresql_using="gin")
_SHOWN = packages.c.latest_version_id.is_not(None)
sa.Index("packages_downloads_idx", packages.c.download_count.desc(), packages.c.name, postgresql_where=_SHOWN)
sa.Index("packages_updated_idx", packages.c.updated_at.desc(), packages.c.name, postgresql_where=_SHOWN)
sa.Index("packages_created_idx", packages.c.created_at.desc(), packages.c.name, postgresql_where=_SHOWN)
sa.Index("packages_shown_name_idx", packages.c.name, postgresql_where=_SHOWN)
sa.Index("packages_quarantined_idx", packages.c.id, postgresql_where=packages.c.quarantine_reason.is_not(None))

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
    _now("since"),
)  # fmt: skip

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
    _now("created_at"),
    sa.Column("last_used_at", sa.DateTime(timezone=True)),
    sa.CheckConstraint("(package_id IS NULL) <> (pending_name IS NULL)", "publishers_package_check"),
)  # fmt: skip

# ID tokens that were exchanged. Each counts once.
used_id_tokens = sa.Table(
    "used_id_tokens",
    metadata,
    # SHA-256 of issuer and jti.
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False, index=True),
)

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
    _now("created_at"),
    # NULL: no admin has closed the report.
    sa.Column("closed_at", sa.DateTime(timezone=True)),
)  # fmt: skip

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
    _now("created_at"),
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
    _text("description"),
    _text("author"),
    _text("license"),
    _text("homepage"),
    _text("repository"),
    _text("readme"),
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
    _text("yank_reason"),
    _now("published_at"),
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
sa.Index("package_versions_tarball_path_idx", package_versions.c.tarball_path)
sa.Index(
    "package_versions_deleted_idx",
    package_versions.c.deleted_at,
    postgresql_where=sa.and_(package_versions.c.deleted_at.is_not(None), package_versions.c.swept_at.is_(None)),
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

# One row for each download and for each refused one (status 400 or higher, no version). Each month has a partition,
# which is created when it is needed. The ids are in the order of commits: see registry/downloads/store.py.
_download_ids = sa.Sequence("downloads_id_seq", metadata=metadata)
downloads = sa.Table(
    "downloads",
    metadata,
    sa.Column("id", sa.BigInteger, _download_ids, server_default=_download_ids.next_value(), primary_key=True),
    sa.Column("downloaded_at", sa.DateTime(timezone=True), primary_key=True),
    sa.Column("package_version_id", sa.BigInteger, sa.ForeignKey("package_versions.id")),
    # What a refused request asked for.
    sa.Column("package", sa.Text),
    sa.Column("version", sa.Text),
    sa.Column("ip_address", INET),
    _text("user_agent"),
    # Distinguishes the clients of one day. The same client has another hash on another day.
    _text("client_hash"),
    sa.Column("status", sa.SmallInteger, nullable=False, server_default="200"),
    sa.Column("bytes", sa.BigInteger, nullable=False, server_default="0"),
    # Whether it is the first download of this version by this client in this minute.
    sa.Column("is_unique", sa.Boolean, nullable=False, server_default=sa.false()),
    *_traits(),
    _text("rule"),
    postgresql_partition_by="RANGE (downloaded_at)",
)
sa.Index("downloads_client_idx", downloads.c.package_version_id, downloads.c.client_hash, downloads.c.downloaded_at)

download_days = sa.Table(
    "download_days",
    metadata,
    sa.Column("package_id", sa.BigInteger, sa.ForeignKey("packages.id"), primary_key=True),
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("package_version_id", sa.BigInteger, sa.ForeignKey("package_versions.id"), primary_key=True),
    *_traits(primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
    sa.Column("unique_count", sa.BigInteger, nullable=False, server_default="0"),
)

# Each batch of downloads inserts its id here. A batch that is sent again after an unclear commit is not counted twice.
download_batches = sa.Table(
    "download_batches",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now(), index=True),
)

registry_days = sa.Table(
    "registry_days",
    metadata,
    sa.Column("day", sa.Date, primary_key=True),
    *_traits(primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
    sa.Column("unique_count", sa.BigInteger, nullable=False, server_default="0"),
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

events = sa.Table(
    "events",
    metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("package_id", sa.BigInteger, sa.ForeignKey("packages.id"), index=True),
    sa.Column("package", sa.Text, nullable=False),
    sa.Column("version", sa.Text),
    sa.Column("actor_id", sa.BigInteger, sa.ForeignKey("users.id")),
    sa.Column("data", JSONB, nullable=False),
    _now("created_at"),
    # What changed: a package (whose id is package_id), a user, a token.
    sa.Column("subject_type", sa.Text, nullable=False, server_default="package"),
    sa.Column("subject_id", sa.BigInteger),
)

consumers = sa.Table(
    "consumers",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
    _now("updated_at"),
    # Why the last batch failed. It counts only while `failed_at` is after `updated_at`.
    sa.Column("failure", sa.Text),
    sa.Column("failed_at", sa.DateTime(timezone=True)),
)

# Background jobs; see registry/jobs/queue.py.
jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    # Two live jobs of the same kind never have the same key.
    sa.Column("key", sa.Text),
    sa.Column("payload", JSONB, nullable=False, server_default="{}"),
    sa.Column(
        "state",
        sa.Text,
        sa.CheckConstraint("state IN ('queued', 'running', 'dead')", "jobs_state_check"),
        nullable=False,
        server_default="queued",
    ),
    # When the job may be leased. For a running job this is the end of its lease.
    _now("run_at"),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    # NULL: a periodic job, which is retried without limit.
    sa.Column("max_attempts", sa.Integer),
    sa.Column("lease", sa.Uuid),
    _text("leased_by"),
    _text("last_error"),
    # When a periodic job last succeeded.
    sa.Column("finished_at", sa.DateTime(timezone=True)),
    _now("created_at"),
    _now("updated_at"),
)
_LIVE = jobs.c.state != "dead"
sa.Index("jobs_key_idx", jobs.c.kind, jobs.c.key, unique=True, postgresql_where=sa.and_(jobs.c.key.is_not(None), _LIVE))
sa.Index("jobs_due_idx", jobs.c.kind, jobs.c.run_at, postgresql_where=_LIVE)

# Who did what; see registry/events/audit.py. A trigger refuses changes (migration 0013). The ids have no foreign keys,
# since an entry outlives what it names.
audit_entries = sa.Table(
    "audit_entries",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now(), index=True),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("actor_id", sa.BigInteger),
    sa.Column("token_id", sa.BigInteger),
    _text("token_name"),
    sa.Column("publisher", JSONB),
    sa.Column("ip", INET),
    _text("user_agent"),
    # The user whom the act is about, such as the one whose login failed.
    sa.Column("account_id", sa.BigInteger),
    sa.Column("package_id", sa.BigInteger),
    sa.Column("version", sa.Text),
    sa.Column("details", JSONB, nullable=False),
)
for _of in ("package_id", "account_id", "actor_id"):
    sa.Index(f"audit_entries_{_of}_idx", audit_entries.c[_of], audit_entries.c.id.desc())

# Documents for dashboards that Elasticsearch refused for good. `at` decides in which monthly index each belongs.
dashboard_failures = sa.Table(
    "dashboard_failures",
    metadata,
    sa.Column("document", sa.Text, primary_key=True),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    _now("failed_at"),
)

index_failures = sa.Table(
    "index_failures",
    metadata,
    sa.Column("document", sa.Text, primary_key=True),
    sa.Column("package", sa.Text, nullable=False, index=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    _now("failed_at"),
)
