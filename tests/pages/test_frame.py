"""What all pages share: headers, caches, errors, the theme, and forms that only our own pages can send."""

import gzip

import pytest
from yarl import URL

from registry.pages import static
from tests.client import Registry
from tests.conftest import MakeRegistry
from tests.pages.visitor import Visitor

HTML = {"Accept": "text/html"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


async def test_every_page_has_one_main_one_heading_navigation_footer_title_and_search(registry: Registry):
    async with Visitor(registry.url) as visitor:
        titles = set()
        for path, status in (("/search", 200), ("/search?q=zeppelin", 200), ("/nowhere", 404), ("/search?q=%00", 400)):
            page = await visitor.get(path, status=status)
            assert [len(page.all(each)) for each in ("main", "h1", "footer", "nav[aria-label=Site]")] == [1, 1, 1, 1]
            assert len(page.all("form[role=search][action='/search'] input[name=q]")) == 1
            titles.add(page.title)
        assert len(titles) == 4


async def test_headers_keep_other_sites_out(registry: Registry):
    async with Visitor(registry.url) as visitor:
        for path, status in (("/search", 200), ("/nowhere", 404)):
            headers = (await visitor.get(path, status=status)).headers
            assert headers["Content-Security-Policy"] == POLICY
            assert headers["Referrer-Policy"] == "same-origin"
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert "camera=()" in headers["Permissions-Policy"]
            assert "Strict-Transport-Security" not in headers


async def test_browsers_are_told_to_use_https_where_the_registry_has_it(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_PUBLIC_URL="https://registry.example")
    async with Visitor(registry.url) as visitor:
        page = await visitor.get("/login")
        assert page.headers["Strict-Transport-Security"] == "max-age=31536000"
        [cookie] = page.headers.getall("Set-Cookie")
        assert cookie.startswith("__Host-forms=")
        assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
        assert "Domain" not in cookie


async def test_a_page_for_strangers_is_kept_for_a_minute_and_compared_by_its_tag(registry: Registry):
    async with Visitor(registry.url) as visitor:
        page = await visitor.get("/search")
        assert page.headers["Cache-Control"] == "public, max-age=60"
        assert {"Cookie", "Accept-Encoding"} <= set(page.headers["Vary"].split(", "))
        again = await visitor.get("/search", status=304, headers={"If-None-Match": page.headers["ETag"]})
        assert again.headers["Vary"] == "Cookie"


async def test_a_page_with_a_form_is_never_kept(registry: Registry):
    async with Visitor(registry.url) as visitor:
        page = await visitor.get("/login")
        assert page.headers["Cache-Control"] == "no-store"
        assert "ETag" not in page.headers


async def test_pages_are_compressed(registry: Registry):
    plain = await registry.call("GET", registry.url + "/search", headers={"Accept-Encoding": "identity"})
    packed = await registry.call("GET", registry.url + "/search", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body


@pytest.mark.parametrize("name", static.NAMES)
async def test_files_of_pages_are_kept_for_ever_under_an_address_of_their_own(registry: Registry, name: str):
    answer = await registry.call("GET", registry.url + static.url(name), headers={"Accept-Encoding": "gzip"})
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert gzip.decompress(answer.body) == static.load(name).body
    older = await registry.call("GET", f"{registry.url}/static/0123/{name}")
    assert older.headers["Cache-Control"] == "no-cache"
    assert (await registry.call("GET", f"{registry.url}/static/0123/{name}x")).status == 404


async def test_an_error_outside_of_the_api_is_a_page_for_a_browser_only(registry: Registry):
    for path, accept, kind in (
        ("/nowhere", "text/html,*/*;q=0.8", "text/html; charset=utf-8"),
        ("/nowhere", "*/*", "application/json; charset=utf-8"),
        ("/api/v1/nowhere", "text/html", "application/json; charset=utf-8"),
        ("/search?limit=x&q=a", "*/*", "text/html; charset=utf-8"),
    ):
        answer = await registry.call("GET", registry.url + path, headers={"Accept": accept})
        assert answer.headers["Content-Type"] == kind, path


async def test_the_theme_follows_the_system_until_it_is_chosen(registry: Registry):
    async with Visitor(registry.url) as visitor:
        page = await visitor.get("/search?q=tide")
        assert page.root.get("data-theme") is None
        page = await visitor.send(page, "Dark")
        assert URL(page.url).path_qs == "/search?q=tide"
        assert page.root.get("data-theme") == "dark"
        assert page.texts("[aria-pressed=true]") == ["Dark"]
        page = await visitor.send(page, "System")
        assert page.root.get("data-theme") is None


@pytest.mark.parametrize(
    "given",
    ["//evil.example", "/\\evil.example", "https://evil.example", "/a b", "/a\u00e9", "/%0d%0aX: y\r\nX: y", "", "x"],
)
async def test_a_redirect_never_leaves_the_site(registry: Registry, given: str):
    answer = await registry.call("GET", registry.url + "/theme", params={"to": "dark", "next": given})
    assert answer.status == 303
    assert answer.headers["Location"] == "/"


async def test_other_origins_may_read_the_api_but_no_page(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_CORS_ORIGINS="https://app.example")
    headers = {"Origin": "https://app.example"}
    assert "Access-Control-Allow-Origin" in (await registry.get("/packages", headers=headers)).headers
    for path in ("/search", "/login"):
        answer = await registry.call("GET", registry.url + path, headers=headers)
        assert answer.status == 200
        assert "Access-Control-Allow-Origin" not in answer.headers
        preflight = {**headers, "Access-Control-Request-Method": "GET"}
        assert (await registry.call("OPTIONS", registry.url + path, headers=preflight)).status == 405


async def test_a_private_registry_leads_strangers_to_the_sign_in(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_ACCESS="private")
    for path in ("/search?q=a", "/search/explain?q=a&name=a", "/search/suggest?q=a"):
        answer = await registry.call("GET", registry.url + path, headers=HTML)
        assert answer.status == 303
        assert URL(answer.headers["Location"]).query["next"] == path


async def test_a_read_only_registry_refuses_changes_but_not_sign_ins(make_registry: MakeRegistry):
    open_ = await make_registry()
    ada = await open_.user("ada")
    await ada.publish("zeppelin")
    registry = await make_registry(REGISTRY_READ_ONLY="true")
    body = {"username": "ada", "password": "correct horse battery staple"}
    for method, path, more in (
        ("POST", "/auth/register", {"json": {**body, "username": "grace"}}),
        ("POST", "/auth/tokens", {"json": {"name": "ci"}}),
        ("POST", "/packages/zeppelin/report", {"json": {"kind": "spam", "text": "x"}}),
        ("DELETE", "/packages/zeppelin/1.0.0", {}),
        ("PUT", "/packages/zeppelin/2.0.0", {"data": b""}),
    ):
        answer = await registry.call(method, path, headers=ada.headers, **more)
        assert (answer.status, answer.json["code"]) == (403, "read_only"), path
    assert (await registry.get("/packages/zeppelin")).status == 200
    assert (await registry.call("POST", "/auth/verify", headers=ada.headers)).status == 200
    again = await registry.call("POST", "/auth/login", json={"username": "ada", "password": "wrong"})
    assert again.status == 401
    assert (await registry.call("POST", "/auth/logout", headers=ada.headers)).status == 200
