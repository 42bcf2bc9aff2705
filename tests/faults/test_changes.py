"""A reader of the log of changes misses nothing while both processes of a registry are killed."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from registry.db.engine import Database, Statement
from tests.changes.reading import Stream, check_chain
from tests.client import API, PASSWORD, tarball
from tests.conftest import LOG_KEY
from tests.faults import ALL
from tests.faults.fleet import Fleet
from tests.service import run_command

PUBLISHES, YANKS, DELETES, KILLS = (5000, 200, 100, 40) if ALL else (40, 6, 4, 2)
AT_ONCE = 8
LAST = "the-last-one"


class Client:
    """Acts on whichever process is up, and tries again on another one if that process dies."""

    def __init__(self, fleet: Fleet, session: aiohttp.ClientSession, chance: random.Random) -> None:
        self.fleet = fleet
        self.session = session
        self.chance = chance
        self.headers: dict[str, str] = {}

    async def url(self) -> str:
        return f"{(await self.fleet.choose(self.chance)).service.url}{API}"

    async def call(self, method: str, path: str, *also: int, **more: Any) -> Any:
        """The JSON of the answer, None for no JSON. A status of `also` means that an earlier try succeeded."""
        headers = self.headers | more.pop("headers", {})
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with self.session.request(method, await self.url() + path, headers=headers, **more) as response:
                    if response.status < 300:
                        return await response.json() if response.status != 204 else None
                    if response.status in also:
                        return None
                    assert response.status == 503, (response.status, await response.text())
            await asyncio.sleep(0.1)

    async def sign_in(self) -> None:
        body = {"username": "ada", "password": PASSWORD}
        await self.call("POST", "/auth/register", 409, json=body)
        self.headers = {"Authorization": f"Bearer {(await self.call('POST', '/auth/login', json=body))['token']}"}

    async def publish(self, name: str, version: str) -> int:
        headers = {"Content-Type": "application/gzip", "Idempotency-Key": f"{name}-{version}"}
        data = tarball(name=name, version=version, description="x")
        answer = await self.call("PUT", f"/packages/{name}/{version}", data=data, headers=headers)
        return int(answer["seq"])


def is_complete(seen: list[Any]) -> bool:
    return bool(seen) and (seen[-1]["package"], seen[-1]["type"]) == (LAST, "version.published")


async def follow(client: Client, seen: list[Any]) -> None:
    """Adds all changes to `seen` until LAST is published. Uses streams and, in between, waiting requests."""
    while not is_complete(seen):
        last = seen[-1]["seq"] if seen else 0
        page = await client.call("GET", f"/changes?since={last}&wait=5&limit=50")
        seen += page["changes"]
        headers = {"Last-Event-ID": str(seen[-1]["seq"] if seen else 0)}
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, AssertionError):
            async with client.session.get(f"{await client.url()}/changes/stream", headers=headers) as response:
                stream = Stream(response)
                while not is_complete(seen):
                    seen.append((await stream.event())[2])


@pytest.fixture
async def client(environ: dict[str, str], tmp_path: Path) -> AsyncIterator[Client]:
    connector = aiohttp.TCPConnector(force_close=True)
    async with (
        Fleet(tmp_path, 2, {**environ, "REGISTRY_LOG_KEY": LOG_KEY}) as fleet,
        aiohttp.ClientSession(connector=connector) as session,
    ):
        client = Client(fleet, session, random.Random(7))
        await client.sign_in()
        yield client


async def test_a_reader_has_the_whole_log_and_a_tampered_row_is_named(client: Client, db: Database, tmp_path: Path):
    seen: list[Any] = []
    reading = asyncio.create_task(follow(client, seen))
    published: list[int] = []
    works = asyncio.Semaphore(AT_ONCE)
    kills = [PUBLISHES * (number + 1) // (KILLS + 1) for number in range(KILLS)]

    async def work(number: int) -> None:
        async with works:
            name = f"demo-{number % 500}"
            version = f"{number // 500}.{number}.0"
            published.append(await client.publish(name, version))
            if number < YANKS:
                await client.call("PATCH", f"/packages/{name}/{version}", json={"yanked": True, "reason": "x"})
            elif number < YANKS + DELETES:
                await client.call("DELETE", f"/packages/{name}/{version}", 404)

    async def kill() -> None:
        for count in kills:
            while len(published) < count:
                await asyncio.sleep(0.05)
            member = client.chance.choice(client.fleet.members)
            await member.kill()
            await member.start()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(kill())
        for number in range(PUBLISHES):
            tasks.create_task(work(number))
    await client.publish(LAST, "1.0.0")
    async with asyncio.timeout(120):
        await reading
    check_chain(seen)
    types = [change["type"] for change in seen]
    assert types.count("version.published") == PUBLISHES + 1
    assert (types.count("version.yanked"), types.count("version.deleted")) == (YANKS, DELETES)
    assert set(published) <= {change["seq"] for change in seen}
    url = (await client.fleet.choose(client.chance)).service.url
    status, out, err = await run_command(tmp_path, "log", "verify", "--url", url)
    assert (status, out.split()[0]) == (0, str(len(seen))), err
    tampered = seen[len(seen) // 2]["seq"]
    async with db.transaction() as conn:
        await conn.run(Statement("UPDATE events SET version = '6.6.6' WHERE seq = %(seq)s", {}), seq=tampered)
    status, _, err = await run_command(tmp_path, "log", "verify", "--url", url)
    assert (status, f"Change {tampered} does not fit" in err) == (1, True), err
