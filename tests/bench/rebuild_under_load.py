"""Does anything get lost while the index is rebuilt? Publishes, deletes and searches meanwhile.

    python -m tests.bench.rebuild_under_load [--api http://127.0.0.1:8080]

Works on a running registry with packages in it and the limits off (REGISTRY_RATE_LIMITS=off). Prints one JSON line;
exits 1 when a search failed, was answered without the search engine, or missed what was there.
"""

import argparse
import asyncio
import json
import random
import secrets
import sys
import time
from typing import Any

import aiohttp

from registry.db.engine import open_database
from registry.search.index import open_search
from registry.search.rebuild import rebuild
from registry.settings import Settings
from tests.bench.catalogue import settings_of_what_runs
from tests.client import tarball

PASSWORD = "Correct-Horse-42"
SEARCHERS = 2
SAMPLE = 2000
MANIFEST = {"description": "Published during a rebuild"}


class Load:
    """What goes on meanwhile, and what came of it."""

    def __init__(self, session: aiohttp.ClientSession, names: list[str]) -> None:
        self._session = session
        self._names = names
        self.over = asyncio.Event()
        self.published: list[str] = []
        self.deleted: list[str] = []
        self.seq = 0
        self.searches = 0
        self.wrong: list[str] = []

    async def search(self) -> None:
        """Names that were there before must come, whatever goes on."""
        chance = random.Random(secrets.token_bytes(8))
        while not self.over.is_set():
            await self.find(chance.choice(self._names))

    async def find(self, name: str, *, there: bool = True, **params: str) -> None:
        async with self._session.get("search", params={"q": name, **params}) as response:
            page = await response.json()
        self.searches += 1
        found = response.status == 200 and any(result["name"] == name for result in page["results"])
        if response.status != 200 or page["degraded"] or found != there:
            self.wrong.append(name)

    async def publish_and_delete(self) -> None:
        """Every second package that is published is deleted again."""
        while not self.over.is_set():
            name = f"rebuilt-{secrets.token_hex(5)}"
            data = tarball({"name": name, "version": "1.0.0", **MANIFEST})
            async with self._session.put(f"packages/{name}/1.0.0", data=data) as response:
                assert response.status == 201, await response.text()
                self.seq = (await response.json())["package"]["seq"]
            (self.published if len(self.published) == len(self.deleted) else self.deleted).append(name)
            if name in self.deleted:
                async with self._session.delete(f"packages/{name}/1.0.0") as response:
                    assert response.status == 204, await response.text()
            await asyncio.sleep(0.05)


async def measure(api: str, settings: Settings) -> dict[str, Any]:
    async with aiohttp.ClientSession(f"{api}/api/v1/", headers={"Content-Type": "application/gzip"}) as session:
        await sign_in(session)
        load = Load(session, await names(session))
        tasks = [asyncio.create_task(load.search()) for _ in range(SEARCHERS)]
        tasks.append(asyncio.create_task(load.publish_and_delete()))
        began = time.perf_counter()
        async with open_database(settings.database) as db, open_search(settings.search) as index:
            await rebuild(db, index)
            packages = await index.count("packages")
        seconds = time.perf_counter() - began
        load.over.set()
        await asyncio.gather(*tasks)
        for name in load.published:
            await load.find(name, min_seq=str(load.seq))
        await asyncio.sleep(2)  # the last deletion may be later than the last publish
        for name in load.deleted:
            await load.find(name, there=False)
    return {
        "figure": "rebuild_under_load", "packages": packages, "seconds": round(seconds, 1), "searches": load.searches,
        "published": len(load.published) + len(load.deleted), "deleted": len(load.deleted), "wrong": len(load.wrong),
        "examples": load.wrong[:5],
    }  # fmt: skip


async def sign_in(session: aiohttp.ClientSession) -> None:
    user = {"username": f"u{secrets.token_hex(6)}", "password": PASSWORD}
    for action in ("register", "login"):
        async with session.post(f"auth/{action}", json=user, headers={"Content-Type": "application/json"}) as response:
            answer = await response.json()
            assert response.status in (200, 201), answer
    session.headers["Authorization"] = f"Bearer {answer['token']}"


async def names(session: aiohttp.ClientSession) -> list[str]:
    """The most downloaded, whose own names find them first."""
    found: list[str] = []
    for offset in range(0, SAMPLE, 100):
        async with session.get("packages", params={"sort": "downloads", "limit": "100", "offset": str(offset)}) as page:
            found += [package["name"] for package in (await page.json())["packages"]]
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Rebuild the index while it is used.")
    parser.add_argument("--api", default="http://127.0.0.1:8080")
    figures = asyncio.run(measure(parser.parse_args().api, settings_of_what_runs()))
    print(json.dumps(figures))
    sys.exit(1 if figures["wrong"] else 0)
