"""Renders Markdown that strangers wrote as HTML: CommonMark with tables, strikethrough and bare links.

The parser's HTML, which may contain the author's own, is cleaned by an allow-list. Then `_Rewriter` decides about each
link, picture, heading and id. It writes only elements that the allow-list knows and escapes each value.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from html import escape, unescape
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any
from urllib.parse import unquote, urlsplit

import nh3
from markdown_it import MarkdownIt
from markdown_it.token import Token

from registry.rendering import highlighter
from registry.rendering.protocol import Rendered, Target

MAX_CHARACTERS = 1 << 20
MAX_TARGETS = 2000
# Browsers and the cleaner need quadratic time for deeply nested elements.
MAX_DEPTH = 100
# The parser leaves out what is nested more deeply.
MAX_NESTING = 50
MAX_HIGHLIGHTED = 64 * 1024
REL = "nofollow ugc noopener"

_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_TAGS = _HEADINGS | {
    "a", "abbr", "b", "bdi", "blockquote", "br", "caption", "center", "code", "dd", "del", "details", "div", "dl", "dt",
    "em", "figcaption", "figure", "hr", "i", "img", "ins", "kbd", "li", "ol", "p", "pre", "q", "s", "samp", "small",
    "span", "strike", "strong", "sub", "summary", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "u",
    "ul", "var",
}  # fmt: skip
_ALIGNED = ("div", "img", "p", "td", "th", *_HEADINGS)
_ATTRIBUTES = {
    **{tag: {"align"} for tag in _ALIGNED},
    "*": {"id"},
    "a": {"href", "name", "title"},
    "abbr": {"title"},
    "details": {"open"},
    "img": {"align", "alt", "height", "src", "title", "width"},
    "ol": {"start"},
    "td": {"align", "colspan", "rowspan"},
    "th": {"align", "colspan", "rowspan", "scope"},
}
_CLEANER = nh3.Cleaner(
    tags=_TAGS,
    attributes=_ATTRIBUTES,
    allowed_classes={"span": highlighter.CLASSES},
    clean_content_tags={"script", "style", "title", "textarea", "iframe", "noscript", "svg", "math", "template"},
    link_rel=None,
    url_schemes={"http", "https"},
)
# What scrolls must be reachable with the keyboard. Each paragraph may be in another script.
_ADDED = {"pre": [("tabindex", "0")], **{tag: [("dir", "auto")] for tag in ("p", "li", "td", "th", *sorted(_HEADINGS))}}
_NUMBERS = frozenset({"colspan", "height", "rowspan", "start", "width"})
_NUMBER = re.compile(r"[0-9]{1,4}%?")
_VOID = frozenset({"br", "hr", "img"})
# These end when the next one of them begins, so they don't nest without other elements between them.
_FLAT = _VOID | {"dd", "dt", "li", "p", "td", "th", "tr"}
_ELEMENT = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")
_BLANKS = re.compile(r"[\x00-\x20\x7f]+")
_NOT_IN_SLUGS = re.compile(r"[^\w\- ]")


def render(text: str, targets: Mapping[str, Target], hosts: Sequence[str], prefix: str, shift: int) -> Rendered:
    """The HTML of a Markdown text.

    `hosts` are those from which pictures may be shown. `prefix` is put before ids. `shift` is added to the level of
    headings.
    """
    html = _clean(text)
    if html is None:
        return {"html": None, "asked": []}
    rewriter = _Rewriter(html, targets, hosts, prefix, shift)
    return {"html": rewriter.rewritten(), "asked": list(rewriter.asked)}


@lru_cache(1)  # a text with relative links is rendered twice
def _clean(text: str) -> str | None:
    if len(text) > MAX_CHARACTERS:
        return None
    parser = _parser()
    environment: dict[str, Any] = {"highlighted": 0}
    tokens = parser.parse(text, environment)
    if any(token.level >= MAX_NESTING - 1 for token in tokens):
        return None
    _add_ids(tokens)
    _align(tokens)
    html = parser.renderer.render(tokens, parser.options, environment)
    return None if _depth(html) > MAX_DEPTH else _CLEANER.clean(html)


def _parser() -> MarkdownIt:
    left = MAX_HIGHLIGHTED

    def coloured(code: str, language: str, _attributes: str) -> str:
        nonlocal left
        left -= len(code)
        return highlighter.block(code, language) if language and left >= 0 else ""

    options = {"html": True, "linkify": True, "maxNesting": MAX_NESTING, "highlight": coloured}
    parser = MarkdownIt("commonmark", options).enable(["table", "strikethrough", "linkify"])
    # The cleaner removes addresses that are no links.
    parser.validateLink = lambda url: True  # type: ignore[method-assign]  # noqa: ARG005
    parser.linkify.set({"fuzzy_link": False, "fuzzy_email": False})  # type: ignore[union-attr]  # it is installed
    return parser


def _add_ids(tokens: Sequence[Token]) -> None:
    """Gives each heading an id made of its text. Equal ones get a number, as on the usual hosts of repositories."""
    counts: dict[str, int] = {}
    for heading, inline in pairwise(tokens):
        if heading.type != "heading_open":
            continue
        parts = (part.content for part in inline.children or () if part.type in ("text", "code_inline", "image"))
        slug = _NOT_IN_SLUGS.sub("", "".join(parts).strip().lower()).replace(" ", "-")
        number = counts.get(slug, 0)
        counts[slug] = number + 1
        heading.attrSet("id", f"{slug}-{number}" if number else slug)


def _align(tokens: Sequence[Token]) -> None:
    """Replaces the styles of table cells, which the Content-Security-Policy forbids."""
    for token in tokens:
        style = str(token.attrs.pop("style", ""))
        if style:
            token.attrSet("align", style.rpartition(":")[2])


def _depth(html: str) -> int:
    """How deeply the elements are nested at most. It may be too high, but never too low."""
    open_elements: dict[str, int] = {}
    depth = most = 0
    for closing, name in _ELEMENT.findall(html):
        tag = name.lower()
        if tag in _FLAT:
            continue
        if not closing:
            open_elements[tag] = open_elements.get(tag, 0) + 1
            depth += 1
            most = max(most, depth)
        elif open_elements.get(tag):
            open_elements[tag] -= 1
            depth -= 1
    return most


class _Rewriter(HTMLParser):
    """Rewrites the cleaned HTML of a text. The cleaner closes each element and escapes each value."""

    def __init__(self, html: str, targets: Mapping[str, Target], hosts: Sequence[str], prefix: str, shift: int) -> None:
        super().__init__(convert_charrefs=False)
        self.asked: dict[str, None] = {}
        self._html = html
        self._targets = targets
        self._origins = {f"https://{host}" for host in hosts}
        self._prefix = prefix
        self._shift = shift
        self._out: list[str] = []
        self._links: list[str] = []  # what closes each open link
        self._ids = {unescape(found) for found in re.findall(r' (?:id|name)="([^"]+)"', html)}
        self._used: set[str] = set()

    def rewritten(self) -> str:
        self.feed(self._html)
        self.close()
        return "".join(self._out)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "a":
            self._open_link(values)
        elif tag == "img":
            self._picture(values)
        else:
            kept = [(name, value) for name, value in values.items() if _is_kept(name, value)]
            if tag == "table":
                self._out.append('<div class="scroll" tabindex="0">')
            self._out.append(_element(self._tag(tag), [*kept, *self._id(values), *_ADDED.get(tag, ())]))

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self._out.append(self._links.pop() if self._links else "")
        elif tag not in _VOID:
            self._out.append(f"</{self._tag(tag)}>" + ("</div>" if tag == "table" else ""))

    def handle_data(self, data: str) -> None:
        self._out.append(escape(data, quote=False))

    def handle_entityref(self, name: str) -> None:
        self._out.append(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self._out.append(f"&#{name};")

    def _tag(self, tag: str) -> str:
        return f"h{min(6, int(tag[1]) + self._shift)}" if tag in _HEADINGS else tag

    def _id(self, values: Mapping[str, str]) -> list[tuple[str, str]]:
        found = values.get("id") or values.get("name") or ""
        if not found or found in self._used:
            return []
        self._used.add(found)
        return [("id", self._prefix + found)]

    def _open_link(self, values: Mapping[str, str]) -> None:
        target = self._target(values.get("href", ""))
        identity = self._id(values)
        title = [("title", values["title"])] if values.get("title") else []
        if target["href"] is not None and not any(self._links):
            self._out.append(_element("a", [("href", target["href"]), *_rel(target["href"]), *title, *identity]))
            self._links.append("</a>")
        elif identity:
            self._out.append(_element("span", identity))
            self._links.append("</span>")
        else:
            self._links.append("")

    def _picture(self, values: Mapping[str, str]) -> None:
        target = self._target(values.get("src", ""), picture=True)
        alt = values.get("alt", "")
        if target["src"] is not None:
            kept = [(name, value) for name, value in values.items() if name != "src" and _is_kept(name, value)]
            self._out.append(_element("img", [("src", target["src"]), ("alt", alt), ("loading", "lazy"), *kept]))
        elif target["href"] is not None and not any(self._links):
            link = _element("a", [("href", target["href"]), *_rel(target["href"])])
            self._out.append(f"{link}{escape(alt or 'Picture', quote=False)}</a>")
        else:
            self._out.append(escape(alt, quote=False))

    def _target(self, url: str, *, picture: bool = False) -> Target:
        """Where `url` leads, and the address of the picture that is there."""
        url = _BLANKS.sub("", url)
        if url.startswith("#"):
            return {"href": self._within(unquote(url[1:])), "src": None}
        if _SCHEME.match(url):
            origin = _origin(url)
            shown = picture and origin in self._origins
            return {"href": url if origin else None, "src": url if shown else None}
        if not url or url not in self._targets:
            if url and len(self.asked) < MAX_TARGETS:
                self.asked[url] = None
            return {"href": None, "src": None}
        return self._targets[url]

    def _within(self, fragment: str) -> str | None:
        for name in (fragment, fragment.lower()):
            if name in self._ids:
                return f"#{self._prefix}{name}"
        return None


def _origin(url: str) -> str:
    """The scheme, host and port of an address with http or https. "" for other addresses."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.hostname}{port}" if parts.scheme in ("http", "https") and parts.hostname else ""


def _rel(href: str) -> list[tuple[str, str]]:
    return [] if href.startswith("#") else [("rel", REL)]


def _is_kept(name: str, value: str) -> bool:
    if name in _NUMBERS:
        return _NUMBER.fullmatch(value) is not None
    return name in ("align", "class", "open", "scope", "title")


def _element(tag: str, attributes: Sequence[tuple[str, str]]) -> str:
    return f"<{tag}" + "".join(f' {name}="{escape(value)}"' for name, value in attributes) + ">"
