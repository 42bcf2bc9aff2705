"""A process stands still (SIGSTOP, a paused machine) between any two steps: the others work on, and it does no harm."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import psutil
import pytest

from registry.db.engine import Database
from tests.client import API, PASSWORD, Answer
from tests.faults import killed
from tests.faults.test_kills import check_log_and_index, telling, upload
from tests.service import Service, serving_process

WAIT_SECONDS = 60.0


class Pair:
    """Two processes of one registry; the first can be frozen at a point of its work."""

    def __init__(self, folder: Path, session: aiohttp.ClientSession, frozen: Service, other: Service) -> None:
        self.frozen, self.other = frozen, other
        self.headers: dict[str, str] = {}
        self._point = folder / "point"
        self._session = session

    async def call(self, service: Service, method: str, path: str, **more: object) -> Answer:
        headers = self.headers | more.pop("headers", {})  # type: ignore[operator]
        async with self._session.request(method, f"{service.url}{API}{path}", headers=headers, **more) as response:
            return Answer(response.status, response.headers, await response.read())

    async def freeze_at(self, point: str, method: str, path: str, **more: object) -> "asyncio.Task[Answer]":
        """The request that is answered once the process goes on."""
        self._point.write_text(killed.FREEZE + point, "utf-8")
        request = asyncio.create_task(self.call(self.frozen, method, path, **more))
        async with asyncio.timeout(WAIT_SECONDS):
            while psutil.Process(self.frozen.process.pid).status() != psutil.STATUS_STOPPED:
                await asyncio.sleep(0.02)
        assert self._point.read_text("utf-8") == "", point
        return request

    def thaw(self) -> None:
        self.frozen.process.send_signal(signal.SIGCONT)


@pytest.fixture
async def pair(environ: dict[str, str], tmp_path: Path) -> AsyncIterator[Pair]:
    """The first process leads the consumers: it starts first."""
    (tmp_path / "point").write_text("", "utf-8")
    module = ("tests.faults.killed", str(tmp_path / "point"), "serve")
    async with AsyncExitStack() as stack:
        connector = aiohttp.TCPConnector(force_close=True)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector, auto_decompress=False))
        frozen = await stack.enter_async_context(serving_process(tmp_path, *module, **environ))
        body = {"username": "ada", "password": PASSWORD}
        async with session.post(f"{frozen.url}{API}/auth/register", json=body) as response:
            assert response.status == 201
        async with session.post(f"{frozen.url}{API}/auth/login", json=body) as response:
            token = (await response.json())["token"]
        other = await stack.enter_async_context(serving_process(tmp_path, log="other.log", **environ))
        pair = Pair(tmp_path, session, frozen, other)
        pair.headers = {"Authorization": f"Bearer {token}"}
        yield pair


async def until_found(pair: Pair, service: Service, name: str) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            page = await pair.call(service, "GET", f"/search?q={name}")
            if [result["name"] for result in page.json["results"]] == [name] and not page.json["degraded"]:
                return
            await asyncio.sleep(0.1)


async def test_others_publish_while_a_process_stands_still_at_any_step_of_a_publish(
    pair: Pair, environ: dict[str, str], db: Database
):
    points = telling(killed.PUBLISH, 9, 10, 11)
    for number, point in enumerate(points):
        path, sent = f"/packages/frozen-{number}/1.0.0", upload(f"frozen-{number}")
        with_key = "_REMEMBER" in point or number % 2 == 0
        if with_key:
            sent["headers"]["Idempotency-Key"] = path
        request = await pair.freeze_at(point, "PUT", path, **sent)
        elsewhere = await pair.call(pair.other, "PUT", f"/packages/other-{number}/1.0.0", **upload(f"other-{number}"))
        assert elsewhere.status == 201, (point, elsewhere.body)
        pair.thaw()
        async with asyncio.timeout(WAIT_SECONDS):
            answer = await request
        assert answer.status in (201, 503), (point, answer.body)
        again = await pair.call(pair.frozen, "PUT", path, **sent)
        kept = answer.status == 201 and not with_key
        assert again.status == (409 if kept else 201), (point, again.body)
        assert (await pair.call(pair.frozen, "GET", f"{path}/tarball")).body == sent["data"], point
    await check_log_and_index(environ, db, 2 * len(points))


async def test_the_same_package_is_published_while_a_process_stands_still_with_its_row(pair: Pair):
    """Without an Idempotency-Key, no process holds the row between two round trips."""
    await pair.call(pair.frozen, "PUT", "/packages/demo/1.0.0", **upload("demo"))
    sent = upload("demo", "1.1.0")
    sent["headers"]["Idempotency-Key"] = "demo"
    request = await pair.freeze_at(killed.NEXT, "PUT", "/packages/demo/1.1.0", **sent)
    elsewhere = await pair.call(pair.other, "PUT", "/packages/demo/1.2.0", **upload("demo", "1.2.0"))
    assert elsewhere.status == 201, elsewhere.body
    pair.thaw()
    async with asyncio.timeout(WAIT_SECONDS):
        answer = await request
    assert (answer.status, answer.json["code"]) == (503, "database_unavailable")
    assert (await pair.call(pair.frozen, "PUT", "/packages/demo/1.1.0", **sent)).status == 201


@pytest.mark.parametrize("point", telling(killed.DOWNLOAD, 1))
async def test_downloads_are_counted_while_a_process_stands_still_with_its_own(pair: Pair, point: str):
    sent = upload("demo")
    await pair.call(pair.frozen, "PUT", "/packages/demo/1.0.0", **sent)
    request = await pair.freeze_at(point, "GET", "/packages/demo/1.0.0/tarball")
    assert (await pair.call(pair.other, "GET", "/packages/demo/1.0.0/tarball")).body == sent["data"]
    pair.thaw()
    async with asyncio.timeout(WAIT_SECONDS):
        assert (await request).body == sent["data"]
        while (await pair.call(pair.other, "GET", "/packages/demo/1.0.0")).json["downloads"] < 2:
            await asyncio.sleep(0.1)
    assert (await pair.call(pair.frozen, "GET", "/packages/demo/1.0.0")).json["downloads"] == 2


@pytest.mark.parametrize("point", telling(killed.INDEX, 3))
async def test_another_process_indexes_while_the_leader_stands_still(
    pair: Pair, environ: dict[str, str], db: Database, point: str
):
    """The first process leads: it started first. What it does once it goes on overwrites nothing."""
    request = await pair.freeze_at(point, "PUT", "/packages/first/1.0.0", **upload("first"))
    published = await pair.call(pair.other, "PUT", "/packages/second/1.0.0", **upload("second"))
    assert published.status == 201
    await until_found(pair, pair.other, "first")
    await until_found(pair, pair.other, "second")
    pair.thaw()
    async with asyncio.timeout(WAIT_SECONDS):
        assert (await request).status in (201, 503)
    await until_found(pair, pair.frozen, "second")
    await check_log_and_index(environ, db, 2)
