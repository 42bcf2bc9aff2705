"""Checks the columns of packages and versions that are computed from other columns, and that packages have owners."""

import contextlib
from collections.abc import AsyncIterator

from registry.db.engine import ConstraintViolated, Row
from registry.doctor import store
from registry.doctor.check import Check, Found, Registry, pages, reading
from registry.errors import InvalidInput
from registry.package_format import versions
from registry.package_format.names import similarity_key

PAGE = 5_000
REFRESHED_AT_ONCE = 100
_ADD_OWNER = (
    "INSERT INTO package_owners (package_id, user_id, role) SELECT p.id, u.id, 'owner' FROM packages p, users u "
    "WHERE p.name = 'PACKAGE' AND u.username = 'USER' ON CONFLICT (package_id, user_id) DO UPDATE SET role = 'owner';"
)


async def _wrong_names(registry: Registry) -> AsyncIterator[Row]:
    async for rows in pages(registry, store.names_after, "id", 0, PAGE):
        for row in rows:
            if row.similarity_key != similarity_key(row.name):
                yield row


async def _find_names(registry: Registry) -> Found:
    found = Found()
    async for row in _wrong_names(registry):
        found.add(f"{row.name} has {row.similarity_key}")
    return found


async def _repair_names(registry: Registry) -> None:
    async for row in _wrong_names(registry):
        # Two similar names can't both have the key. The check that follows the repair reports the second one.
        with contextlib.suppress(ConstraintViolated):
            async with registry.db.transaction() as conn:
                await store.set_similarity_key(conn, row.id, similarity_key(row.name))


async def _wrong_orders(registry: Registry) -> AsyncIterator[tuple[Row, versions.Version | None]]:
    """Versions whose order does not match their number, with the parsed number; None if it can't be parsed."""
    async for rows in pages(registry, store.versions_after, "id", 0, PAGE):
        for row in rows:
            try:
                version = versions.parse(row.version)
            except InvalidInput:
                yield row, None
                continue
            computed = (version.canonical, version.sort_key, version.is_prerelease)
            if computed != (row.canonical, row.sort_key, row.is_prerelease):
                yield row, version


async def _find_orders(registry: Registry) -> Found:
    found = Found()
    async for row, version in _wrong_orders(registry):
        found.add(
            f"{row.name} {row.version}" + ("" if version else " is not a version number; correct the row by hand")
        )
    return found


async def _repair_orders(registry: Registry) -> None:
    async for row, version in _wrong_orders(registry):
        if version is None:
            continue
        # Two versions that differ only in build metadata can't both exist. The next check reports the second one.
        with contextlib.suppress(ConstraintViolated):
            async with registry.db.transaction() as conn:
                await store.set_order(conn, row.id, version.canonical, version.sort_key, version.is_prerelease)


def _outdated(registry: Registry) -> AsyncIterator[list[Row]]:
    return pages(registry, store.outdated_packages, "id", 0, REFRESHED_AT_ONCE)


async def _find_outdated(registry: Registry) -> Found:
    found = Found()
    async for rows in _outdated(registry):
        for row in rows:
            found.add(row.name)
    return found


async def _repair_outdated(registry: Registry) -> None:
    async for rows in _outdated(registry):
        async with registry.db.transaction() as conn:
            await store.refresh_packages(conn, [row.id for row in rows])


CHECKS = (
    Check(
        "names",
        "each package's key for similar names matches its name",
        "compute the key again",
        _find_names,
        _repair_names,
    ),
    Check(
        "versions",
        "each version's order and canonical form match its number",
        "compute both again",
        _find_orders,
        _repair_orders,
    ),
    Check(
        "packages",
        "each package shows the metadata of its latest version",
        "refresh what the package shows",
        _find_outdated,
        _repair_outdated,
    ),
    Check(
        "owners",
        "each package that has a version has an owner",
        f"choose an owner and run in psql: {_ADD_OWNER}",
        reading(store.packages_without_owner),
    ),
)
