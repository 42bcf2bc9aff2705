"""Downloads, their sums by day, and documents that the dashboards lost."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import INET

from registry.db.tables.base import metadata, now, text


def _traits(*, primary_key: bool = False) -> list[sa.Column[str]]:
    """Columns that downloads are grouped by, in addition to version and day. Each has few values; "" means unknown."""
    names = ("kind", "client", "system", "country")
    return [sa.Column(name, sa.Text, nullable=False, server_default="", primary_key=primary_key) for name in names]


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
    text("user_agent"),
    # Distinguishes the clients of one day. The same client has another hash on another day.
    text("client_hash"),
    # Distinguishes the client addresses of one day, whatever User-Agent they send. Unknown for older downloads.
    sa.Column("address_key", sa.BigInteger),
    sa.Column("status", sa.SmallInteger, nullable=False, server_default="200"),
    sa.Column("bytes", sa.BigInteger, nullable=False, server_default="0"),
    # Whether it is the first download of this version by this client in this minute.
    sa.Column("is_unique", sa.Boolean, nullable=False, server_default=sa.false()),
    *_traits(),
    text("rule"),
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

# The sums of download_days. Triggers on download_days update them (migration 0029).
package_days = sa.Table(
    "package_days",
    metadata,
    sa.Column("package_id", sa.BigInteger, sa.ForeignKey("packages.id"), nullable=False),
    sa.Column("day", sa.Date, nullable=False),
    sa.Column("count", sa.BigInteger, nullable=False),
)
# Both indices hold the count, so that PostgreSQL reads a year of many packages without reading the table.
sa.Index("package_days_key", package_days.c.package_id, package_days.c.day, unique=True, postgresql_include=["count"])
sa.Index("package_days_day_idx", package_days.c.day, postgresql_include=["package_id", "count"])

# The number of clients that downloaded a package on a day (UTC): distinct addresses, without mirrors and bots. A
# consumer counts them; see registry/downloads/clients/.
package_clients = sa.Table(
    "package_clients",
    metadata,
    sa.Column("package_id", sa.BigInteger, sa.ForeignKey("packages.id"), primary_key=True),
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("clients", sa.BigInteger, nullable=False),
    # Estimated from the daily counts. The exact number replaces it if the single downloads of the day are kept.
    sa.Column("is_estimate", sa.Boolean, nullable=False, server_default=sa.false()),
)

# The clients of the latest days, so that each is counted once a day.
day_clients = sa.Table(
    "day_clients",
    metadata,
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("package_id", sa.BigInteger, primary_key=True),
    sa.Column("client", sa.BigInteger, primary_key=True, autoincrement=False),
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

# Documents for dashboards that Elasticsearch refused for good. `at` decides in which monthly index each belongs.
dashboard_failures = sa.Table(
    "dashboard_failures",
    metadata,
    sa.Column("document", sa.Text, primary_key=True),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    now("failed_at"),
)
