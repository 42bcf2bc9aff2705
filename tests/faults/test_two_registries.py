"""A mirror misses nothing while the processes of its source and its own are killed, and it notices altered rows."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from registry.db.engine import Database, Statement
from registry.devstack.postgres import Postgres
from tests.changes.reading import check_chain
from tests.conftest import LOG_KEY, new_database
from tests.faults import ALL
from tests.faults.fleet import Fleet, Member, without_search
from tests.faults.mirror import Client, Mirror
from tests.service import run_command

PUBLISHES, YANKS, DELETES, KILLS = (5000, 200, 100, 45) if ALL else (30, 4, 3, 2)
PACKAGES = 500
AT_ONCE = 8
LAST = "the-last-one"
# A guard against code that hangs.
SECONDS = 3600 if ALL else 120


@pytest.fixture
async def registries(postgres: Postgres, database_url: str, tmp_path: Path) -> AsyncIterator[tuple[Client, Client]]:
    """A registry of two processes, and one of a single process. They have nothing in common."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))
        )
        clients = []
        other_url = stack.enter_context(new_database(postgres, "synapse"))
        for name, url, count in (("source", database_url, 2), ("copy", other_url, 1)):
            folder = tmp_path / name
            folder.mkdir()
            environ = {**without_search(url), "REGISTRY_LOG_KEY": LOG_KEY}
            fleet = await stack.enter_async_context(Fleet(folder, count, environ))
            clients.append(Client(fleet, session, random.Random(7)))
            await clients[-1].sign_in()
        yield clients[0], clients[1]


class Use:
    """Publishes, yanks and deletes in a registry. `published` are the seqs of what was published."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.published: list[int] = []
        self._free = asyncio.Semaphore(AT_ONCE)

    async def work(self, number: int) -> None:
        async with self._free:
            name, version = f"demo-{number % PACKAGES}", f"{number // PACKAGES}.{number}.0"
            self.published.append(await self.client.publish(name, version))
            if number < YANKS:
                body = {"yanked": True, "reason": f"Bug {number}"}
                await self.client.call("PATCH", f"/packages/{name}/{version}", json=body)
            elif number < YANKS + DELETES:
                await self.client.call("DELETE", f"/packages/{name}/{version}", 404)


async def kill_at_random(members: list[Member], use: Use, mirror: Mirror) -> None:
    """Kills processes and starts them again, at random moments between the first publish and the last copied one."""
    chance = random.Random(11)
    for moment in sorted(chance.sample(range(2 * PUBLISHES), KILLS)):
        while len(use.published) + len(mirror.seen) < moment:
            await asyncio.sleep(0.05)
        member = chance.choice(members)
        await member.kill()
        await member.start()


async def run(source: Client, copy: Client) -> tuple[Use, Mirror]:
    """Uses `source` while a mirror copies it and processes of both are killed."""
    use, mirror = Use(source), Mirror(source, copy, LAST)

    async def act() -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(PUBLISHES):
                tasks.create_task(use.work(number))
        use.published.append(await source.publish(LAST, "1.0.0"))

    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
        tasks.create_task(act())
        tasks.create_task(mirror.follow())
        tasks.create_task(kill_at_random([*source.fleet.members, *copy.fleet.members], use, mirror))
    return use, mirror


async def read_all(client: Client) -> list[Any]:
    found: list[Any] = []
    while page := (await client.call("GET", f"/changes?limit=1000&since={found[-1]['seq'] if found else 0}"))[
        "changes"
    ]:
        found += page
    return found


def acts(changes: list[Any]) -> list[tuple[str, str, str]]:
    """What was done to versions, in order."""
    return [(each["type"], each["package"], each["version"]) for each in changes if each["version"] is not None]


async def verify(client: Client, *options: str) -> tuple[int, str]:
    """(exit status, what it prints) of `log verify`."""
    fleet = client.fleet
    status, out, err = await run_command(fleet.folder, "log", "verify", *options, **fleet.environ)
    return status, out + err


async def check_named(client: Client, *, in_database: int, by_url: int) -> None:
    """Fails unless `log verify` names these seqs as the first ones that do not fit."""
    results = await asyncio.gather(verify(client), verify(client, "--url", await client.url()))
    for seq, (status, text) in zip((in_database, by_url), results, strict=True):
        assert (status, f"Change {seq} does not fit" in text) == (1, True), text


async def check_tampering(client: Client, db: Database, seen: list[Any]) -> None:
    """Changes a row, changes it back, and removes it. From outside, a removed change is seen at the one after it."""

    async def sql(text: str, **values: Any) -> None:
        async with db.transaction() as conn:
            assert await conn.run(Statement(text, {}), **values) == 1

    place = next(place for place, change in enumerate(seen) if change["type"] == "version.yanked")
    seq, following = seen[place]["seq"], seen[place + 1]["seq"]
    change_reason = "UPDATE events SET data = jsonb_build_object('reason', %(reason)s::text) WHERE seq = %(seq)s"
    await sql(change_reason, reason="forged", seq=seq)
    await check_named(client, in_database=seq, by_url=seq)
    await sql(change_reason, reason=seen[place]["details"]["reason"], seq=seq)
    await sql("DELETE FROM events WHERE seq = %(seq)s", seq=seq)
    await check_named(client, in_database=seq, by_url=following)


async def test_a_mirror_equals_its_source_and_names_a_tampered_row(registries: tuple[Client, Client], db: Database):
    source, copy = registries
    use, mirror = await run(source, copy)
    seen = mirror.seen
    check_chain(seen)
    assert await read_all(source) == seen
    types = [change["type"] for change in seen]
    assert types.count("version.published") == len(use.published) == PUBLISHES + 1
    assert (types.count("version.yanked"), types.count("version.deleted")) == (YANKS, DELETES)
    assert set(use.published) <= {change["seq"] for change in seen}

    assert await copy.packages() == await source.packages()
    copied = await read_all(copy)
    check_chain(copied)
    assert acts(copied) == [act for act in acts(seen) if act[1:] not in mirror.skipped]

    for client, changes in ((source, seen), (copy, copied)):
        status, text = await verify(client, "--url", await client.url())
        assert (status, text.split()[0]) == (0, str(len(changes))), text
    await check_tampering(source, db, seen)
