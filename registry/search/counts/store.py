"""The SQL that finds which counts in the index are outdated."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.sql import bindparam as p

from registry.db.engine import Connection, Row, statement
from registry.db.tables import consumers, downloads, package_versions, packages
from registry.packages.status.store import NOT_QUARANTINED
from registry.search.store import CLIENTS

_position = sa.select(consumers.c.seq)
_POSITIONS = statement(
    sa.select(
        _position.where(consumers.c.name == p("consumer")).scalar_subquery().label("seq"),
        _position.where(consumers.c.name == p("counting")).scalar_subquery().label("counted"),
        sa.literal_column("(SELECT last_value FROM downloads_id_seq)").label("last"),
    )
)
_LAST = statement(sa.select(sa.func.coalesce(sa.func.max(downloads.c.id), 0)))
_window = (
    sa.select(downloads.c.id, downloads.c.package_version_id.label("version_id"))
    .where(downloads.c.id > p("after"), downloads.c.id <= p("until"))
    .order_by(downloads.c.id)
    .limit(p("count"))
    .subquery()
)
_DOWNLOADED = statement(
    sa.select(
        sa.func.max(_window.c.id),
        sa.func.count(),
        sa.func.array_agg(_window.c.version_id.distinct()).filter(_window.c.version_id.is_not(None)),
    ).select_from(_window)
)
_OF_VERSION = (
    sa.select(
        package_versions.c.id,
        packages.c.name,
        package_versions.c.version,
        package_versions.c.download_count.label("downloads"),
        packages.c.download_count.label("package_downloads"),
        CLIENTS.label("clients"),
    )
    .join(packages, packages.c.id == package_versions.c.package_id)
    .where(package_versions.c.deleted_at.is_(None), NOT_QUARANTINED)
)
_OF_VERSIONS = statement(_OF_VERSION.where(package_versions.c.id == sa.any_(p("ids", type_=sa.ARRAY(sa.BigInteger)))))
_VERSIONS_AFTER = statement(
    _OF_VERSION.where(packages.c.download_count > 0, package_versions.c.id > p("after"))
    .order_by(package_versions.c.id)
    .limit(p("count"))
)


async def positions(conn: Connection, consumer: str, counting: str) -> Row:
    """seq, the cursor of `consumer`; counted, the cursor of `counting`; last, the highest id of a download so far."""
    return await conn.one(_POSITIONS, consumer=consumer, counting=counting)


async def last_download(conn: Connection) -> int:
    """The highest id of a download; 0 if there is none."""
    return int(await conn.value(_LAST))


async def downloaded(conn: Connection, after: int, until: int, count: int) -> tuple[int, int, list[int]]:
    """Up to `count` downloads with `after` < id <= `until`, oldest first: the last id, their number, their versions.

    The last id is `after` if there are none.
    """
    [(last, found, versions)] = await conn.all(_DOWNLOADED, after=after, until=until, count=count)
    return int(last or after), int(found), list(versions or ())


async def counts_of(conn: Connection, versions: Sequence[int]) -> list[Row]:
    """name, version, downloads, package_downloads and clients of those `versions` that the index shows."""
    return await conn.all(_OF_VERSIONS, ids=list(versions))


async def counts_after(conn: Connection, after: int, count: int) -> list[Row]:
    """id and the same columns of up to `count` versions of downloaded packages, above the version id `after`, by id."""
    return await conn.all(_VERSIONS_AFTER, after=after, count=count)
