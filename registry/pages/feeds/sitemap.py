"""The sitemap: an index of parts, and the parts with the addresses of pages (sitemaps.org)."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from xml.sax.saxutils import escape

from registry.packages.listing.newest import NamedPackage

PART = 25_000
"""Packages in a part. The protocol allows 50,000 addresses."""

STEP = 2_500
"""Packages in a piece of the answer, so that no part is in memory as a whole."""

MEDIA_TYPE = "application/xml; charset=utf-8"
_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
_NAMESPACE = 'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"'
_PAGES = ("/", "/search", "/stats", "/docs")


def index(base: str, packages: int) -> str:
    """The index of a registry with this number of packages. The first part has the pages without a package."""
    numbers = range(parts_of(packages))
    parts = "".join(f"<sitemap><loc>{escape(base)}/sitemap/{each}.xml</loc></sitemap>\n" for each in numbers)
    return f"{_HEAD}<sitemapindex {_NAMESPACE}>\n{parts}</sitemapindex>\n"


def parts_of(packages: int) -> int:
    return 1 + -(-packages // PART)


ReadNames = Callable[[str, int, int], Awaitable[Sequence[NamedPackage]]]
"""Gets (after, count, offset) and returns packages in the order of names."""


async def part(read: ReadNames, base: str, number: int) -> AsyncIterator[bytes]:
    """The pieces of a part. Part 0 has the pages without a package."""
    yield f"{_HEAD}<urlset {_NAMESPACE}>\n".encode()
    if number == 0:
        yield "".join(_entry(base, path, None) for path in _PAGES).encode()
    else:
        after, offset = "", (number - 1) * PART
        for _ in range(PART // STEP):
            found = await read(after, STEP, offset)
            yield "".join(_entry(base, f"/packages/{each.name}", each.updated_at) for each in found).encode()
            if len(found) < STEP:
                break
            after, offset = found[-1].name, 0
    yield b"</urlset>\n"


def _entry(base: str, path: str, changed_at: datetime | None) -> str:
    changed = "" if changed_at is None else f"<lastmod>{changed_at.isoformat(timespec='seconds')}</lastmod>"
    return f"<url><loc>{escape(base + path)}</loc>{changed}</url>\n"
