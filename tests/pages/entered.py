"""Browsers that are signed in without the sign-in page, for tests of other pages."""

from yarl import URL

from registry.accounts.login import login
from registry.accounts.sessions.manage import Browser
from registry.keys import DB, SETTINGS
from tests.accounts.authenticating import announce_all
from tests.client import PASSWORD, Registry
from tests.pages.visitor import Visitor


async def entered(registry: Registry, username: str, *, admin: bool = False, exists: bool = False) -> Visitor:
    """A new browser of a user, who is made if new. Close it with `async with`."""
    if not exists:
        await registry.user(username, admin=admin)
    app = registry.app
    _, token, _ = await login(app[DB], app[SETTINGS].accounts, username, PASSWORD, browser=Browser())
    visitor = Visitor(registry.url)
    visitor._session.cookie_jar.update_cookies({"session": token}, URL(registry.url))
    return visitor


async def expire_confirmations(registry: Registry) -> None:
    """Makes every session one whose user signed in an hour ago."""
    async with registry.app[DB].transaction() as conn:
        await conn.command(
            "UPDATE sessions SET confirmed_at = now() - interval '1 hour' WHERE confirmed_at IS NOT NULL"
        )
        await announce_all(conn)
