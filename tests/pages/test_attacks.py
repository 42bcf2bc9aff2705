"""What others may try: forms of other sites, odd bytes, and pages that caches would mix up."""

import re
from collections.abc import Iterator

import pytest
from yarl import URL

from registry.app import PAGES
from registry.pages import csrf
from registry.pages.links.handlers import RESET, VERIFY
from registry.settings import Settings
from registry.web.route import SIGNED_IN
from tests.client import Registry
from tests.conftest import MakeRegistry
from tests.pages.visitor import Visitor, signed_in

VALUES = {"name": "demo", "version": "1.0.0", "username": "ada", "id": "1"}
EVIL = "https://evil.example"


def posts() -> Iterator[tuple[str, bool]]:
    """(path, whether only signed-in users may send it) of every form but those of links in mails: see test_links.py."""
    for route in PAGES:
        if route.method == "POST" and route.path not in (VERIFY, RESET):
            yield re.sub(r"\{(\w+)[^}]*\}", lambda found: VALUES[found[1]], route.path), route.access == SIGNED_IN


async def token_of(visitor: Visitor, path: str) -> str:
    return str((await visitor.get(path)).all("input[name=csrf]")[0].get("value"))


async def test_every_form_is_refused_without_its_own_token_or_from_another_site(registry: Registry):
    """Forms of strangers are those that need no session; signing out without one changes nothing."""
    async with (
        await signed_in(registry, "ada") as ada,
        await signed_in(registry, "eve") as eve,
        Visitor(registry.url) as stranger,
        Visitor(registry.url) as other,
    ):
        users = (ada, await token_of(ada, "/account/tokens"), await token_of(eve, "/account/tokens"))
        strangers = (stranger, await token_of(stranger, "/login"), await token_of(other, "/login"))
        for path, needs_session in posts():
            senders = [users] if needs_session or path == "/logout" else [users, strangers]
            for visitor, own, foreign in senders:
                for token, headers in (
                    (None, {}),
                    ("", {}),
                    (".", {}),
                    (own[:-1], {}),
                    (foreign, {}),
                    (own, {"Origin": EVIL}),
                    (own, {"Origin": "null", "Referer": registry.url + path}),
                    (own, {"Origin": registry.url.replace("http:", "https:")}),
                    (own, {"Referer": f"{EVIL}/?{registry.url}"}),
                    (own, {"Origin": EVIL, "Host": "evil.example", "X-Forwarded-Host": "evil.example"}),
                ):
                    data = {} if token is None else {"csrf": token}
                    answer = await visitor.call("POST", path, data=data, headers=headers)
                    assert answer.status == 403, (path, token, headers)
        assert (await ada.call("GET", "/account")).status == 200


async def test_a_token_is_of_no_use_with_a_part_of_its_cookie(registry: Registry):
    async with Visitor(registry.url) as visitor:
        page = await visitor.call("GET", "/login", cookies={"forms": "a:stranger:b"})
        nonce, _, mac = str(page.all("input[name=csrf]")[0].get("value")).partition(".")
    async with Visitor(registry.url) as victim:
        data = {"csrf": f"{nonce}:stranger:a.{mac}", "username": "eve", "password": "x"}
        answer = await victim.call("POST", "/login", data=data, cookies={"forms": "b"})
    assert answer.status == 403


@pytest.mark.parametrize(("port", "origin"), [("80", "http://localhost"), ("8000", "http://localhost:8000")])
def test_the_origins_of_this_machine_have_no_default_port(port: str, origin: str):
    assert origin in csrf.own_origins(Settings.read({"REGISTRY_PORT": port}))


async def test_a_page_with_a_form_is_never_kept_not_even_by_a_browser_that_had_one_before(registry: Registry):
    async with Visitor(registry.url) as visitor:
        for path in ("/register", "/login", "/register"):
            page = await visitor.get(path)
            assert page.headers["Cache-Control"] == "no-store"
            assert "ETag" not in page.headers


async def test_what_signed_in_users_get_is_never_kept(registry: Registry):
    async with await signed_in(registry, "ada") as ada:
        await (await registry.user("ada")).publish("demo")
        for path in (
            "/", "/packages/demo", "/feed.atom", "/packages/demo/feed.atom", "/users/ada/feed.atom", "/card.png",
            "/packages/demo/card.png", "/sitemap.xml", "/sitemap/1.xml",
            "/packages/demo/1.0.0/files/synapse.json?raw=1",
        ):  # fmt: skip
            assert (await ada.get(path)).headers["Cache-Control"] == "no-store", path
            async with Visitor(registry.url) as stranger:
                assert (await stranger.get(path)).headers["Cache-Control"] == "public, max-age=60", path


@pytest.mark.parametrize("path", ["/api", "/api/v1/nowhere", "/graphql", "/graphql/x", "/metrics/x"])
async def test_addresses_for_programs_err_as_json_for_browsers_too(registry: Registry, path: str):
    answer = await registry.call("GET", registry.url + path, headers={"Accept": "text/html"})
    assert (answer.status, answer.headers["Content-Type"]) == (404, "application/json; charset=utf-8")


@pytest.mark.parametrize("name", ["%00", "a%00b", "%ED%A0%80", "%FF", "x" * 3000, "..%2F..", "%0D%0AX:%20y"])
async def test_odd_names_are_not_found(registry: Registry, name: str):
    async with await signed_in(registry, "root", admin=True) as admin:
        for path in (
            "/users/{}", "/users/{}/feed.atom", "/admin/users/{}", "/packages/{}", "/packages/{}/feed.atom",
            "/packages/{}/settings", "/packages/{}/settings/yank", "/packages/{}/report", "/packages/{}/card.png",
            "/docs/{}", "/docs/ci/{}", "/static/x/{}",
        ):  # fmt: skip
            page = await admin.call("GET", URL(registry.url + path.format(name), encoded=True))
            assert page.status == 404, path
        assert (await admin.call("GET", URL(f"{registry.url}/admin/users?text={name}", encoded=True))).status == 200


async def test_accounts_of_ones_own_give_no_more_guesses_of_passwords(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_RATE_LIMITS="login=5/hour")
    await (await make_registry()).user("eve")
    async with Visitor(registry.url) as visitor:
        await visitor.sign_in("eve")
        for _ in range(4):
            form = await visitor.get("/login")
            await visitor.send(form, "Sign in", status=401, username="ada", password="Wrong-Horse-42")
        page = await visitor.send(await visitor.get("/login"), "Sign in", status=429, username="ada", password="x")
        assert int(page.headers["Retry-After"]) > 0
