"""The SQL of the search: the rows to index, and the documents that Elasticsearch refused."""

from collections.abc import Iterable, Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql import bindparam as p

from registry.db.engine import Connection, Row, json, statement, together
from registry.db.tables import download_days, events, index_failures, package_clients, package_versions, packages
from registry.packages.status.store import DEPRECATION, NOT_QUARANTINED
from registry.search.documents import MAX_README, PACKAGES

_TEXTS = ARRAY(sa.Text)
_LIVE = package_versions.c.deleted_at.is_(None)


def _indexed(readme: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """The part of a README that is indexed. A whole one may take 512 KiB, and hundreds of rows are read at once."""
    return sa.func.left(readme, MAX_README, type_=sa.Text)


# The clients that downloaded a package, each counted once a day, with a weight that halves every HALF_LIFE days. Days
# older than a year count nothing.
HALF_LIFE = 90
YEAR = 365
_age = sa.func.greatest(sa.text("(now() AT TIME ZONE 'UTC')::date") - package_clients.c.day, 0)
_weight = sa.func.power(sa.literal(0.5, sa.Double), _age / sa.literal(float(HALF_LIFE), sa.Double))
CLIENTS = (
    sa.select(sa.func.coalesce(sa.func.sum(package_clients.c.clients * _weight), 0.0))
    .where(
        package_clients.c.package_id == packages.c.id,
        package_clients.c.day > sa.text(f"(now() AT TIME ZONE 'UTC')::date - {YEAR}"),
    )
    .scalar_subquery()
)

_latest = package_versions.alias("latest")
_sibling = package_versions.alias("sibling")
# A package is offered as long as one version of it is neither deleted nor yanked.
OFFERED = (
    sa.select(_sibling.c.id)
    .where(_sibling.c.package_id == packages.c.id, _sibling.c.deleted_at.is_(None), _sibling.c.yanked.is_(False))
    .exists()
)
# The id of such a version, or NULL. For EXISTS, PostgreSQL would hash all versions of the registry for each page of a
# rebuild; for a subquery with LIMIT it doesn't.
_AN_OFFERED = (
    sa.select(_sibling.c.id)
    .where(_sibling.c.package_id == packages.c.id, _sibling.c.deleted_at.is_(None), _sibling.c.yanked.is_(False))
    .limit(1)
    .scalar_subquery()
)
_PACKAGE = (
    sa.select(
        packages.c.id,
        packages.c.name,
        _latest.c.version,
        _latest.c.sort_key,
        _latest.c.is_prerelease,
        _AN_OFFERED.is_(None).label("yanked"),
        _latest.c.yank_reason,
        *DEPRECATION,
        packages.c.description,
        packages.c.author,
        packages.c.license,
        packages.c.homepage,
        packages.c.repository,
        _indexed(_latest.c.readme).label("readme"),
        packages.c.keywords,
        packages.c.download_count.label("downloads"),
        CLIENTS.label("clients"),
        _latest.c.published_at,
        packages.c.created_at,
        packages.c.updated_at,
    )
    .join(_latest, _latest.c.id == packages.c.latest_version_id)
    .where(_latest.c.deleted_at.is_(None), NOT_QUARANTINED)
)
_VERSION = (
    sa.select(
        package_versions.c.id,
        packages.c.name,
        package_versions.c.version,
        package_versions.c.sort_key,
        package_versions.c.is_prerelease,
        package_versions.c.yanked,
        package_versions.c.yank_reason,
        # Versions are indexed as not deprecated. Otherwise deprecating a package would mean re-indexing all of them.
        sa.literal(None, sa.Text).label("deprecated"),
        package_versions.c.description,
        package_versions.c.author,
        package_versions.c.license,
        package_versions.c.homepage,
        package_versions.c.repository,
        _indexed(package_versions.c.readme).label("readme"),
        package_versions.c.keywords_json.label("keywords"),
        package_versions.c.download_count.label("downloads"),
        CLIENTS.label("clients"),
        package_versions.c.published_at,
        package_versions.c.published_at.label("created_at"),
        package_versions.c.published_at.label("updated_at"),
    )
    .join(packages, packages.c.id == package_versions.c.package_id)
    .where(_LIVE, NOT_QUARANTINED)
)
_wanted = (
    sa.func.unnest(sa.cast(p("names"), _TEXTS), sa.cast(p("versions"), _TEXTS))
    .table_valued("name", "version")
    .render_derived()
)

_PACKAGES_NAMED = statement(_PACKAGE.where(packages.c.name == sa.any_(sa.cast(p("names"), _TEXTS))))
_SHOWN_NAMES = statement(
    _PACKAGE.with_only_columns(packages.c.name).where(packages.c.name == sa.any_(sa.cast(p("names"), _TEXTS)))
)
_PACKAGES_AFTER = statement(_PACKAGE.where(packages.c.id > p("after")).order_by(packages.c.id).limit(p("count")))
_PACKAGE_IDENTITIES_AFTER = statement(
    _PACKAGE.with_only_columns(packages.c.id, packages.c.name, _latest.c.version)
    .where(packages.c.id > p("after"))
    .order_by(packages.c.id)
    .limit(p("count"))
)
_PACKAGE_COUNT = statement(sa.select(sa.func.count()).select_from(_PACKAGE.subquery()))
_IS_WANTED = sa.and_(_wanted.c.name == packages.c.name, _wanted.c.version == package_versions.c.version)
_VERSIONS_NAMED = statement(_VERSION.join(_wanted, _IS_WANTED))
_LIVE_VERSIONS = statement(
    _VERSION.with_only_columns(packages.c.name, package_versions.c.version)
    .select_from(package_versions)
    .join(_wanted, _IS_WANTED)
)
_VERSIONS_AFTER = statement(
    _VERSION.where(package_versions.c.id > p("after")).order_by(package_versions.c.id).limit(p("count"))
)
_VERSION_IDENTITIES_AFTER = statement(
    _VERSION.with_only_columns(package_versions.c.id, packages.c.name, package_versions.c.version)
    .where(package_versions.c.id > p("after"))
    .order_by(package_versions.c.id)
    .limit(p("count"))
)
# Versions of a package in quarantine as well, whose documents must go.
_VERSIONS_OF = statement(
    sa.select(package_versions.c.id, packages.c.name, package_versions.c.version)
    .join(packages, packages.c.id == package_versions.c.package_id)
    .where(packages.c.id == p("of_package"), _LIVE, package_versions.c.id > p("after"))
    .order_by(package_versions.c.id)
    .limit(p("count"))
)
_VERSION_COUNT = statement(sa.select(sa.func.count()).select_from(_VERSION.subquery()))
_DOWNLOADED_LATELY = statement(
    sa.select(packages.c.name).where(
        packages.c.name == sa.any_(sa.cast(p("names"), _TEXTS)),
        sa.select(download_days.c.day)
        .where(download_days.c.package_id == packages.c.id, download_days.c.day >= sa.func.current_date() - 1)
        .exists(),
    )
)
_CHANGED_SINCE = statement(
    sa.select(events.c.package)
    .where(events.c.seq > p("seq"), events.c.package == sa.any_(sa.cast(p("names"), _TEXTS)))
    .distinct()
)
_STANDING = statement(
    sa.select(
        packages.c.name,
        packages.c.latest_version_id.is_not(None).label("shown"),
        packages.c.quarantine_reason.is_not(None).label("quarantined"),
        OFFERED.label("offered"),
        index_failures.c.reason.label("refusal"),
    )
    .join_from(
        packages,
        index_failures,
        index_failures.c.document == sa.literal(f"{PACKAGES}:") + packages.c.name,
        isouter=True,
    )
    .where(packages.c.similarity_key == p("key"))
)
_FAILURES = statement(
    sa.select(index_failures.c.document, index_failures.c.package, index_failures.c.reason)
    .where(index_failures.c.document > p("after"))
    .order_by(index_failures.c.document)
    .limit(p("count"))
)
_SAVE_OUTCOME = together(
    statement(sa.delete(index_failures).where(index_failures.c.document == sa.any_(sa.cast(p("succeeded"), _TEXTS)))),
    statement(
        sa.text("""
        INSERT INTO index_failures (document, package, seq, reason)
        SELECT * FROM jsonb_to_recordset(:failed) AS f (document text, package text, seq bigint, reason text)
        ON CONFLICT (document) DO UPDATE
        SET package = excluded.package, seq = excluded.seq, reason = excluded.reason, failed_at = now()
        """)
    ),
)


async def packages_named(conn: Connection, names: Iterable[str]) -> list[Row]:
    """The rows of the packages in `names` that have a live version."""
    return await conn.all(_PACKAGES_NAMED, names=list(names))


async def shown_names(conn: Connection, names: Iterable[str]) -> set[str]:
    """The subset of `names` that have a live version."""
    return {row.name for row in await conn.all(_SHOWN_NAMES, names=list(names))}


async def packages_after(conn: Connection, after: int, count: int) -> list[Row]:
    """Up to `count` shown packages with an id above `after`, by id."""
    return await conn.all(_PACKAGES_AFTER, after=after, count=count)


async def package_identities_after(conn: Connection, after: int, count: int) -> list[Row]:
    """As `packages_after`, but only id, name and version (the latest)."""
    return await conn.all(_PACKAGE_IDENTITIES_AFTER, after=after, count=count)


async def version_identities_after(conn: Connection, after: int, count: int) -> list[Row]:
    """As `versions_after`, but only id, name and version."""
    return await conn.all(_VERSION_IDENTITIES_AFTER, after=after, count=count)


async def versions_named(conn: Connection, versions: Iterable[tuple[str, str]]) -> list[Row]:
    """The rows of these (name, version) that are live."""
    pairs = list(versions)
    return await conn.all(_VERSIONS_NAMED, names=[name for name, _ in pairs], versions=[v for _, v in pairs])


async def live_versions(conn: Connection, versions: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """The subset of these (name, version) that are live."""
    pairs = list(versions)
    rows = await conn.all(_LIVE_VERSIONS, names=[name for name, _ in pairs], versions=[v for _, v in pairs])
    return {(row.name, row.version) for row in rows}


async def versions_after(conn: Connection, after: int, count: int) -> list[Row]:
    """Up to `count` live versions with an id above `after`, by id."""
    return await conn.all(_VERSIONS_AFTER, after=after, count=count)


async def versions_of(conn: Connection, package_id: int, after: int, count: int) -> list[Row]:
    """id, name and version of up to `count` versions of a package that are not deleted, above the id `after`, by id."""
    return await conn.all(_VERSIONS_OF, of_package=package_id, after=after, count=count)


async def counts(conn: Connection) -> tuple[int, int]:
    """The numbers of (packages, versions) that the indices should hold."""
    return int(await conn.value(_PACKAGE_COUNT)), int(await conn.value(_VERSION_COUNT))


async def downloaded_lately(conn: Connection, names: Iterable[str]) -> set[str]:
    """The subset of `names` that were downloaded today or yesterday."""
    return {row.name for row in await conn.all(_DOWNLOADED_LATELY, names=list(names))}


async def changed_since(conn: Connection, names: Iterable[str], seq: int) -> set[str]:
    """The subset of `names` that have events after `seq`."""
    return {row.package for row in await conn.all(_CHANGED_SINCE, names=list(names), seq=seq)}


async def standing(conn: Connection, key: str) -> Row | None:
    """name, shown (has a live version), offered (has one that is not yanked), quarantined, and refusal.

    The refusal is Elasticsearch's reason for not indexing the package, or None.
    """
    return await conn.one(_STANDING, key=key)


async def failures(conn: Connection, after: str, count: int) -> list[Row]:
    """document, package and reason of up to `count` refused documents after `after`, in the order of documents."""
    return await conn.all(_FAILURES, after=after, count=count)


async def save_outcome(conn: Connection, *, succeeded: Sequence[str], failed: Sequence[dict[str, object]]) -> None:
    """Records refused documents and removes the records of accepted ones.

    `succeeded` has references (`kind:id`). Each of `failed` has document (its reference), package, seq and reason.
    """
    await conn.run(_SAVE_OUTCOME, succeeded=list(succeeded), failed=json(list(failed)))
