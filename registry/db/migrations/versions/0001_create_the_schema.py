"""Create the schema"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "consumers",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("consumers_pkey")),
    )
    op.create_table(
        "download_batches",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("download_batches_pkey")),
    )
    op.create_index(op.f("download_batches_created_at_idx"), "download_batches", ["created_at"], unique=False)
    op.create_table(
        "index_failures",
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("package", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("failed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("document", name=op.f("index_failures_pkey")),
    )
    op.create_index(op.f("index_failures_package_idx"), "index_failures", ["package"], unique=False)
    op.create_table(
        "registry_days",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("kind", sa.Text(), server_default="", nullable=False),
        sa.Column("client", sa.Text(), server_default="", nullable=False),
        sa.Column("system", sa.Text(), server_default="", nullable=False),
        sa.Column("country", sa.Text(), server_default="", nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("unique_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("day", "kind", "client", "system", "country", name=op.f("registry_days_pkey")),
    )
    op.create_table(
        "revoked_tokens",
        sa.Column("jti", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("jti", name=op.f("revoked_tokens_pkey")),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("username", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("credentials_version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("users_pkey")),
    )
    op.create_index("users_email_key", "users", [sa.literal_column("lower(email)")], unique=True)
    op.create_index("users_username_key", "users", [sa.literal_column("lower(username)")], unique=True)
    op.create_table(
        "api_tokens",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("packages", postgresql.ARRAY(sa.Text()), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("api_tokens_user_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("api_tokens_pkey")),
        sa.UniqueConstraint("hash", name=op.f("api_tokens_hash_key")),
    )
    op.create_index(op.f("api_tokens_user_id_idx"), "api_tokens", ["user_id"], unique=False)
    op.create_table(
        "idempotency_keys",
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("answer", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("idempotency_keys_user_id_fkey")),
        sa.PrimaryKeyConstraint("user_id", "key", name=op.f("idempotency_keys_pkey")),
    )
    op.create_index(op.f("idempotency_keys_created_at_idx"), "idempotency_keys", ["created_at"], unique=False)
    op.create_table(
        "packages",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(collation="C"), nullable=False),
        sa.Column("similarity_key", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("author", sa.Text(), server_default="", nullable=False),
        sa.Column("license", sa.Text(), server_default="", nullable=False),
        sa.Column("homepage", sa.Text(), server_default="", nullable=False),
        sa.Column("repository", sa.Text(), server_default="", nullable=False),
        sa.Column("keywords", postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("search_vector", postgresql.TSVECTOR(), nullable=True),
        sa.Column("latest_version_id", sa.BigInteger(), nullable=True),
        sa.Column("owner_id", sa.BigInteger(), nullable=False),
        sa.Column("deprecated", sa.Text(), nullable=True),
        sa.Column("download_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("packages_owner_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("packages_pkey")),
        sa.UniqueConstraint("name", name=op.f("packages_name_key")),
        sa.UniqueConstraint("similarity_key", name=op.f("packages_similarity_key_key")),
    )
    op.create_index(
        "packages_created_idx",
        "packages",
        [sa.literal_column("created_at DESC"), "name"],
        unique=False,
        postgresql_where=sa.text("latest_version_id IS NOT NULL"),
    )
    op.create_index(
        "packages_downloads_idx",
        "packages",
        [sa.literal_column("download_count DESC"), "name"],
        unique=False,
        postgresql_where=sa.text("latest_version_id IS NOT NULL"),
    )
    op.create_index(op.f("packages_owner_id_idx"), "packages", ["owner_id"], unique=False)
    op.create_index("packages_search_vector_idx", "packages", ["search_vector"], unique=False, postgresql_using="gin")
    op.create_index(
        "packages_shown_name_idx",
        "packages",
        ["name"],
        unique=False,
        postgresql_where=sa.text("latest_version_id IS NOT NULL"),
    )
    op.create_index(
        "packages_updated_idx",
        "packages",
        [sa.literal_column("updated_at DESC"), "name"],
        unique=False,
        postgresql_where=sa.text("latest_version_id IS NOT NULL"),
    )
    op.create_table(
        "events",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("package_id", sa.BigInteger(), nullable=True),
        sa.Column("package", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("actor_id", sa.BigInteger(), nullable=True),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["actor_id"], ["users.id"], name=op.f("events_actor_id_fkey")),
        sa.ForeignKeyConstraint(["package_id"], ["packages.id"], name=op.f("events_package_id_fkey")),
        sa.PrimaryKeyConstraint("seq", name=op.f("events_pkey")),
    )
    op.create_index(op.f("events_package_id_idx"), "events", ["package_id"], unique=False)
    op.create_table(
        "package_versions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("package_id", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("canonical", sa.Text(), nullable=False),
        sa.Column("sort_key", sa.Text(collation="C"), nullable=False),
        sa.Column("is_prerelease", sa.Boolean(), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("author", sa.Text(), server_default="", nullable=False),
        sa.Column("license", sa.Text(), server_default="", nullable=False),
        sa.Column("homepage", sa.Text(), server_default="", nullable=False),
        sa.Column("repository", sa.Text(), server_default="", nullable=False),
        sa.Column("readme", sa.Text(), server_default="", nullable=False),
        sa.Column("manifest", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("dependencies_json", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("keywords_json", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("checksum", sa.Text(), nullable=False),
        sa.Column("tarball_path", sa.Text(), nullable=False),
        sa.Column("tarball_size", sa.BigInteger(), nullable=False),
        sa.Column("download_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("yanked", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("yank_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("published_by", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("swept_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["package_id"], ["packages.id"], name=op.f("package_versions_package_id_fkey")),
        sa.ForeignKeyConstraint(["published_by"], ["users.id"], name=op.f("package_versions_published_by_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("package_versions_pkey")),
        sa.UniqueConstraint("package_id", "canonical", name="package_versions_canonical_key"),
    )
    op.create_index(
        "package_versions_deleted_idx",
        "package_versions",
        ["deleted_at"],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NOT NULL AND swept_at IS NULL"),
    )
    op.create_index("package_versions_order_idx", "package_versions", ["package_id", "sort_key"], unique=False)
    op.create_index("package_versions_tarball_path_idx", "package_versions", ["tarball_path"], unique=False)
    op.create_table(
        "download_days",
        sa.Column("package_id", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("package_version_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), server_default="", nullable=False),
        sa.Column("client", sa.Text(), server_default="", nullable=False),
        sa.Column("system", sa.Text(), server_default="", nullable=False),
        sa.Column("country", sa.Text(), server_default="", nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("unique_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["package_id"], ["packages.id"], name=op.f("download_days_package_id_fkey")),
        sa.ForeignKeyConstraint(
            ["package_version_id"], ["package_versions.id"], name=op.f("download_days_package_version_id_fkey")
        ),
        sa.PrimaryKeyConstraint(
            *("package_id", "day", "package_version_id", "kind", "client", "system", "country"),
            name=op.f("download_days_pkey"),
        ),
    )
    op.execute("CREATE SEQUENCE downloads_id_seq")
    op.create_table(
        "downloads",
        sa.Column(
            "id", sa.BigInteger(), server_default=sa.text("nextval('downloads_id_seq'::regclass)"), nullable=False
        ),
        sa.Column("downloaded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("package_version_id", sa.BigInteger(), nullable=True),
        sa.Column("package", sa.Text(), nullable=True),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("ip_address", postgresql.INET(), nullable=True),
        sa.Column("user_agent", sa.Text(), server_default="", nullable=False),
        sa.Column("client_hash", sa.Text(), server_default="", nullable=False),
        sa.Column("status", sa.SmallInteger(), server_default="200", nullable=False),
        sa.Column("bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("is_unique", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("kind", sa.Text(), server_default="", nullable=False),
        sa.Column("client", sa.Text(), server_default="", nullable=False),
        sa.Column("system", sa.Text(), server_default="", nullable=False),
        sa.Column("country", sa.Text(), server_default="", nullable=False),
        sa.Column("rule", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["package_version_id"], ["package_versions.id"], name=op.f("downloads_package_version_id_fkey")
        ),
        sa.PrimaryKeyConstraint("id", "downloaded_at", name=op.f("downloads_pkey")),
        postgresql_partition_by="RANGE (downloaded_at)",
    )
    op.create_index("downloads_client_idx", "downloads", ["package_version_id", "client_hash", "downloaded_at"])


def downgrade() -> None:
    op.drop_index("downloads_client_idx", table_name="downloads")
    op.drop_table("downloads")
    op.execute("DROP SEQUENCE downloads_id_seq")
    op.drop_table("download_days")
    op.drop_index("package_versions_tarball_path_idx", table_name="package_versions")
    op.drop_index("package_versions_order_idx", table_name="package_versions")
    op.drop_index(
        "package_versions_deleted_idx",
        table_name="package_versions",
        postgresql_where=sa.text("deleted_at IS NOT NULL AND swept_at IS NULL"),
    )
    op.drop_table("package_versions")
    op.drop_index(op.f("events_package_id_idx"), table_name="events")
    op.drop_table("events")
    op.drop_index(
        "packages_updated_idx", table_name="packages", postgresql_where=sa.text("latest_version_id IS NOT NULL")
    )
    op.drop_index(
        "packages_shown_name_idx", table_name="packages", postgresql_where=sa.text("latest_version_id IS NOT NULL")
    )
    op.drop_index("packages_search_vector_idx", table_name="packages", postgresql_using="gin")
    op.drop_index(op.f("packages_owner_id_idx"), table_name="packages")
    op.drop_index(
        "packages_downloads_idx", table_name="packages", postgresql_where=sa.text("latest_version_id IS NOT NULL")
    )
    op.drop_index(
        "packages_created_idx", table_name="packages", postgresql_where=sa.text("latest_version_id IS NOT NULL")
    )
    op.drop_table("packages")
    op.drop_index(op.f("idempotency_keys_created_at_idx"), table_name="idempotency_keys")
    op.drop_table("idempotency_keys")
    op.drop_index(op.f("api_tokens_user_id_idx"), table_name="api_tokens")
    op.drop_table("api_tokens")
    op.drop_index("users_username_key", table_name="users")
    op.drop_index("users_email_key", table_name="users")
    op.drop_table("users")
    op.drop_table("revoked_tokens")
    op.drop_table("registry_days")
    op.drop_index(op.f("index_failures_package_idx"), table_name="index_failures")
    op.drop_table("index_failures")
    op.drop_index(op.f("download_batches_created_at_idx"), table_name="download_batches")
    op.drop_table("download_batches")
    op.drop_table("consumers")
