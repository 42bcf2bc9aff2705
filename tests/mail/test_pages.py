"""The pages that links in mails lead to, as a browser without JavaScript uses them."""

import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.client import PASSWORD, Answer, Registry
from tests.conftest import MakeRegistry
from tests.mail.server import Mailbox, mail_server, text_of
from tests.mail.test_mail_http import ADA, FRESH, is_verified, jobs_done, post

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


class Page(HTMLParser):
    """What a person sees: the heading, the texts, and the form with its fields and buttons."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        self.status, self.source = answer.status, answer.body.decode()
        self.tags: list[str] = []
        self.action = ""
        self.fields: dict[str, str] = {}
        self.feed(self.source)
        assert [self.tags.count(tag) for tag in ("main", "h1", "nav", "footer", "title")] == [1] * 5
        [self.heading] = re.findall("<h1>(.*)</h1>", self.source)
        self.buttons = re.findall('<button type="submit">(.*)</button>', self.source)
        self.problems = re.findall('<p role="alert">(.*)</p>', self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        if tag == "form":
            assert given["method"] == "post"
            self.action = given["action"]
        if tag == "input":
            self.fields[given["name"]] = given["value"]


async def get(registry: Registry, path: str) -> Page:
    return Page(await registry.call("GET", registry.url + path))


async def press(registry: Registry, page: Page, headers: dict[str, str] | None = None, **typed: str) -> Page:
    """Sends the form of `page` as a browser does."""
    sent = {"headers": {"Origin": SITE} if headers is None else headers, "data": {**page.fields, **typed}}
    return Page(await registry.call("POST", registry.url + page.action, **sent))


def path_in(mail: Any) -> str:
    found = re.search(rf"{SITE}(/account/\S+)", text_of(mail))
    assert found
    return found[1]


async def test_only_the_button_verifies_an_address(registry: Registry, mailbox: Mailbox):
    ada = await registry.user("ada", email=ADA)
    path = path_in(await mailbox.wait_for(ADA, "Verify your e-mail address"))
    page = await get(registry, path)
    assert (page.status, page.buttons, list(page.fields)) == (200, ["Verify"], ["token"])
    assert not await is_verified(registry, ada)
    assert (await press(registry, page)).heading == "Your address is verified"
    assert await is_verified(registry, ada)
    again = await press(registry, page)
    assert (again.status, again.buttons) == (400, [])
    assert "was used" in again.problems[0]


async def test_a_forgotten_password_is_set_by_two_pages(registry: Registry, mailbox: Mailbox):
    await registry.user("ada", email=ADA)
    page = await get(registry, "/account/reset")
    assert (page.status, page.buttons, list(page.fields)) == (200, ["Send reset link"], ["email"])
    wrong = await press(registry, page, email='"><script>')
    assert (wrong.status, wrong.fields["email"]) == (400, '"><script>')
    assert "script" not in wrong.tags
    known = await press(registry, page, email=ADA)
    unknown = await press(registry, page, email="nobody@example.com")
    assert (known.status, known.source) == (200, unknown.source)
    path = path_in(await mailbox.wait_for(ADA, "Reset your password"))
    page = await get(registry, path)
    assert (page.buttons, sorted(page.fields)) == (["Set password"], ["password", "token"])
    weak = await press(registry, page, password="password")
    assert (weak.status, weak.fields) == (400, page.fields)
    assert "most common" in weak.problems[0]
    assert (await press(registry, weak, password=FRESH)).status == 200
    assert (await post(registry, "/auth/login", username="ada", password=FRESH)).status == 200
    assert (await post(registry, "/auth/login", username="ada", password=PASSWORD)).status == 401
    used = await press(registry, page, password="Third-Horse-44")
    assert (used.status, used.buttons) == (400, [])
    await jobs_done(registry)
    assert not mailbox.to("nobody@example.com")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Referer": "https://evil.example/registry.example"},
        {"Origin": "http://registry.example"}, {"Origin": "https://evil.example", "Referer": f"{SITE}/account/reset"},
    ],
)  # fmt: skip
async def test_a_form_of_another_site_is_refused(registry: Registry, headers: dict[str, str]):
    page = await get(registry, "/account/reset")
    assert (await press(registry, page, headers, email=ADA)).status == 403
    for own in ({}, {"Referer": f"{SITE}/account/reset"}):
        assert (await press(registry, page, own, email=ADA)).status == 200


async def test_without_a_public_address_forms_of_this_machine_are_accepted(
    make_registry: MakeRegistry, mailbox: Mailbox
):
    registry = await make_registry(REGISTRY_SMTP_URL=mailbox.url)
    port = urlsplit(registry.url).port
    page = await get(registry, "/account/reset")
    for host in ("localhost", "127.0.0.1", "[::1]"):
        assert (await press(registry, page, {"Origin": f"http://{host}:{port}"}, email=ADA)).status == 200
    for origin in ("http://localhost:9", f"https://localhost:{port}", "null"):
        assert (await press(registry, page, {"Origin": origin}, email=ADA)).status == 403


async def test_errors_are_pages(registry: Registry, make_registry: MakeRegistry, mailbox: Mailbox):
    for path in ("/account/verify", "/account/reset"):
        assert (await get(registry, f"{path}?token=a&token=b")).status == 400
        assert (await get(registry, f"{path}?token=x")).status == 200
        body = {"data": {f"field{number}": "x" for number in range(20)}}
        assert Page(await registry.call("POST", registry.url + path, **body)).status == 400
        assert Page(await registry.call("POST", registry.url + path, json={"token": "x"})).status == 415
        assert (
            Page(await registry.call("POST", registry.url + path, data="token=%ed%a0%80%00", headers=FORM)).status
            == 400
        )
    limited = await make_registry(REGISTRY_SMTP_URL=mailbox.url, REGISTRY_RATE_LIMITS="mail=1/hour")
    page = await get(limited, "/account/reset")
    assert (await press(limited, page, {}, email=ADA)).status == 200
    refused = await limited.call("POST", limited.url + page.action, data={"email": ADA})
    assert (Page(refused).status, "Retry-After" in refused.headers) == (429, True)
    without = await make_registry()
    assert (await get(without, urlsplit(page.action).path)).status == 404
