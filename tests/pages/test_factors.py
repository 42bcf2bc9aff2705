"""The account's second factors, as a browser without JavaScript uses them; what the script does is done by hand."""

import json
import re

import pytest
from yarl import URL

from tests.client import PASSWORD, Registry
from tests.conftest import MakeRegistry
from tests.factors.authenticator import Authenticator
from tests.factors.conftest import App, add_app
from tests.pages.test_account import grow_stale
from tests.pages.visitor import Page, Visitor, signed_in


def origin_of(registry: Registry) -> str:
    """Passkeys need a host name, so the registry is called localhost."""
    return f"http://localhost:{URL(registry.url).port}"


async def fill_in(visitor: Visitor, page: Page, button: str, authenticator: Authenticator, **typed: str) -> Page:
    """Does what the script does: asks for options, and sends the form with what the passkey answers."""
    form = page.form(button)
    fields = {**dict(form.form_values()), **typed}
    options = await visitor.call("POST", form.get("data-options"), data=fields)
    if options.status != 200:
        return options
    assert options.headers["Content-Type"] == "application/json; charset=utf-8"
    assert options.headers["Cache-Control"] == "no-store"
    act = getattr(authenticator, form.get("data-passkey"))
    fields["credential"] = json.dumps(act(json.loads(options.body)))
    return await visitor.call("POST", form.get("action"), data=fields, follow=True)


async def test_an_authenticator_app_is_set_up_and_removed(registry: Registry):
    async with await signed_in(registry, "ada") as visitor:
        page = await visitor.send(await visitor.get("/account/factors"), "Set up authenticator")
        assert page.headers["Cache-Control"] == "no-store"
        assert page.all("svg.qr path")
        secret = page.form("Confirm").fields["secret"]
        app = App(secret)
        assert page.texts(".secret") == [" ".join(re.findall("....", secret))]
        page = await visitor.send(page, "Confirm", status=401, code=app.wrong())
        assert page.form("Confirm").fields["secret"] == secret
        page = await visitor.send(page, "Confirm", code=app.code())
        codes = page.texts(".codes li")
        assert len(codes) == 10
        page = await visitor.get(page.link("I have stored them"))
        assert "10 left" in page.text
        assert codes[0] not in page.text
        page = await visitor.send(page, "Make new codes")
        assert page.texts(".codes li")[0] not in codes
        page = await visitor.get("/account/factors")
        page = await visitor.send(page, "Remove", status=401, code=app.wrong())
        page = await visitor.send(page, "Remove", code=app.code())
        assert "Set up authenticator" in page.buttons()


async def test_a_passkey_is_added_used_and_removed(registry: Registry):
    async with await signed_in(registry, "ada") as visitor:
        authenticator = Authenticator(origin_of(registry))
        page = await visitor.get("/account/factors")
        page = await fill_in(visitor, page, "Add passkey", authenticator, name="<b>laptop</b>")
        assert page.heading == "Recovery codes"
        page = await visitor.get("/account/factors")
        assert "<b>laptop</b>" in page.texts("tbody tr")[0]
        page = await visitor.send(page, "Sign out")
        page = await fill_in(visitor, await visitor.get("/login?next=/account/tokens"), "Sign in with a passkey",
                             authenticator)  # fmt: skip
        assert URL(page.url).path == "/account/tokens"
        page = await visitor.send(await visitor.get("/account/factors"), "Remove")
        assert "It is removed" in page.text
        assert not page.texts("tbody tr")


async def test_a_passkey_is_the_second_factor_after_a_password(registry: Registry):
    async with await signed_in(registry, "ada") as visitor:
        authenticator = Authenticator(origin_of(registry))
        await fill_in(visitor, await visitor.get("/account/factors"), "Add passkey", authenticator)
        page = await visitor.send(await visitor.get("/account"), "Sign out")
        page = await visitor.send(await visitor.get("/login?next=/account/sessions"), "Sign in", username="ada",
                                  password=PASSWORD)  # fmt: skip
        assert page.heading == "Second factor"
        assert "recovery code" in page.text.lower()
        elsewhere = Authenticator("https://evil.example", key=authenticator.key, id=authenticator.id)
        other = await fill_in(visitor, page, "Sign in with a passkey", elsewhere)
        assert other.status == 401
        page = await fill_in(visitor, page, "Sign in with a passkey", authenticator)
        assert URL(page.url).path == "/account/sessions"


async def test_routes_of_passkeys_follow_the_rules_of_forms(registry: Registry):
    async with await signed_in(registry, "ada") as visitor, Visitor(registry.url) as stranger:
        for who, path, button in (
            (visitor, "/account/factors", "Add passkey"), (stranger, "/login", "Sign in with a passkey"),
        ):  # fmt: skip
            form = (await who.get(path)).form(button)
            fields = dict(form.form_values())
            for action in (form.get("data-options"), form.get("action")):
                assert (await who.call("POST", action, data={**fields, "csrf": "x.y"})).status == 403
                wrong = {"Origin": "https://evil.example"}
                assert (await who.call("POST", action, data=fields, headers=wrong)).status == 403
                assert (await who.call("POST", action, json=fields)).status == 415
            # Without JavaScript, the form has no credential.
            answer = await who.call("POST", form.get("action"), data=fields)
            assert answer.status == 400
            assert "JavaScript" in answer.text


async def test_changing_factors_asks_again_after_a_while(registry: Registry):
    ada = await registry.user("ada")
    async with await signed_in(registry, "ada") as visitor:
        await grow_stale(registry)
        page = await visitor.get("/account/factors")
        options = await fill_in(visitor, page, "Add passkey", Authenticator(origin_of(registry)))
        assert (options.status, options.heading) == (403, "Confirm that it is you")
        asked = await visitor.send(page, "Add passkey", status=403)
        page = await visitor.send(asked, "Confirm", confirm_password=PASSWORD)
        assert "Press Add passkey again" in page.text
        await grow_stale(registry)
        page = await visitor.send(page, "Set up authenticator", status=403)
        page = await visitor.send(page, "Confirm", confirm_password=PASSWORD)
        assert page.all("svg.qr")
    _, codes = await add_app(ada)
    async with Visitor(registry.url) as visitor:
        page = await visitor.send(await visitor.get("/login"), "Sign in", username="ada", password=PASSWORD)
        await visitor.send(page, "Sign in", code=codes[0])
        await grow_stale(registry)
        page = await visitor.send(await visitor.get("/account/factors"), "Make new codes", status=403)
        page = await visitor.send(page, "Confirm", confirm_code=codes[1])
        assert len(page.texts(".codes li")) == 10


async def test_who_lacks_a_required_factor_is_led_to_it(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_REQUIRE_2FA="all")
    open_ = await make_registry()
    await open_.user("ada")
    async with Visitor(registry.url) as visitor:
        page = await visitor.send(await visitor.get("/login?next=/account/tokens"), "Sign in", username="ada",
                                  password=PASSWORD)  # fmt: skip
        assert URL(page.url).path == "/account/factors"
        assert "requires a second factor" in page.text
        assert URL((await visitor.get("/account")).url).path == "/account/factors"
        page = await visitor.send(page, "Dark")
        assert page.root.get("data-theme") == "dark"
        assert (await visitor.get("/docs/tokens")).heading == "API tokens"
        page = await visitor.send(page, "Set up authenticator")
        await visitor.send(page, "Confirm", code=App(page.form("Confirm").fields["secret"]).code())
        assert URL((await visitor.get("/account/tokens")).url).path == "/account/tokens"


@pytest.mark.parametrize("url", ["https://192.0.2.1"])
async def test_without_a_host_name_the_pages_offer_no_passkeys(make_registry: MakeRegistry, url: str):
    registry = await make_registry(REGISTRY_PUBLIC_URL=url)
    async with Visitor(registry.url) as visitor:
        page = await visitor.get("/login")
        assert "Sign in with a passkey" not in page.buttons()
