"""Signing in and out, and registering, as a browser without JavaScript does it."""

import pytest
from yarl import URL

from tests.client import PASSWORD, Registry
from tests.conftest import MakeRegistry
from tests.factors.conftest import add_app
from tests.pages.visitor import Page, Visitor, signed_in

SITE = "https://registry.example"


async def send_raw(visitor: Visitor, page: Page, button: str, headers: dict[str, str], **typed: str) -> Page:
    """Sends the form with these headers instead of those of a browser."""
    form = page.form(button)
    return await visitor.call("POST", form.get("action"), data={**dict(form.form_values()), **typed}, headers=headers)


async def test_a_user_signs_in_and_out(registry: Registry):
    await registry.user("ada")
    async with Visitor(registry.url) as visitor:
        page = await visitor.get("/account/password")
        assert URL(page.url).path == "/login"
        page = await visitor.send(page, "Sign in", username="ADA", password=PASSWORD)
        assert URL(page.url).path == "/account/password"
        assert page.headers["Cache-Control"] == "no-store"
        old = visitor.cookies["session"]
        page = await visitor.send(page, "Sign out")
        assert "You are signed out" in page.text
        assert not visitor.cookies.get("session")
        stolen = await visitor.call("GET", "/account", cookies={"session": old})
        assert stolen.status == 303


async def test_a_refused_form_keeps_what_was_typed_but_never_the_password(registry: Registry):
    await registry.user("ada")
    async with Visitor(registry.url) as visitor:
        page = await visitor.get("/login?next=/account/tokens")
        page = await visitor.send(page, "Sign in", status=401, username="ada", password="Wrong-Horse-42")
        [name], [password] = page.all("main input[name=username]"), page.all("main input[name=password]")
        assert (name.get("value"), password.get("value")) == ("ada", "")
        assert "Wrong-Horse-42" not in page.body.decode()
        assert "wrong" in page.texts("[role=alert]")[0]
        page = await visitor.send(page, "Sign in", username="ada", password=PASSWORD)
        assert URL(page.url).path == "/account/tokens"


async def test_the_code_of_an_app_is_asked_on_the_next_page(registry: Registry):
    ada = await registry.user("ada")
    app, _ = await add_app(ada)
    async with Visitor(registry.url) as visitor:
        page = await visitor.get("/login?next=/account/sessions")
        page = await visitor.send(page, "Sign in", username="ada", password=PASSWORD)
        assert page.heading == "Second factor"
        assert not visitor.cookies.get("session")
        page = await visitor.send(page, "Sign in", status=401, code=app.wrong())
        assert "wrong" in page.texts("[role=alert]")[0]
        page = await visitor.send(page, "Sign in", code=app.code())
        assert URL(page.url).path == "/account/sessions"


async def test_a_recovery_code_is_a_second_factor_and_five_wrong_codes_end_the_sign_in(registry: Registry):
    ada = await registry.user("ada")
    app, codes = await add_app(ada)
    async with Visitor(registry.url) as visitor:
        first = await visitor.send(await visitor.get("/login"), "Sign in", username="ada", password=PASSWORD)
        page = first
        for _ in range(5):
            page = await visitor.send(first, "Sign in", status=401, code=app.wrong())
        page = await visitor.send(first, "Sign in", status=401, code=codes[0])
        assert page.heading == "Sign in"
        assert "too many wrong codes" in page.text
        page = await visitor.send(page, "Sign in", username="ada", password=PASSWORD)
        page = await visitor.send(page, "Sign in", code=codes[0])
        assert URL(page.url).path == "/account"


@pytest.mark.parametrize(
    "given",
    ["//evil.example", "/\\evil.example", "https://evil.example/", "/\t/evil.example", "javascript:alert(1)",
     "/%0d%0aSet-Cookie:x\r\nX: y", "evil", "/a b", "\\\\evil.example", "/" + "a" * 3000],
)  # fmt: skip
async def test_a_sign_in_never_leads_to_another_site(registry: Registry, given: str):
    await registry.user("ada")
    async with Visitor(registry.url) as visitor:
        page = await visitor.get(str(URL("/login").with_query(next=given)))
        form = {**dict(page.form("Sign in").form_values()), "username": "ada", "password": PASSWORD, "next": given}
        answer = await visitor.call("POST", "/login", data=form)
        assert (answer.status, answer.headers["Location"]) == (303, "/account")


async def test_the_session_is_a_host_cookie_behind_https_and_a_plain_one_on_http(make_registry: MakeRegistry):
    plain = await make_registry()
    await plain.user("ada")
    for registry, name, secure in (
        (plain, "session", False),
        (await make_registry(REGISTRY_PUBLIC_URL=SITE), "__Host-session", True),
    ):
        async with Visitor(registry.url) as visitor:
            page = await visitor.get("/login")
            # A client on plain http does not send secure cookies by itself.
            cookies = {each.split("=")[0]: each.split(";")[0].partition("=")[2] for each in set_cookies(page)}
            form = {**dict(page.form("Sign in").form_values()), "username": "ada", "password": PASSWORD}
            answer = await visitor.call("POST", "/login", data=form, cookies=cookies)
            assert answer.status == 303
            [cookie] = [each for each in set_cookies(answer) if "session=" in each]
            parts = cookie.split("; ")
            assert parts[0].startswith(f"{name}=")
            assert {"HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=2592000"} <= set(parts)
            assert ("Secure" in parts) == secure
            assert "Domain" not in cookie


def set_cookies(page: Page) -> list[str]:
    return list(page.headers.getall("Set-Cookie", []))


async def test_a_sign_in_ends_the_session_that_the_browser_had(registry: Registry):
    async with await signed_in(registry, "ada") as visitor:
        first = visitor.cookies["session"]
        await visitor.sign_in("ada")
        second = visitor.cookies["session"]
        assert first != second
        assert (await visitor.call("GET", "/account", cookies={"session": first})).status == 303
        assert (await visitor.call("GET", "/account")).status == 200


async def test_a_session_that_a_stranger_planted_is_not_taken_over(registry: Registry):
    async with await signed_in(registry, "eve") as eve:
        planted = eve.cookies["session"]
        await registry.user("ada")
        async with Visitor(registry.url) as visitor:
            page = await visitor.call("GET", "/login", cookies={"session": planted})
            form = {**dict(page.form("Sign in").form_values()), "username": "ada", "password": PASSWORD}
            answer = await visitor.call("POST", "/login", data=form, cookies={"session": planted})
            assert answer.status == 303
            [fresh] = [each for each in set_cookies(answer) if each.startswith("session=")]
            assert planted not in fresh
        assert (await eve.call("GET", "/account")).status == 303


async def test_a_form_of_another_browser_does_not_sign_in(registry: Registry):
    await registry.user("ada")
    async with Visitor(registry.url) as mallory, Visitor(registry.url) as victim:
        page = await mallory.get("/login")
        form = {**dict(page.form("Sign in").form_values()), "username": "ada", "password": PASSWORD}
        assert (await victim.call("POST", "/login", data=form)).status == 403
        await victim.get("/login")
        assert (await victim.call("POST", "/login", data=form)).status == 403
        del form["csrf"]
        assert (await mallory.call("POST", "/login", data=form)).status == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 303),
        ({"Origin": SITE}, 303),
        ({"Referer": f"{SITE}/login?next=/"}, 303),
        ({"Origin": "null"}, 403),
        ({"Origin": "null", "Referer": f"{SITE}/login"}, 403),
        ({"Origin": "http://registry.example"}, 403),
        ({"Origin": "https://registry.example.evil.example"}, 403),
        ({"Origin": f"{SITE}:8443"}, 403),
        ({"Referer": "https://evil.example/?https://registry.example/"}, 403),
        ({"Referer": "https://registry.example@evil.example/"}, 403),
        ({"Origin": "http://localhost:8080"}, 403),
        ({"Host": "evil.example", "Origin": "https://evil.example"}, 403),
        ({"X-Forwarded-Host": "evil.example", "Origin": "https://evil.example"}, 403),
    ],
)
async def test_a_form_comes_from_the_public_address(make_registry: MakeRegistry, headers: dict[str, str], status: int):
    registry = await make_registry(REGISTRY_PUBLIC_URL=SITE)
    await registry.user("ada")
    async with Visitor(registry.url) as visitor:
        page = await visitor.get("/login")
        cookies = {each.split("=")[0]: each.split(";")[0].partition("=")[2] for each in set_cookies(page)}
        form = {**dict(page.form("Sign in").form_values()), "username": "ada", "password": PASSWORD}
        answer = await visitor.call("POST", "/login", data=form, cookies=cookies, headers=headers)
        assert answer.status == status
        assert "evil" not in answer.headers.get("Location", "")


async def test_without_a_public_address_the_three_names_of_this_machine_are_its_origins(registry: Registry):
    await registry.user("ada")
    port = URL(registry.url).port
    async with Visitor(registry.url) as visitor:
        for origin, status in (
            (f"http://localhost:{port}", 303), (f"http://127.0.0.1:{port}", 303), (f"http://[::1]:{port}", 303),
            (f"https://localhost:{port}", 403), ("http://localhost", 403), ("http://localhost:9", 403), ("null", 403),
        ):  # fmt: skip
            page = await visitor.get("/login")
            sent = {"Origin": origin}
            answer = await send_raw(visitor, page, "Sign in", sent, username="ada", password=PASSWORD)
            assert answer.status == status, origin


async def test_somebody_registers_and_is_signed_in(registry: Registry):
    async with Visitor(registry.url) as visitor:
        page = await visitor.get("/register?next=/account/tokens")
        page = await visitor.send(page, "Register", status=400, username="-x-", email="nobody", password="password")
        assert len(page.all("main [aria-invalid=true]")) == 3
        assert page.all("main input[name=email]")[0].get("value") == "nobody"
        for field in page.all("main [aria-invalid=true]"):
            described = field.get("aria-describedby").split()
            assert page.all(f"#{described[0]}")[0].text_content()
        page = await visitor.send(page, "Register", username="ada", email="ada@example.com", password=PASSWORD)
        assert URL(page.url).path == "/account/tokens"
        page = await visitor.send(page, "Sign out")
        page = await visitor.send(
            await visitor.get("/register"), "Register", status=409, username="Ada", password=PASSWORD
        )
        assert page.all("main input[name=username]")[0].get("value") == "Ada"


async def test_closed_registration_is_a_page_that_says_so(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_REGISTRATION="closed")
    async with Visitor(registry.url) as visitor:
        page = await visitor.get("/register", status=403)
        assert "Registration is closed" in page.text
        page = await visitor.get("/login")
        assert "Register" not in page.texts("a")
        assert (await visitor.call("POST", "/register", data={"username": "ada", "password": PASSWORD})).status == 403


async def test_forms_count_against_the_limits_of_their_api_routes(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_RATE_LIMITS="login=2/hour,register=2/hour")
    await registry.user("ada")  # one registration and one login
    async with Visitor(registry.url) as visitor:
        page = await visitor.get("/login")
        await visitor.send(page, "Sign in", status=401, username="ada", password="Wrong-Horse-42")
        page = await visitor.send(page, "Sign in", status=429, username="ada", password=PASSWORD)
        assert int(page.headers["Retry-After"]) > 0
        assert page.heading == "Too many requests"
        refused = await registry.call("POST", "/auth/login", json={"username": "ada", "password": PASSWORD})
        assert refused.status == 429


async def test_too_many_wrong_passwords_are_a_page_with_the_wait(registry: Registry):
    await registry.user("ada")
    async with Visitor(registry.url) as visitor:
        page = await visitor.get("/login")
        for _ in range(31):
            answer = await send_raw(visitor, page, "Sign in", {}, username="ada", password="Wrong-Horse-42")
        answer = await send_raw(visitor, page, "Sign in", {}, username="ada", password=PASSWORD)
        assert answer.status == 429
        assert "Retry-After" in answer.headers
        assert answer.all("main input[name=username]")[0].get("value") == "ada"


async def test_the_tokens_of_sessions_and_forms_are_not_logged(registry: Registry, caplog: pytest.LogCaptureFixture):
    caplog.set_level("DEBUG")
    async with await signed_in(registry, "ada") as visitor:
        await visitor.get("/account")
        page = await visitor.get("/account/tokens")
        await visitor.send(page, "Create token", name="ci")
        logged = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
        assert "user_id" in logged
        for secret in (visitor.cookies["session"], PASSWORD, page.form("Create token").fields["csrf"], "syn_"):
            assert secret not in logged


async def test_a_private_registry_lets_strangers_sign_in_and_nothing_else(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_ACCESS="private")
    await registry.user("ada")
    async with Visitor(registry.url) as visitor:
        for path in ("/account", "/account/tokens", "/account/factors"):
            answer = await visitor.call("GET", path)
            assert (answer.status, answer.headers["Location"]) == (303, f"/login?next={path.replace('/', '%2F')}")
        assert URL((await visitor.sign_in("ada")).url).path == "/account"


async def test_a_read_only_registry_lets_users_sign_in_and_out(make_registry: MakeRegistry):
    await (await make_registry()).user("ada")
    registry = await make_registry(REGISTRY_READ_ONLY="true")
    async with Visitor(registry.url) as visitor:
        page = await visitor.sign_in("ada")
        for path in ("/account", "/account/password", "/account/factors", "/account/tokens", "/account/sessions"):
            page = await visitor.get(path)
            assert page.buttons() == ["Sign out"]
            assert "read-only" in page.body.decode()
        page = await visitor.get("/register")
        assert "Register" not in page.buttons()
        page = await visitor.send(page, "Sign out")
        assert "You are signed out" in page.text
