"""The clock of the service steps, back by an hour or on by a day: nothing is lost, doubled or refused for it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from registry.db.engine import Database, Statement
from tests.client import API, PASSWORD, Answer, tarball
from tests.faults.truth import index_differences
from tests.service import Service, serving_process

STEPS = [timedelta(hours=-1), timedelta(days=1)]
STEP_SECONDS = 20.0
DOWNLOADS = 3

_EVENTS = Statement(
    "SELECT count(*) FILTER (WHERE type <> 'package.created') AS changes, count(*) AS count, "
    "coalesce(max(seq), 0) AS last FROM events",
    {},
)
_BEHIND = Statement("SELECT (SELECT max(seq) FROM events) > (SELECT seq FROM consumers WHERE name = 'search')", {})
_COUNTED = Statement(
    "SELECT (SELECT count(*) FROM downloads WHERE status < 400), (SELECT sum(count) FROM registry_days)", {}
)


class Stepped:
    """A service and its clock."""

    def __init__(self, service: Service, session: aiohttp.ClientSession, clock: Path) -> None:
        self._service = service
        self._session = session
        self._clock = clock
        self.token = ""

    async def call(self, method: str, path: str, **more: Any) -> Answer:
        """Fails on a 5xx."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        headers |= more.pop("headers", {})
        address = f"{self._service.url}{API}{path}"
        async with self._session.request(method, address, headers=headers, **more) as response:
            answer = Answer(response.status, response.headers, await response.read())
        assert answer.status < 500, answer.body
        return answer

    async def publish(self, name: str) -> None:
        data = tarball(name=name, version="1.0.0", description=f"About {name}")
        headers = {"Content-Type": "application/gzip"}
        answer = await self.call("PUT", f"/packages/{name}/1.0.0", data=data, headers=headers)
        assert answer.status == 201, answer.body
        for _ in range(DOWNLOADS):
            assert (await self.call("GET", f"/packages/{name}/1.0.0/tarball")).body == data

    async def login(self) -> str:
        answer = await self.call("POST", "/auth/login", json={"username": "ada", "password": PASSWORD})
        return str(answer.json["token"])

    async def step(self, by: timedelta) -> None:
        self._clock.write_text(str(by.total_seconds()), "ascii")
        async with asyncio.timeout(STEP_SECONDS):
            while abs(await self._ahead() - by) > timedelta(minutes=1):
                await asyncio.sleep(0.05)

    async def _ahead(self) -> timedelta:
        told = (await self.call("GET", "/health")).json["timestamp"]
        return datetime.fromisoformat(told) - datetime.now(UTC)


@pytest.fixture
async def stepped(environ: dict[str, str], tmp_path: Path) -> AsyncIterator[Stepped]:
    clock = tmp_path / "clock"
    clock.write_text("0", "ascii")
    limits = {"REGISTRY_RATE_LIMITS": "login=50/hour,publish=50/hour"}
    module = ("tests.faults.stepped", str(clock), "serve")
    async with (
        serving_process(tmp_path, *module, **environ | limits) as service,
        aiohttp.ClientSession(auto_decompress=False) as session,
    ):
        stepped = Stepped(service, session, clock)
        await stepped.call("POST", "/auth/register", json={"username": "ada", "password": PASSWORD})
        stepped.token = await stepped.login()
        yield stepped


@pytest.mark.parametrize("by", STEPS, ids=["back", "on"])
async def test_a_step_of_the_clock_loses_nothing_and_doubles_nothing(
    by: timedelta, stepped: Stepped, environ: dict[str, str], db: Database
):
    await stepped.publish("before-it")
    ended = await stepped.login()
    await stepped.call("POST", "/auth/logout", headers={"Authorization": f"Bearer {ended}"})
    made = await stepped.call("POST", "/auth/tokens", json={"name": "ci", "scopes": ["publish"]})
    first, last = stepped.token, await stepped.login()

    await stepped.step(by)
    for name, token in (("after-it", first), ("by-token", made.json["token"]), ("by-login", await stepped.login())):
        stepped.token = token
        await stepped.publish(name)
    refused = await stepped.call("GET", "/auth/me", headers={"Authorization": f"Bearer {ended}"})
    assert refused.status == 401, "a token that was revoked holds again"

    await stepped.step(timedelta(0))
    stepped.token = last
    await stepped.publish("back-again")
    names = ["before-it", "after-it", "by-token", "by-login", "back-again"]
    async with asyncio.timeout(STEP_SECONDS), db.read() as conn:
        while tuple(await conn.one(_COUNTED)) != (len(names) * DOWNLOADS, len(names) * DOWNLOADS):
            await asyncio.sleep(0.05)
    for name in names:
        assert (await stepped.call("GET", f"/packages/{name}")).json["downloads"]["week"] == DOWNLOADS
    page = await stepped.call("GET", "/packages?sort=recently-updated")
    assert [package["name"] for package in page.json["packages"]] == names[::-1]
    async with asyncio.timeout(STEP_SECONDS), db.read() as conn:
        events = await conn.one(_EVENTS)
        assert (events.changes, events.count) == (len(names), events.last)
        assert tuple(await conn.one(_COUNTED)) == (len(names) * DOWNLOADS, len(names) * DOWNLOADS)
        while await conn.value(_BEHIND) is not False:
            await asyncio.sleep(0.05)
    assert await index_differences(db, environ) == {}
