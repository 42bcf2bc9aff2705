"""The first page: search box, figures, and lists of packages."""

from datetime import date, timedelta

from tests.client import Registry
from tests.conftest import MakeRegistry
from tests.downloads.test_figures import add
from tests.pages.visitor import Visitor, signed_in


async def test_an_empty_registry_explains_how_to_publish(registry: Registry):
    async with Visitor(registry.url) as visitor:
        page = await visitor.get("/")
        assert "Nothing is published here yet" in page.text
        assert page.all("main form[role=search][action='/search'] input[name=q]")
        assert page.link("Register") == "/register"


async def test_lists_show_new_most_downloaded_and_rising_packages(registry: Registry):
    ada = await registry.user()
    for name, description in (("alpha", "First <b>letter</b>"), ("beta", "Second"), ("gamma", "Third")):
        await ada.publish(name, description=description)
    today = date.today()
    back = (date(2026, 11, 15) - today).days
    await add(registry, "alpha", back + 1, 300)
    await add(registry, "beta", back + 1, 20)
    await add(registry, "beta", back + 9, 80)
    async with Visitor(registry.url) as visitor:
        page = await visitor.get("/")
    assert page.heading == "Find the package you need."
    assert page.texts(".figures span") == ["3 packages", "3 versions", "320 downloads this week"]
    lists = {section.findtext("h2"): section.cssselect("li") for section in page.all(".short-list")}
    assert [li.findtext(".//a") for li in lists["New"]] == ["gamma", "beta", "alpha"]
    assert [" ".join(li.itertext()).split() for li in lists["Most downloaded"]] == [
        ["alpha", "300", "First", "<b>letter</b>"],
        ["beta", "20", "Second"],
    ]
    assert [li.findtext(".//a") for li in lists["Rising"]] == ["alpha"]
    assert "+ 1,500 %" in lists["Rising"][0].text_content()
    [age] = lists["New"][0].cssselect("time")
    assert age.get("title", "").endswith("UTC")
    assert today - timedelta(days=1) <= date.fromisoformat(age.get("datetime")[:10])


async def test_quarantined_packages_are_not_shown(registry: Registry):
    ada, admin = await registry.user(), await registry.user("root", admin=True)
    await ada.publish("alpha")
    await ada.publish("beta")
    await admin.call("PATCH", "/packages/alpha", json={"quarantined": True, "reason": "malware"})
    async with Visitor(registry.url) as visitor:
        page = await visitor.get("/")
    assert "beta" in page.text
    assert "alpha" not in page.body.decode()


async def test_a_private_registry_leads_strangers_to_the_sign_in(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_ACCESS="private")
    await (await registry.user()).publish("secret-thing")
    async with Visitor(registry.url) as visitor:
        for path in ("/", "/stats", "/packages/secret-thing/stats", "/packages/no-such-thing/stats"):
            answer = await visitor.call("GET", path)
            assert answer.status == 303
            assert answer.headers["Location"].startswith("/login")
            assert b"secret-thing" not in answer.body
    async with await signed_in(registry, "ada") as visitor:
        page = await visitor.get("/")
        assert "secret-thing" in page.text
        assert page.headers["Cache-Control"] == "no-store"
        assert not page.all("link[rel=canonical], meta[property]")


async def test_the_page_of_a_stranger_is_kept_and_has_one_address(registry: Registry):
    await (await registry.user()).publish("alpha")
    async with Visitor(registry.url) as visitor:
        page = await visitor.get("/", headers={"Host": "evil.example", "X-Forwarded-Host": "evil.example"})
        again = await visitor.call("GET", "/", headers={"If-None-Match": page.headers["ETag"]})
    assert again.status == 304
    public = registry.url.replace("127.0.0.1", "localhost")
    assert [each.get("href") for each in page.all("link[rel=canonical]")] == [f"{public}/"]
    assert [each.get("content") for each in page.all("meta[property='og:image']")] == [f"{public}/card.png"]
    assert [each.get("href") for each in page.all("link[rel=alternate]")] == ["/feed.atom"]
    assert b"evil.example" not in page.body
