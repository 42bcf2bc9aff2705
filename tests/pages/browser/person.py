"""Somebody who uses the pages: with the mouse, or with the keyboard alone."""

import re
from dataclasses import dataclass

from playwright.async_api import Locator, Page

from tests.client import PASSWORD

MOST_TABS = 200


@dataclass
class Person:
    """`tab` shows the pages. With `by_keyboard`, nothing is clicked: every element is reached by the Tab key."""

    tab: Page
    by_keyboard: bool = False

    async def open(self, path: str) -> None:
        await self.tab.goto(path)

    async def press(self, name: str, *, role: str = "button", within: str = "body", at: int = 0) -> None:
        """Presses a button or follows a link with exactly this name, and waits for the page that follows."""
        found = self.tab.locator(within).get_by_role(role, name=name, exact=True).nth(at)  # type: ignore[arg-type]
        async with self.tab.expect_navigation():
            if self.by_keyboard:
                await self._reach(found)
                await self.tab.keyboard.press("Enter")
            else:
                await found.click()

    async def follow(self, name: str, *, within: str = "body") -> None:
        await self.press(name, role="link", within=within)

    async def type(self, field: str, text: str, *, within: str = "main") -> None:
        """Types into the field of this name."""
        found = self.tab.locator(f'{within} [name="{field}"]:visible').first
        if not self.by_keyboard:
            await found.fill(text)
            return
        await self._reach(found)
        await self.tab.keyboard.press("Control+a")
        await self.tab.keyboard.type(text)

    async def choose(self, field: str, label: str, *, within: str = "main") -> None:
        """Chooses an option of a select."""
        found = self.tab.locator(f'{within} select[name="{field}"]').first
        if not self.by_keyboard:
            await found.select_option(label=label)
            return
        await self._reach(found)
        await self.tab.keyboard.type(label)

    async def check(self, field: str, value: str) -> None:
        """Checks a checkbox that is not checked."""
        found = self.tab.locator(f'main [name="{field}"][value="{value}"]').first
        if not self.by_keyboard:
            await found.check()
            return
        await self._reach(found)
        if not await found.is_checked():
            await self.tab.keyboard.press("Space")

    async def _reach(self, wanted: Locator) -> None:
        """Presses Tab until `wanted` has the focus. Fails if it can't be reached, or if its focus can't be seen."""
        await wanted.wait_for()
        for _ in range(MOST_TABS):
            if await wanted.evaluate("(element) => element === document.activeElement"):
                outline = await wanted.evaluate("(element) => getComputedStyle(element).outlineStyle")
                assert outline != "none", "the focus can't be seen"
                return
            await self.tab.keyboard.press("Tab")
        raise AssertionError(f"The Tab key does not lead to {wanted} on {self.tab.url}")

    async def text(self) -> str:
        """What `main` says."""
        return " ".join((await self.tab.get_by_role("main").inner_text()).split())

    async def sees(self, text: str) -> None:
        """Waits until `main` says it, in any case."""
        await self.tab.get_by_role("main").get_by_text(re.compile(re.escape(text), re.IGNORECASE)).first.wait_for()

    async def register(self, username: str) -> None:
        """Registers from any page, and is signed in afterwards."""
        await self.follow("Register", within="header")
        await self.type("username", username)
        await self.type("password", PASSWORD)
        await self.press("Register", within="main")

    async def sign_in(self, username: str, password: str = PASSWORD) -> None:
        await self.open("/login")
        await self.type("username", username)
        await self.type("password", password)
        await self.press("Sign in", within="main")

    async def sign_out(self) -> None:
        await self.press("Sign out", within="header")

    async def confirm(self, password: str = PASSWORD) -> None:
        """Answers the page that asks for the password again, if it is shown."""
        if await self.tab.locator('main [name="confirm_password"]').count():
            await self.type("confirm_password", password)
            await self.press("Confirm", within="main")

    async def make_token(self, name: str, *scopes: str) -> str:
        """A new API token."""
        await self.open("/account/tokens")
        await self.type("name", name)
        for scope in scopes:
            await self.check("scopes", scope)
        await self.press("Create token", within="main")
        await self.confirm()
        return (await self.tab.locator(".made code").inner_text()).strip()
