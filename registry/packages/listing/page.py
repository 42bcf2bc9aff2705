"""The list of all packages, in pages."""

from datetime import datetime
from typing import Any

from typing_extensions import TypedDict

from registry.db.engine import Database, Row
from registry.packages.listing import store
from registry.packages.read import Deprecation, deprecation_of
from registry.web.cursor import NOT_OURS, decode, encode


class ListedPackage(TypedDict):
    name: str
    version: str
    latest_version: str
    description: str
    author: str
    license: str
    keywords: list[str]
    downloads: int
    total_downloads: int
    yanked: bool
    yank_reason: str
    deprecated: str
    deprecation: Deprecation | None
    created_at: datetime
    updated_at: datetime


class PackagePage(TypedDict):
    """`results` equals `packages`. `next_cursor` is None on the last page."""

    packages: list[ListedPackage]
    results: list[ListedPackage]
    total: int
    limit: int
    offset: int
    next_cursor: str | None


async def package_page(
    db: Database,
    sort: str,
    limit: int,
    offset: int,
    after: tuple[Any, str] | None,
    visible: frozenset[str] | None = None,
) -> PackagePage:
    """A page of all packages, or of those in `visible`. It starts after `after`, or at `offset` if `after` is None."""
    async with db.read() as conn:
        # One row more than fits on the page shows whether there is a next page.
        rows, total = await store.listed(conn, sort, limit + 1, offset, after, visible)
    listed = [_listed_package(row) for row in rows[:limit]]
    return {
        "packages": listed,
        "results": listed,
        "total": total,
        "limit": limit,
        "offset": offset,
        "next_cursor": encode_cursor(sort, rows[limit - 1]) if len(rows) > limit else None,
    }


def encode_cursor(sort: str, row: Row) -> str:
    """The cursor that continues after `row`."""
    value = {
        "downloads": row.download_count,
        "recently-updated": row.updated_at.isoformat(),
        "recently-created": row.created_at.isoformat(),
        "name": row.name,
    }[sort]
    return encode(sort, (value, row.name))


def decode_cursor(text: str, sort: str) -> tuple[Any, str]:
    """The position (value, name) in a cursor that was made for `sort`.

    Raises ValueError, with a text for the client, for any other cursor.
    """
    value, name = decode(text, sort, (int if sort == "downloads" else str, str))
    if sort not in ("recently-updated", "recently-created"):
        return value, str(name)
    try:
        return datetime.fromisoformat(str(value)), str(name)
    except ValueError:
        raise ValueError(NOT_OURS) from None


def _listed_package(row: Row) -> ListedPackage:
    return {
        "name": row.name,
        "version": row.version,
        "latest_version": row.version,
        "description": row.description,
        "author": row.author,
        "license": row.license,
        "keywords": row.keywords,
        "downloads": row.download_count,
        "total_downloads": row.download_count,
        "yanked": row.yanked,
        "yank_reason": row.yank_reason,
        "deprecated": row.deprecated or "",
        "deprecation": deprecation_of(row),
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }
