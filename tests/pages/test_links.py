"""The pages that links in mails lead to, as a browser without JavaScript uses them."""

import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.client import PASSWORD, Registry
from tests.conftest import MakeRegistry
from tests.mail.server import Mailbox, mail_server, text_of
from tests.mail.test_mail_http import ADA, FRESH, is_verified, jobs_done, post
from tests.pages.visitor import Page, Visitor

SITE = "https://registry.example"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    async with mail_server() as box:
        yield box


@pytest.fixture
async def registry(make_registry: MakeRegistry, mailbox: Mailbox) -> Registry:
    return await make_registry(
        REGISTRY_SMTP_URL=mailbox.url, REGISTRY_PUBLIC_URL=SITE, REGISTRY_ACCESS="private", REGISTRY_RATE_LIMITS="off"
    )


async def press(
    registry: Registry, page: Page, headers: dict[str, str] | None = None, *, status: int = 200, **typed: str
) -> Page:
    """Sends the form of `page` without its cookies, as some programs do that open links of mails."""
    [form] = page.all("main form")
    fields = {name: value for name, value in form.form_values() if name != "csrf"}
    sent = {"headers": {"Origin": SITE} if headers is None else headers, "data": {**fields, **typed}}
    async with Visitor(registry.url) as visitor:
        answer = await visitor.call("POST", form.get("action"), **sent)
    assert answer.status == status, answer.text
    return answer


async def get(registry: Registry, path: str, status: int = 200) -> Page:
    async with Visitor(registry.url) as visitor:
        page = await visitor.get(path, status=status)
    assert page.headers["Cache-Control"] == "no-store"
    return page


def fields_of(page: Page) -> list[str]:
    """The names of the fields in `main`, without the token of all forms."""
    return sorted({each.get("name") for each in page.all("main input")} - {"csrf"})


def path_in(mail: Any) -> str:
    found = re.search(rf"{SITE}(/account/\S+)", text_of(mail))
    assert found
    return found[1]


async def test_only_the_button_verifies_an_address(registry: Registry, mailbox: Mailbox):
    ada = await registry.user("ada", email=ADA)
    path = path_in(await mailbox.wait_for(ADA, "Verify your e-mail address"))
    page = await get(registry, path)
    assert (page.buttons(), fields_of(page)) == (["Verify"], ["token"])
    assert not await is_verified(registry, ada)
    assert (await press(registry, page)).heading == "Your address is verified"
    assert await is_verified(registry, ada)
    again = await press(registry, page, status=400)
    assert again.buttons() == []
    assert "was used" in again.text


async def test_a_forgotten_password_is_set_by_two_pages(registry: Registry, mailbox: Mailbox):
    await registry.user("ada", email=ADA)
    page = await get(registry, "/account/reset")
    assert (page.buttons(), fields_of(page)) == (["Send reset link"], ["email"])
    wrong = await press(registry, page, status=400, email='"><script>')
    assert wrong.all("main input[name=email]")[0].get("value") == '"><script>'
    assert not wrong.all("main script")
    known = await press(registry, page, email=ADA)
    unknown = await press(registry, page, email="nobody@example.com")
    assert known.text == unknown.text
    path = path_in(await mailbox.wait_for(ADA, "Reset your password"))
    page = await get(registry, path)
    assert (page.buttons(), fields_of(page)) == (["Set password"], ["password", "token"])
    weak = await press(registry, page, status=400, password="password")
    assert fields_of(weak) == fields_of(page)
    assert "most common" in weak.text
    assert (await press(registry, weak, password=FRESH)).heading == "Your password is set"
    assert (await post(registry, "/auth/login", username="ada", password=FRESH)).status == 200
    assert (await post(registry, "/auth/login", username="ada", password=PASSWORD)).status == 401
    used = await press(registry, page, status=400, password="Third-Horse-44")
    assert used.buttons() == []
    assert used.link("Ask for another link") == "/account/reset"
    await jobs_done(registry)
    assert not mailbox.to("nobody@example.com")


async def test_a_browser_with_cookies_sends_the_token_of_its_form(make_registry: MakeRegistry, mailbox: Mailbox):
    registry = await make_registry(REGISTRY_SMTP_URL=mailbox.url)
    async with Visitor(registry.url) as visitor:
        page = await visitor.get("/account/reset")
        assert (await visitor.call("POST", "/account/reset", data={"email": ADA})).status == 403
        page = await visitor.send(page, "Send reset link", email=ADA)
        assert page.heading == "Look into your mailbox"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Referer": "https://evil.example/registry.example"},
        {"Origin": "http://registry.example"}, {"Origin": "https://evil.example", "Referer": f"{SITE}/account/reset"},
    ],
)  # fmt: skip
async def test_a_form_of_another_site_is_refused(registry: Registry, headers: dict[str, str]):
    page = await get(registry, "/account/reset")
    await press(registry, page, headers, status=403, email=ADA)
    for own in ({}, {"Referer": f"{SITE}/account/reset"}):
        await press(registry, page, own, email=ADA)


async def test_without_a_public_address_forms_of_this_machine_are_accepted(
    make_registry: MakeRegistry, mailbox: Mailbox
):
    registry = await make_registry(REGISTRY_SMTP_URL=mailbox.url)
    port = urlsplit(registry.url).port
    page = await get(registry, "/account/reset")
    for host in ("localhost", "127.0.0.1", "[::1]"):
        await press(registry, page, {"Origin": f"http://{host}:{port}"}, email=ADA)
    for origin in ("http://localhost:9", f"https://localhost:{port}", "null"):
        await press(registry, page, {"Origin": origin}, status=403, email=ADA)


async def test_errors_are_pages(registry: Registry, make_registry: MakeRegistry, mailbox: Mailbox):
    for path in ("/account/verify", "/account/reset"):
        await get(registry, f"{path}?token=a&token=b", 400)
        await get(registry, f"{path}?token=x")
        async with Visitor(registry.url) as visitor:
            for status, body in (
                (400, {"data": {f"field{number}": "x" for number in range(300)}}),
                (415, {"json": {"token": "x"}}),
                (400, {"data": "token=%ed%a0%80%00", "headers": FORM}),
            ):
                answer = await visitor.call("POST", path, **body)
                assert (answer.status, len(answer.all("main"))) == (status, 1)
    limited = await make_registry(REGISTRY_SMTP_URL=mailbox.url, REGISTRY_RATE_LIMITS="mail=1/hour")
    page = await get(limited, "/account/reset")
    await press(limited, page, {}, email=ADA)
    refused = await press(limited, page, {}, status=429, email=ADA)
    assert "Retry-After" in refused.headers
    without = await make_registry()
    await get(without, "/account/reset", 404)
