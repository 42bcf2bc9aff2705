"""`python -m tests.pages.screenshots [--url URL] [NAME...]` takes pictures of pages in both themes and three widths.

Without a URL it starts a registry that is filled for pages. Names are those of tests/pages/browser/table.py; without
names, all pages. The pictures are in build/screenshots.
"""

import argparse
import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from ephemeral_port_reserve import reserve
from playwright.async_api import Page as Tab

from tests.pages.browser.table import PAGES, THEMES, WIDTHS, Page
from tests.pages.browser.tabs import Tabs, running_browser
from tests.pages.seed import until_indexed
from tests.pages.serve import filled
from tests.service import serving_process

FOLDER = Path("build/screenshots")
HEIGHT, HIGHEST = 900, 6000


async def main(url: str, names: Sequence[str]) -> None:
    pages = [page for page in PAGES if not names or page.name in names]
    if url:
        await _take(url, pages)
        return
    print("Starting a registry ...", flush=True)
    async with filled(reserve(), os.environ) as (folder, settings), serving_process(folder, **settings) as service:
        await until_indexed(settings["REGISTRY_DB_URL"])
        await _take(service.url, pages)


async def _take(url: str, pages: Sequence[Page]) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    async with running_browser() as browser:
        tabs, opened = Tabs(browser, url), dict[str, Tab]()
        for number, page in enumerate(pages, 1):
            print(f"{number}/{len(pages)} {page.name}", flush=True)
            if page.user not in opened:
                opened[page.user] = await tabs.open(page.user)
            await _take_page(opened[page.user], page)
        await tabs.close()


async def _take_page(tab: Tab, page: Page) -> None:
    for width in WIDTHS:
        await tab.set_viewport_size({"width": width, "height": HEIGHT})
        await tab.goto(page.path)
        high = min(HIGHEST, await tab.evaluate("document.documentElement.scrollHeight"))
        clip = {"x": 0.0, "y": 0.0, "width": float(width), "height": float(max(high, HEIGHT))}
        for theme in THEMES:
            await tab.emulate_media(color_scheme=theme)
            file = FOLDER / f"{page.name}-{theme}-{width}.png"
            await tab.screenshot(path=file, full_page=True, clip=clip)  # type: ignore[arg-type]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.pages.screenshots")
    parser.add_argument("--url", default="", help="a running registry, such as one of tests.pages.serve")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a page of the table")
    options = parser.parse_args()
    asyncio.run(main(options.url, options.names))
