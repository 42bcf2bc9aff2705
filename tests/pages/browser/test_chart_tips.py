"""Charts tell the value of a bar as soon as it is pointed at."""

import re

import pytest

from tests.pages.browser.tabs import Tabs


@pytest.mark.asyncio(loop_scope="session")
async def test_a_bar_shows_its_value_while_it_is_pointed_at(tabs: Tabs):
    page = await tabs.open()
    await page.goto("/packages/brook-http/stats?range=90&group_by=kind")
    tip = page.locator(".chart-tip")
    for at in ("first", "last"):
        await getattr(page.locator(".chart-slots rect"), at).hover()
        text = await tip.inner_text()
        assert re.match(r".+ 2026: [\d,]+ downloads\n", text), text
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await page.mouse.move(2, 2)
    assert await tip.is_hidden()
