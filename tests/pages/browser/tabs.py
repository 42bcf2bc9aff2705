"""Tabs of a real browser whose console must stay silent."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright

from tests.pages.browser import chromium
from tests.pages.browser.person import Person

# What Chromium logs for the page itself if its status is an error, as that of a page that says so.
_ERROR_STATUS = "Failed to load resource: the server responded with a status of"
MILLISECONDS = 20_000.0
# Before anything else runs: collects what moved after it was painted.
_WATCH_SHIFTS = """
window.shifts = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifts += entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""


@dataclass
class Tabs:
    """Opens tabs, each in a browser context of its own. `problems` are errors of console, scripts and policies."""

    browser: Browser
    url: str
    signed_in: dict[tuple[str, str], Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    contexts: list[BrowserContext] = field(default_factory=list)

    async def open(self, user: str = "", *, width: int = 1440, script: bool = True, url: str = "", **more: Any) -> Page:
        """A blank tab. `user` is signed in. Addresses are relative to `url`, or to the seeded registry."""
        base = url or self.url
        context = await self.browser.new_context(
            base_url=base,
            viewport={"width": width, "height": 900},
            java_script_enabled=script,
            storage_state=await self.state_of(user, base) if user else None,
            reduced_motion="reduce",
            **more,
        )
        self.contexts.append(context)
        context.set_default_timeout(MILLISECONDS)
        if script:
            await context.add_init_script(_WATCH_SHIFTS)
        page = await context.new_page()
        page.on("console", lambda message: self._note(page, message))
        page.on("pageerror", lambda error: self.problems.append(f"{page.url}: {error}"))
        return page

    def _note(self, page: Page, message: ConsoleMessage) -> None:
        is_own_status = message.text.startswith(_ERROR_STATUS) and message.location["url"] == page.url
        if message.type in ("error", "warning") and not is_own_status:
            self.problems.append(f"{page.url}: {message.type}: {message.text} ({message.location['url']})")

    async def state_of(self, user: str, url: str = "") -> Any:
        """The cookies of a user who signed in once on the page."""
        url = url or self.url
        if (url, user) not in self.signed_in:
            context = await self.browser.new_context(base_url=url)
            context.set_default_timeout(MILLISECONDS)
            page = await context.new_page()
            await Person(page).sign_in(user)
            assert "/login" not in page.url, page.url
            self.signed_in[url, user] = await context.storage_state()
            await context.close()
        return self.signed_in[url, user]

    async def close(self) -> None:
        for context in self.contexts:
            await context.close()


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """Chromium. It has a sandbox unless it runs as root, for whom Chromium offers none."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium.find(), args=chromium.ARGUMENTS, chromium_sandbox=os.geteuid() != 0
        )
        yield browser
        await browser.close()
