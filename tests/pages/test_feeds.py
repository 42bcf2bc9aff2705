"""Feeds, sitemap, robots.txt and cards."""

import io
from datetime import datetime

import pytest
from lxml import etree
from PIL import Image

from registry.packages.listing.newest import NamedPackage
from registry.pages.feeds import card, sitemap
from tests.client import Registry
from tests.conftest import MakeRegistry
from tests.pages.seed import Seeded
from tests.pages.visitor import Page, Visitor, signed_in

ATOM = "{http://www.w3.org/2005/Atom}"
MAP = "{http://www.sitemaps.org/schemas/sitemap/0.9}"
HOSTILE = '</summary><script>alert("1")</script>&\x08\x7f\ufffe<![CDATA['
FEEDS = ("/feed.atom", "/packages/alpha/feed.atom", "/users/ada/feed.atom")


def checked(page: Page, public: str) -> etree._Element:
    """A feed that has what RFC 4287 demands."""
    assert page.headers["Content-Type"].startswith("application/atom+xml")
    root = etree.fromstring(page.body)
    assert root.tag == f"{ATOM}feed"
    for each in (root, *root.iter(f"{ATOM}entry")):
        assert each.findtext(f"{ATOM}id", "").startswith("tag:localhost,2026:/")
        assert each.findtext(f"{ATOM}title")
        datetime.fromisoformat(each.findtext(f"{ATOM}updated", ""))
        assert each.find(f"{ATOM}link[@rel='alternate']").get("href", "").startswith(public)
    assert all(each.findtext(f"{ATOM}author/{ATOM}name") for each in root.iter(f"{ATOM}entry"))
    ids = [each.text for each in root.iter(f"{ATOM}id")]
    assert len(set(ids)) == len(ids)
    return root


def titles(root: etree._Element) -> list[str | None]:
    return [each.findtext(f"{ATOM}title") for each in root.iter(f"{ATOM}entry")]


def public_of(registry: Registry) -> str:
    return registry.url.replace("127.0.0.1", "localhost")


@pytest.fixture
async def two(registry: Registry) -> Registry:
    ada, lin = await registry.user(), await registry.user("lin")
    await ada.publish("alpha", description=HOSTILE.replace("\x08", "").replace("\ufffe", ""))
    await lin.publish("beta")
    await ada.publish("alpha", "1.1.0+build.5")
    return registry


async def test_feeds_list_new_versions_newest_first(two: Registry):
    async with Visitor(two.url) as visitor:
        pages = [await visitor.get(path) for path in FEEDS]
    roots = [checked(page, public_of(two)) for page in pages]
    assert titles(roots[0]) == ["alpha 1.1.0+build.5", "beta 1.0.0", "alpha 1.0.0"]
    assert titles(roots[1]) == titles(roots[2]) == ["alpha 1.1.0+build.5", "alpha 1.0.0"]
    [newest, *_] = roots[0].iter(f"{ATOM}entry")
    assert newest.find(f"{ATOM}link").get("href") == f"{public_of(two)}/packages/alpha/1.1.0+build.5"
    assert newest.findtext(f"{ATOM}author/{ATOM}name") == "ada"
    assert roots[1].find(f"{ATOM}link[@rel='self']").get("href") == f"{public_of(two)}/packages/alpha/feed.atom"


async def test_texts_of_users_stay_text(two: Registry):
    async with Visitor(two.url) as visitor:
        root = etree.fromstring((await visitor.get("/feed.atom")).body)
    summary = list(root.iter(f"{ATOM}summary"))[-1]
    assert len(summary) == 0
    assert "<script>" in (summary.text or "")


async def test_a_feed_keeps_its_bytes_until_something_is_published(two: Registry):
    async with Visitor(two.url) as visitor:
        first = await visitor.get("/feed.atom")
        same = await visitor.call("GET", "/feed.atom", headers={"If-None-Match": first.headers["ETag"]})
        await (await two.user()).publish("gamma")
        other = await visitor.call("GET", "/feed.atom", headers={"If-None-Match": first.headers["ETag"]})
    assert (same.status, other.status) == (304, 200)
    assert first.headers["Cache-Control"] == "public, max-age=60"


async def test_feeds_leave_out_what_is_hidden(two: Registry):
    ada, admin = await two.user(), await two.user("root", admin=True)
    await ada.publish("gamma")
    await ada.call("PATCH", "/packages/gamma/1.0.0", json={"yanked": True, "reason": "broken"})
    await ada.call("DELETE", "/packages/alpha/1.0.0")
    await admin.call("PATCH", "/packages/beta", json={"quarantined": True, "reason": "malware"})
    async with Visitor(two.url) as visitor:
        root = etree.fromstring((await visitor.get("/feed.atom")).body)
        assert titles(root) == ["gamma 1.0.0 (yanked)", "alpha 1.1.0+build.5"]
        await visitor.get("/packages/beta/feed.atom", status=403)
        await visitor.get("/packages/missing/feed.atom", status=404)
        await visitor.get("/users/missing/feed.atom", status=404)
        moved = await visitor.get("/users/ADA/feed.atom")
        assert titles(etree.fromstring(moved.body)) == titles(root)


async def test_an_empty_feed_is_valid(registry: Registry):
    async with Visitor(registry.url) as visitor:
        assert titles(checked(await visitor.get("/feed.atom"), public_of(registry))) == []


async def test_addresses_never_come_from_the_request(two: Registry):
    evil = {"Host": "evil.example", "X-Forwarded-Host": "evil.example"}
    async with Visitor(two.url) as visitor:
        for path in (*FEEDS, "/sitemap.xml", "/sitemap/0.xml", "/sitemap/1.xml", "/robots.txt"):
            page = await visitor.get(path, headers=evil)
            assert b"evil" not in page.body, path


async def test_the_sitemap_has_every_package(two: Registry):
    admin = await two.user("root", admin=True)
    await admin.call("PATCH", "/packages/beta", json={"quarantined": True, "reason": "malware"})
    public = public_of(two)
    async with Visitor(two.url) as visitor:
        index = etree.fromstring((await visitor.get("/sitemap.xml")).body)
        parts = [each.text or "" for each in index.iter(f"{MAP}loc")]
        assert parts == [f"{public}/sitemap/0.xml", f"{public}/sitemap/1.xml"]
        found = []
        for part in parts:
            page = await visitor.get(part.replace(public, two.url))
            assert page.headers["Content-Type"].startswith("application/xml")
            found += [each.text for each in etree.fromstring(page.body).iter(f"{MAP}loc")]
        for path in ("/sitemap/2.xml", "/sitemap/99999999999.xml", "/sitemap/x.xml", "/sitemap/-1.xml"):
            await visitor.get(path, status=404)
    assert f"{public}/packages/alpha" in found
    assert f"{public}/" in found
    assert not [each for each in found if "beta" in str(each)]


async def test_a_part_of_the_sitemap_is_read_in_steps():
    names = [NamedPackage(f"p{number:05}", datetime(2026, 1, 1)) for number in range(60_000)]
    asked: list[int] = []

    async def read(after: str, count: int, offset: int) -> list[NamedPackage]:
        asked.append(count)
        rest = [each for each in names if each.name > after] if after else names
        return rest[offset : offset + count]

    found: list[str] = []
    for number in range(sitemap.parts_of(len(names))):
        text = b"".join([piece async for piece in sitemap.part(read, "https://x.example", number)])
        entries = [each.text or "" for each in etree.fromstring(text).iter(f"{MAP}loc")]
        assert len(entries) <= 50_000
        found += [each for each in entries if "/packages/" in each]
    assert [each.rpartition("/")[2] for each in found] == [each.name for each in names]
    assert max(asked) <= 5_000


async def test_robots_are_told_what_to_skip(seeded: Seeded):
    async with Visitor(seeded.url) as visitor:
        page = await visitor.get("/robots.txt")
    lines = page.body.decode().splitlines()
    assert page.headers["Content-Type"].startswith("text/plain")
    assert "Disallow: /account" in lines
    assert "Disallow: /" not in lines
    assert lines[-1] == f"Sitemap: {seeded.url.replace('127.0.0.1', 'localhost')}/sitemap.xml"


async def test_a_private_registry_tells_strangers_nothing(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_ACCESS="private")
    await (await registry.user()).publish("secret-thing")
    paths = [
        path.replace("THING", name)
        for name in ("secret-thing", "no-such-thing")
        for path in ("/packages/THING/feed.atom", "/packages/THING/card.png", "/users/ada/feed.atom", "/feed.atom")
    ]
    async with Visitor(registry.url) as visitor:
        answers = [await visitor.call("GET", path) for path in (*paths, "/sitemap.xml", "/sitemap/1.xml", "/card.png")]
        assert {answer.status for answer in answers} == {303}
        assert not any(b"secret" in answer.body for answer in answers)
        assert (await visitor.get("/robots.txt")).body.decode().splitlines() == ["User-agent: *", "Disallow: /"]
    async with await signed_in(registry, "ada") as visitor:
        assert titles(etree.fromstring((await visitor.get("/feed.atom")).body)) == ["secret-thing 1.0.0"]
        assert (await visitor.get("/packages/secret-thing/card.png")).headers["Cache-Control"] == "no-store"
        await visitor.get("/sitemap.xml", status=404)


async def test_a_card_is_a_picture_of_the_right_size(seeded: Seeded):
    async with Visitor(seeded.url) as visitor:
        for path in ("/card.png", "/packages/brook-http/card.png", "/packages/matn-arabi/card.png"):
            page = await visitor.get(path)
            picture = Image.open(io.BytesIO(page.body))
            assert (picture.format, picture.size) == ("PNG", (1200, 630))
            assert page.headers["Content-Type"] == "image/png"
            assert page.headers["Cache-Control"] == "public, max-age=60"
            assert len(page.body) < 60_000
            again = await visitor.call("GET", path, headers={"If-None-Match": page.headers["ETag"]})
            assert again.status == 304
        await visitor.get("/packages/shady-miner/card.png", status=403)
        await visitor.get("/packages/no-such-package/card.png", status=404)


@pytest.mark.parametrize("text", ["", " ", "x" * 5000, "word " * 1000, "العربية", "\U0001f600" * 300, HOSTILE])
def test_any_text_fits_on_a_card(text: str):
    drawn = card.draw(card.Card("Synapse", text or "a" * 214, text, (text, text), (1, 2, 3)))
    assert Image.open(io.BytesIO(drawn)).size == (card.WIDTH, card.HEIGHT)


async def test_the_same_card_is_drawn_once(monkeypatch: pytest.MonkeyPatch):
    drawn: list[card.Card] = []
    monkeypatch.setattr(card, "draw", lambda each: drawn.append(each) or b"png")
    cards = card.Cards()
    wanted = card.Card("Synapse", "demo", "", ())
    assert await cards.png(wanted) == await cards.png(card.Card("Synapse", "demo", "", ()))
    assert len(drawn) == 1
