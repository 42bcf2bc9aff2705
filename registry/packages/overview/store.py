"""The SQL of the pages of packages and users. It reads only the versions that a page shows. Commits nothing."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import bindparam as p

from registry.accounts.store import SHOWN_NAME
from registry.db.engine import Connection, Row, statement
from registry.db.tables import dependents, package_owners, package_versions, packages, users
from registry.db.tables import package_versions as v
from registry.package_format.names import similarity_key
from registry.packages.owners.store import MAINTAINERS, OWNERS
from registry.packages.status.store import DEPRECATION, NOT_QUARANTINED
from registry.packages.store import LIVE

_OF_PACKAGE = v.c.package_id == p("package")
_latest = package_versions.alias("latest")
_live = package_versions.alias("live")
_VERSIONS = (
    sa.select(sa.func.count())
    .where(_live.c.package_id == packages.c.id, _live.c.deleted_at.is_(None))
    .correlate(packages)
    .scalar_subquery()
)
_DEPENDENTS = (
    sa.select(sa.func.count())
    .where(dependents.c.dependency == packages.c.similarity_key)
    .correlate(packages)
    .scalar_subquery()
)
_HEAD: sa.Select[Any] = (
    sa.select(
        packages.c.id.label("package_id"), packages.c.name, packages.c.created_at, *DEPRECATION,
        OWNERS.label("owners"), MAINTAINERS.label("maintainers"), _latest.c.version.label("latest"),
        _VERSIONS.label("versions"), _DEPENDENTS.label("dependents"),
        v.c.id, v.c.version, v.c.description, v.c.author, v.c.license, v.c.homepage, v.c.repository,
        v.c.keywords_json.label("keywords"),
        v.c.dependencies_json.label("dependencies"), v.c.checksum, v.c.tarball_size.label("size"),
        v.c.download_count.label("downloads"), v.c.yanked, v.c.yank_reason, v.c.published_at, v.c.provenance,
        SHOWN_NAME.label("publisher"),
    )
    .select_from(packages)
    .join(_latest, _latest.c.id == packages.c.latest_version_id)
    .join(v, v.c.package_id == packages.c.id)
    .join(users, users.c.id == v.c.published_by)
    .where(packages.c.similarity_key == p("key"), LIVE, NOT_QUARANTINED)
)  # fmt: skip
_HEAD_OF_LATEST = statement(_HEAD.where(v.c.id == packages.c.latest_version_id))
_HEAD_OF_VERSION = statement(_HEAD.where(v.c.canonical == p("canonical")))
_NEWEST = statement(
    sa.select(v.c.version, v.c.yanked, v.c.yank_reason)
    .where(_OF_PACKAGE, LIVE)
    .order_by(v.c.sort_key.desc())
    .limit(p("count"))
)
_README = statement(sa.select(v.c.readme).where(v.c.id == p("version_id")))
_MATCHES = sa.func.strpos(v.c.version, p("text", type_=sa.Text)) > 0
_PAGE = (
    sa.select(
        v.c.version, v.c.published_at, v.c.download_count.label("downloads"), v.c.tarball_size.label("size"),
        v.c.yanked, v.c.yank_reason, v.c.is_prerelease, v.c.provenance.is_not(None).label("is_proven"),
        SHOWN_NAME.label("publisher"),
    )
    .join(users, users.c.id == v.c.published_by)
    .where(_OF_PACKAGE, LIVE)
    .order_by(v.c.sort_key.desc())
    .limit(p("count", type_=sa.Integer))
    .offset(p("skipped", type_=sa.Integer))
)  # fmt: skip
_PAGE_OF_ALL, _PAGE_OF_MATCHES = statement(_PAGE), statement(_PAGE.where(_MATCHES))
_COUNT_MATCHES = statement(sa.select(sa.func.count()).where(_OF_PACKAGE, LIVE, _MATCHES))

_IS_MEMBER = package_owners.c.user_id == p("user")
_IS_SHOWN = packages.c.latest_version_id.is_not(None)
_USER = statement(
    sa.select(users.c.id, users.c.username, users.c.created_at).where(
        sa.func.lower(users.c.username) == sa.func.lower(p("wanted", type_=sa.Text)), users.c.deleted_at.is_(None)
    )
)
_PACKAGES_OF_USER = statement(
    sa.select(
        packages.c.name, v.c.version, packages.c.description, packages.c.license, packages.c.deprecated,
        packages.c.download_count.label("downloads"), v.c.yanked, v.c.published_at, package_owners.c.role,
    )
    .join(package_owners, package_owners.c.package_id == packages.c.id)
    .join(v, v.c.id == packages.c.latest_version_id)
    .where(_IS_MEMBER)
    .order_by(packages.c.download_count.desc(), packages.c.name)
    .limit(p("count", type_=sa.Integer))
    .offset(p("skipped", type_=sa.Integer))
)  # fmt: skip
_COUNT_OF_USER = statement(
    sa.select(sa.func.count())
    .select_from(packages.join(package_owners, package_owners.c.package_id == packages.c.id))
    .where(_IS_MEMBER, _IS_SHOWN)
)


async def head(conn: Connection, name: str, canonical: str | None) -> Row | None:
    """A package, and its latest version or the one with this canonical text. None if it isn't shown."""
    if canonical is None:
        return await conn.one(_HEAD_OF_LATEST, key=similarity_key(name))
    return await conn.one(_HEAD_OF_VERSION, key=similarity_key(name), canonical=canonical)


async def newest(conn: Connection, package_id: int, count: int) -> list[Row]:
    """(version, yanked, yank_reason) of the `count` highest live versions, the highest first."""
    return await conn.all(_NEWEST, package=package_id, count=count)


async def readme(conn: Connection, version_id: int) -> str:
    return str(await conn.value(_README, version_id=version_id) or "")


async def versions(conn: Connection, package_id: int, text: str, count: int, skipped: int) -> list[Row]:
    """Up to `count` live versions whose number contains `text`, the highest first, without the first `skipped`."""
    if not text:
        return await conn.all(_PAGE_OF_ALL, package=package_id, count=count, skipped=skipped)
    return await conn.all(_PAGE_OF_MATCHES, package=package_id, count=count, skipped=skipped, text=text)


async def count_matches(conn: Connection, package_id: int, text: str) -> int:
    """How many live versions have a number that contains `text`."""
    return int(await conn.value(_COUNT_MATCHES, package=package_id, text=text))


async def user(conn: Connection, username: str) -> Row | None:
    """id, username and created_at of the account with this name, which has not ended."""
    return await conn.one(_USER, wanted=username)


async def packages_of(conn: Connection, user_id: int, count: int, skipped: int) -> list[Row]:
    """Shown packages in which the user has a role, the most downloaded first."""
    return await conn.all(_PACKAGES_OF_USER, user=user_id, count=count, skipped=skipped)


async def count_packages(conn: Connection, user_id: int) -> int:
    return int(await conn.value(_COUNT_OF_USER, user=user_id))
