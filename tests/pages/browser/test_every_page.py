"""Each page of the table: accessible in both themes and two widths, nothing scrolls sideways, and it is small."""

import gzip
from collections.abc import Iterable
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Page as Tab
from playwright.async_api import Response

from tests.pages.browser.table import PAGES, Page
from tests.pages.browser.tabs import Tabs

pytestmark = pytest.mark.asyncio(loop_scope="session")

WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
COLOURS = {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}
ALL_RULES = {"runOnly": {"type": "tag", "values": WCAG}}
USERS = sorted({page.user for page in PAGES})
PHONE, DESKTOP, HEIGHT = 360, 1440, 900
MAX_HTML, MAX_CSS, MAX_JS, MAX_REQUESTS, MAX_SHIFT = 30_000, 15_000, 12_000, 8, 0.05


@pytest.mark.parametrize("user", USERS, ids=lambda user: user or "stranger")
async def test_every_page(tabs: Tabs, axe: str, user: str) -> None:
    tab = await tabs.open(user, width=PHONE)
    found = [f"{page.path}: {each}" for page in PAGES if page.user == user for each in await _look(tab, page, axe)]
    assert not found, "\n".join(found)


async def _look(tab: Tab, page: Page, axe: str) -> list[str]:
    """What is wrong with a page. It is loaded once, on a phone, and then shown wide and dark."""
    requests: list[str] = []
    count = lambda request: requests.append(request.url)  # noqa: E731
    tab.on("request", count)
    await tab.set_viewport_size({"width": PHONE, "height": HEIGHT})
    await tab.emulate_media(color_scheme="light")
    response = await tab.goto(page.path, wait_until="load")
    tab.remove_listener("request", count)
    found = [*_wrong_status(response, page), *_too_many(requests)]
    found += await _sideways(tab)
    shifts = await tab.evaluate("window.shifts")
    found += [f"moved by {shifts:.3f} after it was painted"] if shifts > MAX_SHIFT else []
    await tab.evaluate(axe)
    for width, theme, rules in (
        (PHONE, "light", ALL_RULES),
        (PHONE, "dark", COLOURS),
        (DESKTOP, "dark", ALL_RULES),
        (DESKTOP, "light", COLOURS),
    ):
        await tab.set_viewport_size({"width": width, "height": HEIGHT})
        await tab.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        result = await tab.evaluate("(options) => axe.run(document, options)", {**rules, "resultTypes": ["violations"]})
        found += [f"{width} {theme}: {each}" for each in _violations(result)]
    return [*found, *await _frame_problems(tab)]


def _wrong_status(response: Response | None, page: Page) -> list[str]:
    status = response.status if response else 0
    return [] if status == page.status else [f"status {status} instead of {page.status}"]


def _too_many(requests: list[str]) -> list[str]:
    return [f"{len(requests)} requests: {requests}"] if len(requests) > MAX_REQUESTS else []


async def _sideways(tab: Tab) -> list[str]:
    """The elements that make a page scroll sideways."""
    return [
        f"wider than the phone: {each}"
        for each in await tab.evaluate("""() => {
          const width = document.documentElement.clientWidth;
          if (document.documentElement.scrollWidth <= width) return [];
          const all = [...document.body.querySelectorAll("*")];
          const scrolls = (e) => e && (getComputedStyle(e).overflowX !== "visible" || scrolls(e.parentElement));
          const wide = all.filter((e) => e.getBoundingClientRect().right > width + 1 && !scrolls(e.parentElement));
          const names = wide.slice(0, 5).map((e) => e.outerHTML.slice(0, 160));
          return [`${document.documentElement.scrollWidth} pixels`, ...names];
        }""")
    ]


def _violations(result: dict[str, Any]) -> Iterable[str]:
    for rule in result["violations"]:
        for element in rule["nodes"][:3]:
            why = " ".join(element["failureSummary"].split())
            yield f"{rule['id']}: {element['html'][:200]} – {why[:300]}"


async def _frame_problems(tab: Tab) -> list[str]:
    """What each page must have."""
    counts = await tab.evaluate("""() => Object.fromEntries(
      ["main", "h1", "footer", "nav", "form[role=search] input[name=q]"].map(
        (selector) => [selector, document.querySelectorAll(selector).length]
      )
    )""")
    needed = {"main": 1, "h1": 1, "footer": 1}
    found = [f"{counts[name]} {name}" for name, number in needed.items() if counts[name] != number]
    found += [f"no {name}" for name in counts if counts[name] < 1]
    return found if await tab.title() else [*found, "no title"]


@pytest.mark.parametrize("user", USERS, ids=lambda user: user or "stranger")
async def test_sizes_of_pages(tabs: Tabs, user: str) -> None:
    """What is sent for the HTML of each page, compressed."""
    state = await tabs.state_of(user) if user else {"cookies": []}
    cookies = {each["name"]: each["value"] for each in state["cookies"]}
    headers = {"Accept-Encoding": "gzip", "Accept": "text/html"}
    async with aiohttp.ClientSession(tabs.url, cookies=cookies, headers=headers, auto_decompress=False) as session:
        for page in PAGES:
            if page.user == user:
                async with session.get(page.path) as answer:
                    body = await answer.read()
                    size = len(body if "Content-Encoding" in answer.headers else gzip.compress(body))
                    assert size <= MAX_HTML, page.path


async def test_sizes_of_assets(tabs: Tabs) -> None:
    tab = await tabs.open()
    await tab.goto("/")
    addresses = await tab.evaluate(
        "[document.querySelector('link[rel=stylesheet]').href, document.querySelector('script[src]').src]"
    )
    headers = {"Accept-Encoding": "gzip"}
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        for address, most in zip(addresses, (MAX_CSS, MAX_JS), strict=True):
            async with session.get(address, headers=headers) as answer:
                assert answer.headers["Content-Encoding"] == "gzip"
                assert len(await answer.read()) <= most, address
