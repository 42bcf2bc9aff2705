"""Atom feeds (RFC 4287) of new versions."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree as ET

from registry.packages.listing.newest import NewVersion

NAMESPACE = "http://www.w3.org/2005/Atom"
MEDIA_TYPE = "application/atom+xml; charset=utf-8"
# XML 1.0 has no way to write these characters.
_UNWRITABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# The date of a tag URI (RFC 4151) says when its owner had the name. It never changes.
_TAG_DATE = "2026"
_EMPTY = datetime(2026, 1, 1, tzinfo=UTC)

ET.register_namespace("", NAMESPACE)


def feed(base: str, path: str, title: str, page: str, versions: Sequence[NewVersion]) -> bytes:
    """A feed as UTF-8. `base` is the registry's public address, `path` that of the feed and `page` that of its page.

    Texts of users are plain text. The same versions give the same bytes.
    """
    host = urlsplit(base).hostname or "localhost"
    root = ET.Element(_name("feed"))
    _add(root, "id", f"tag:{host},{_TAG_DATE}:{path}")
    _add(root, "title", title)
    _add(root, "updated", _time(max((each.published_at for each in versions), default=_EMPTY)))
    _link(root, "self", base + path, "application/atom+xml")
    _link(root, "alternate", base + page, "text/html")
    for each in versions:
        _add_entry(root, host, base, each)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True))


def _add_entry(root: ET.Element, host: str, base: str, version: NewVersion) -> None:
    path = f"/packages/{quote(version.package)}/{quote(version.version, safe='+')}"
    entry = ET.SubElement(root, _name("entry"))
    _add(entry, "id", f"tag:{host},{_TAG_DATE}:{path}")
    _add(entry, "title", f"{version.package} {version.version}" + (" (yanked)" if version.yanked else ""))
    _add(entry, "updated", _time(version.published_at))
    _add(entry, "published", _time(version.published_at))
    _link(entry, "alternate", base + path, "text/html")
    _add(ET.SubElement(entry, _name("author")), "name", version.publisher)
    _add(entry, "summary", version.description)


def _name(tag: str) -> str:
    return f"{{{NAMESPACE}}}{tag}"


def _add(parent: ET.Element, tag: str, text: str) -> None:
    ET.SubElement(parent, _name(tag)).text = _UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def _link(parent: ET.Element, relation: str, address: str, media_type: str) -> None:
    ET.SubElement(parent, _name("link"), {"rel": relation, "href": address, "type": media_type})


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
