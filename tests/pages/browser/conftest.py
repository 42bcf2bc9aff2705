"""One Chromium for the session, and tabs on the seeded registry."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.api_clients import node
from tests.pages.browser.tabs import Tabs, running_browser
from tests.pages.seed import Seeded
from tests.servers import cache_folder


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chrome() -> AsyncIterator[Browser]:
    async with running_browser() as browser:
        yield browser


@pytest.fixture(scope="session")
def signed_in() -> dict[tuple[str, str], Any]:
    """The cookies of users by (address of the registry, user), so that each signs in once."""
    return {}


@pytest_asyncio.fixture(loop_scope="session")
async def tabs(chrome: Browser, seeded: Seeded, signed_in: dict[tuple[str, str], Any]) -> AsyncIterator[Tabs]:
    """Tabs on the seeded registry. At the end, nothing may have been logged in them."""
    opened = Tabs(chrome, seeded.url, signed_in)
    yield opened
    await opened.close()
    assert opened.problems == []


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def axe() -> str:
    """The source of axe-core."""
    packages = await asyncio.to_thread(node.packages, cache_folder(os.environ))
    return (packages / "axe-core" / "axe.min.js").read_text("utf-8")
