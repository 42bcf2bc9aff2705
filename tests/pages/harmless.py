"""What no page may contain, whatever its users wrote."""

from selectolax.lexbor import LexborHTMLParser, LexborNode

_FORBIDDEN = {
    "base", "embed", "iframe", "marquee", "math", "noscript", "object", "source", "style", "template", "video", "xmp",
    "xss",
}  # fmt: skip
_ADDRESSES = ("href", "src", "action", "srcset", "data", "poster", "ping")
_DANGEROUS = ("javascript:", "data:", "vbscript:", "//", "/\\", "\\")


def assert_harmless(html: str) -> None:
    """Fails if a page, or a part of one, could run or load anything but our own files."""
    page = LexborHTMLParser(html)
    for node in page.css("*"):
        _check(node)
    for tag in ("h1", "main", "title", "script", "body"):
        assert len(page.css(tag)) <= 1, tag


def _check(node: LexborNode) -> None:
    values = {name: value or "" for name, value in node.attributes.items()}
    assert node.tag not in _FORBIDDEN, str(node.html)[:300]
    assert not [name for name in values if name.startswith("on") or name in ("style", "srcdoc", "formaction")], values
    for name in _ADDRESSES:
        address = values.get(name, "").strip().lower()
        assert not address.startswith(_DANGEROUS), values
        is_link = name == "href" and node.tag in ("a", "link")
        assert is_link or "://" not in address, values
    if node.tag == "a" and "://" in values.get("href", ""):
        assert values.get("rel") == "nofollow ugc noopener", values
    if node.tag == "script":
        assert values.get("src", "").startswith("/static/"), values
