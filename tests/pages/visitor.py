"""A browser without JavaScript: it keeps cookies, follows links and fills in the forms of pages."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import aiohttp
from lxml import html
from yarl import URL

from tests.client import PASSWORD, Registry

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
Fields = Mapping[str, str | list[str]]


@dataclass
class Page:
    """An answer, and its document if it is HTML."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str

    @property
    def root(self) -> html.HtmlElement:
        return html.document_fromstring(self.body.decode())

    @property
    def text(self) -> str:
        """The text that people read in `main`, with single blanks."""
        [main] = self.root.cssselect("main")
        return " ".join(main.text_content().split())

    @property
    def heading(self) -> str:
        [heading] = self.root.cssselect("h1")
        return " ".join(heading.text_content().split())

    @property
    def title(self) -> str:
        return self.root.findtext("head/title") or ""

    def all(self, selector: str) -> list[html.HtmlElement]:
        return self.root.cssselect(selector)

    def texts(self, selector: str) -> list[str]:
        """The text of each element that the selector finds, with single blanks."""
        return [" ".join(each.text_content().split()) for each in self.all(selector)]

    def link(self, label: str) -> str:
        """The address of the link with this text. Fails unless all links with it lead to one address."""
        found = {each.get("href") for each in self.all("a") if " ".join(each.text_content().split()) == label}
        assert len(found) == 1, (label, found)
        return str(found.pop())

    def form(self, button: str, at: int = 0) -> html.FormElement:
        """The form with a button of this name; `at` chooses one of several."""
        found = [form for form in self.root.forms if button in _buttons(form)]
        assert len(found) > at, (button, [_buttons(form) for form in self.root.forms])
        return found[at]

    def buttons(self) -> list[str]:
        """The names of all buttons of POST forms, in order."""
        return [name for form in self.root.forms if form.method == "POST" for name in _buttons(form)]


def _buttons(form: html.FormElement) -> list[str]:
    found = form.xpath(".//button[not(@type) or @type='submit'] | .//input[@type='submit']")
    return [" ".join((each.text_content() or each.get("value") or "").split()) for each in found]


class Visitor:
    """One browser. `host` is the name of the registry in its addresses."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = aiohttp.ClientSession(
            cookie_jar=aiohttp.CookieJar(unsafe=True), headers={"User-Agent": BROWSER, "Accept": "text/html"}
        )

    async def __aenter__(self) -> "Visitor":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    @property
    def cookies(self) -> dict[str, str]:
        return {cookie.key: cookie.value for cookie in self._session.cookie_jar}

    async def call(self, method: str, path: str | URL, *, follow: bool = False, **more: Any) -> Page:
        address = path if isinstance(path, URL) else urljoin(self.url, path)
        async with self._session.request(method, address, allow_redirects=follow, **more) as answer:
            return Page(answer.status, answer.headers, await answer.read(), str(answer.url))

    async def get(self, path: str, *, status: int = 200, follow: bool = True, **more: Any) -> Page:
        """A page, after redirects. Fails for another status."""
        page = await self.call("GET", path, follow=follow, **more)
        assert page.status == status, (page.status, page.url, page.body[:2000])
        return page

    async def send(
        self, page: Page, button: str, *, at: int = 0, status: int = 200, follow: bool = True, **fields: str | list[str]
    ) -> Page:
        """Fills in the form with this button, and presses the button. Gives the page that follows."""
        form = page.form(button, at)
        given = [(name, value) for name, value in form.form_values() if name not in fields]
        for name, value in fields.items():
            assert name in form.fields, (name, list(form.fields))
            given += [(name, each) for each in (value if isinstance(value, list) else [value])]
        pressed = [each for each in form.xpath(".//button[@name]") if each.text_content().strip() == button]
        given += [(each.get("name"), each.get("value") or "") for each in pressed]
        target = urljoin(page.url, form.get("action") or page.url)
        if form.method == "GET":
            return await self.get(target, params=given, status=status, follow=follow)
        origin = urljoin(page.url, "/").rstrip("/")
        headers = {"Origin": origin, "Referer": page.url}
        answer = await self.call("POST", target, follow=follow, data=given, headers=headers)
        assert answer.status == status, (answer.status, answer.url, answer.body[:3000])
        return answer

    async def sign_in(self, username: str, password: str = PASSWORD) -> Page:
        """Signs in on the page, and gives the page that follows."""
        return await self.send(await self.get("/login"), "Sign in", username=username, password=password)


async def signed_in(registry: Registry, username: str, *, admin: bool = False, email: str | None = None) -> Visitor:
    """A new browser of a user, who is made if new. Close it with `async with`."""
    await registry.user(username, admin=admin, email=email)
    visitor = Visitor(registry.url)
    await visitor.sign_in(username)
    return visitor
