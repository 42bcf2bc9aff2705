"""A process is killed between any two steps: nothing is lost, nothing is there twice, and trying again helps."""

import asyncio
import contextlib
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from registry.analytics.consumer import OF_DOWNLOADS
from registry.db.engine import Database, Statement
from registry.downloads import leftovers
from tests.client import API, PASSWORD, Answer, tarball
from tests.faults import ALL, killed
from tests.faults.fleet import Fleet
from tests.faults.load import Load
from tests.faults.truth import examine, index_differences, verify
from tests.service import Service, command_environment, start_service

KILLS = 100 if ALL else 2
DEATH_SECONDS = 60.0
SETTLE_SECONDS = 30.0

_EVENTS = Statement(
    "SELECT count(*) FILTER (WHERE type <> 'package.created') AS changes, count(*) AS count, "
    "coalesce(max(seq), 0) AS last FROM events",
    {},
)
_BEHIND = Statement(
    "SELECT (SELECT max(seq) FROM events) > (SELECT min(seq) FROM consumers WHERE name <> ALL (%(of_downloads)s))", {}
)


def telling(points: list[str], *wanted: int) -> list[str]:
    """All points in `make faults`, else those of these numbers."""
    return points if ALL else [points[number] for number in wanted]


class Victim:
    """A service that dies at the point it is told, and is started again."""

    def __init__(self, folder: Path, environ: dict[str, str], session: aiohttp.ClientSession) -> None:
        self.folder = folder
        self.environ = environ
        self.headers: dict[str, str] = {}
        self._session = session
        self._point = folder / "point"
        self._point.write_text("", "utf-8")

    async def start(self) -> None:
        module = ("tests.faults.killed", str(self._point), "serve")
        self.service: Service = await start_service(self.folder, *module, **self.environ)

    async def sign_in(self, name: str) -> None:
        body = {"username": name, "password": PASSWORD}
        await self.call("POST", "/auth/register", json=body)
        answer = await self.call("POST", "/auth/login", json=body)
        self.headers = {"Authorization": f"Bearer {answer.json['token']}"}

    async def call(self, method: str, path: str, **more: Any) -> Answer:
        headers = self.headers | more.pop("headers", {})
        async with self._session.request(method, f"{self.service.url}{API}{path}", headers=headers, **more) as response:
            return Answer(response.status, response.headers, await response.read())

    async def killed_at(self, point: str, method: str, path: str, **more: Any) -> Answer | None:
        """Has it killed at this request, and started again; what the client got, None for no whole answer."""
        self._point.write_text(point, "utf-8")
        answer = None
        with contextlib.suppress(aiohttp.ClientError):
            answer = await self.call(method, path, **more)
        async with asyncio.timeout(DEATH_SECONDS):
            assert await self.service.process.wait() == -9, point
        assert self._point.read_text("utf-8") == "", point
        await self.start()
        return answer


@pytest.fixture
async def victim(environ: dict[str, str], tmp_path: Path) -> AsyncIterator[Victim]:
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        victim = Victim(tmp_path, environ, session)
        await victim.start()
        try:
            await victim.sign_in("ada")
            yield victim
        finally:
            await victim.service.kill()


def upload(name: str, version: str = "1.0.0") -> dict[str, Any]:
    data = tarball(name=name, version=version, description=f"About {name}")
    return {"data": data, "headers": {"Content-Type": "application/gzip"}}


async def downloads_of(victim: Victim, name: str) -> int:
    return int((await victim.call("GET", f"/packages/{name}/1.0.0")).json["downloads"])


async def until_sent(victim: Victim, count: int) -> None:
    """Waits until the downloads are counted and no batch is left that could be counted again."""
    folder = victim.folder / "SPOOL_PATH"
    async with asyncio.timeout(SETTLE_SECONDS):
        while await downloads_of(victim, "demo") < count or leftovers.waiting(folder):
            await asyncio.sleep(0.05)


async def until_indexed(db: Database) -> None:
    """Waits for the index, and for all other consumers of the event log."""
    async with asyncio.timeout(SETTLE_SECONDS), db.read() as conn:
        while await conn.value(_BEHIND, of_downloads=list(OF_DOWNLOADS)) is not False:
            await asyncio.sleep(0.05)


async def check_log_and_index(environ: dict[str, str], db: Database, events: int) -> None:
    """As many events as changes (a new package has one more), without a gap, and the index shows what they led to."""
    async with db.read() as conn:
        counted = await conn.one(_EVENTS)
    assert (counted.changes, counted.count) == (events, counted.last)
    await until_indexed(db)
    assert await index_differences(db, environ) == {}


async def test_a_publish_cut_short_is_there_whole_or_not_at_all_and_can_be_repeated(victim: Victim, db: Database):
    points = telling(killed.PUBLISH, 7, 12, 13)
    for number, point in enumerate(points):
        name, kept = f"killed-{number}", killed.is_done_at(point, killed.PUBLISH)
        path, sent = f"/packages/{name}/1.0.0", upload(name)
        with_key = number % 2 == 0 or "_REMEMBER" in point
        if with_key:
            sent["headers"]["Idempotency-Key"] = name
        answer = await victim.killed_at(point, "PUT", path, **sent)
        assert answer is None or (answer.status, kept) == (201, True), point
        assert (await victim.call("GET", path)).status == (200 if kept else 404), point
        assert (await victim.call("GET", f"{path}/tarball")).status == (200 if kept else 404), point
        again = await victim.call("PUT", path, **sent)
        assert again.status == (201 if with_key or not kept else 409), (point, again.body)
        assert (await victim.call("GET", f"{path}/tarball")).body == sent["data"], point
        assert (await victim.call("GET", f"/packages/{name}/versions")).json["versions"] == ["1.0.0"], point
    await check_log_and_index(victim.environ, db, len(points))


async def test_a_deletion_cut_short_is_done_or_not_and_so_is_its_taking_back(victim: Victim, db: Database):
    steps = [("DELETE", point, killed.DELETE) for point in telling(killed.DELETE, 6)]
    steps += [("POST", point, killed.RESTORE) for point in telling(killed.RESTORE, 5)]
    sent = upload("demo")
    path, events, deleted = "/packages/demo/1.0.0", 1, False
    await victim.call("PUT", path, **sent)
    async with db.transaction() as conn:
        await conn.run(Statement("UPDATE users SET role = 'admin'", {}))
    await victim.sign_in("ada")
    for method, point, points in steps:
        target, undoes = (path, False) if method == "DELETE" else (f"{path}/restore", True)
        if deleted != undoes:
            await victim.call(*(("POST", f"{path}/restore") if deleted else ("DELETE", path)))
            events += 1
        done = killed.is_done_at(point, points)
        answer = await victim.killed_at(point, method, target)
        assert answer is None or (answer.status, done) == (200 if undoes else 204, True), point
        assert (await victim.call("GET", path)).status == (200 if undoes == done else 404), point
        again = await victim.call(method, target)
        expected = (200, 409) if undoes else (204, 404)
        assert again.status == expected[done], (point, again.body)
        events += 1
        deleted = not undoes
        if undoes:
            assert (await victim.call("GET", f"{path}/tarball")).body == sent["data"], point
    await check_log_and_index(victim.environ, db, events)


async def test_a_download_is_counted_once_when_the_client_got_all_of_it(victim: Victim):
    points = telling(killed.DOWNLOAD, 0, 1, 5, 6)
    sent = upload("demo")
    await victim.call("PUT", "/packages/demo/1.0.0", **sent)
    counted = 0
    for point in points:
        journaled = killed.is_journaled_at(point)
        answer = await victim.killed_at(point, "GET", "/packages/demo/1.0.0/tarball")
        assert answer is None or (answer.body, journaled) == (sent["data"], True), point
        counted += journaled
        assert (await victim.call("GET", "/packages/demo/1.0.0/tarball")).body == sent["data"]
        counted += 1
        await until_sent(victim, counted)
        assert await downloads_of(victim, "demo") == counted, point


async def test_what_was_published_is_found_whenever_the_indexing_process_dies(victim: Victim, db: Database):
    points = telling(killed.INDEX, 3)
    for number, point in enumerate(points):
        path, sent = f"/packages/indexed-{number}/1.0.0", upload(f"indexed-{number}")
        answer = await victim.killed_at(point, "PUT", path, **sent)
        assert answer is None or answer.status == 201, point
        # A consumer that is still behind would reach the next point before the next package is published.
        await until_indexed(db)
    await check_log_and_index(victim.environ, db, len(points))
    page = await victim.call("GET", "/search?q=indexed")
    assert {result["name"] for result in page.json["results"]} == {f"indexed-{n}" for n in range(len(points))}


async def test_a_rebuild_cut_short_leaves_an_index_that_is_searched_and_can_be_rebuilt(victim: Victim, db: Database):
    answer = await victim.call("PUT", "/packages/demo/1.0.0", **upload("demo"))
    found = f"/search?q=demo&min_seq={answer.json['seq']}"
    await victim.call("GET", found)  # from here on the service has no rebuild of its own to do
    for point in telling(killed.REBUILD, 2):
        victim._point.write_text(point, "utf-8")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.faults.killed", str(victim._point), "reindex"),
            env=command_environment(victim.folder, victim.environ),
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(DEATH_SECONDS):
            assert await process.wait() == -9, point
        page = await victim.call("GET", found)
        assert [result["name"] for result in page.json["results"]] == ["demo"], point
        assert page.json["degraded"] is False, point
    await check_log_and_index(victim.environ, db, 1)


async def test_whenever_processes_are_killed_under_load_what_was_answered_holds(
    environ: dict[str, str], tmp_path: Path, db: Database
):
    chance = random.Random(4)
    async with Fleet(tmp_path, 2, environ) as fleet:
        load = Load(fleet, seed=4)
        async with load.running(writers=3, readers=5, rate=40):
            for _ in range(KILLS):
                await asyncio.sleep(chance.uniform(0.1, 1.5))
                member = chance.choice(fleet.members)
                await member.kill()
                await member.start()
            async with load.paused():
                await verify(load, db)
                await examine(load)
    assert load.problems == []
    assert load.model.events > 0
    assert sum(load.done.values()) > KILLS
