"""PostgreSQL behind a faulty network: lost responses, reset connections, a slow server."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from registry.db.engine import Database, Statement
from registry.devstack.postgres import Postgres
from registry.downloads import leftovers
from registry.keys import SETTINGS
from tests.client import Registry, User, tarball
from tests.conftest import MakeRegistry
from tests.downloads.counts import counted
from tests.faults.toxic import Fate, Judge, Link, Toxic, toxic, unix
from tests.until import until

SETTLE_SECONDS = 30.0
_PUBLISHED = Statement("SELECT package || '@' || version AS what FROM events WHERE type = 'version.published'", {})


def at_commit_of(statement: bytes, fate: Fate) -> Judge:
    """Applies `fate`, once, to the COMMIT of a transaction that runs a statement with this text."""
    over = False

    def judge(link: Link, sent: bytes) -> Fate:
        nonlocal over
        if statement in sent:
            link.notes.add("watched")
        if sent.endswith(b"COMMIT\0") and "watched" in link.notes and not over:
            over = True
            return fate
        return Fate.PASS

    return judge


def at_statement(statement: bytes) -> Judge:
    """Resets the connection, once, in place of a statement with this text."""
    over = False

    def judge(link: Link, sent: bytes) -> Fate:
        nonlocal over
        if statement in sent and not over:
            over = True
            return Fate.RESET
        return Fate.PASS

    return judge


@pytest.fixture
async def wire(postgres: Postgres, database_url: str) -> AsyncIterator[Toxic]:
    socket = f"{postgres._socket_dir}/.s.PGSQL.5432"
    async with toxic(unix(socket)) as wire:
        yield wire


@pytest.fixture
async def registry(make_registry: MakeRegistry, wire: Toxic, database_url: str) -> AsyncIterator[Registry]:
    name = urlsplit(database_url).path
    yield await make_registry(REGISTRY_DB_URL=f"postgresql://postgres@127.0.0.1:{wire.port}{name}")
    wire.heal()  # also after a failure: what follows looks into the database


@pytest.fixture
async def ada(registry: Registry) -> User:
    return await registry.user("ada")


async def published(db: Database) -> list[str]:
    async with db.read() as conn:
        return sorted(row.what for row in await conn.all(_PUBLISHED))


@pytest.mark.parametrize("fate", [Fate.RESET, Fate.LOSE_ANSWER])
async def test_a_publish_whose_commit_was_not_answered_happens_once_and_a_retry_gets_the_same_answer(
    fate: Fate, wire: Toxic, ada: User, db: Database
):
    wire.judge = at_commit_of(b"INSERT INTO package_versions", fate)
    data = tarball(name="demo", version="1.0.0", description="A demo")
    key = {"Idempotency-Key": "once"}
    first = await ada.put("demo", "1.0.0", data=data, headers=key)
    assert (first.status, first.json["code"]) == (503, "database_unavailable")
    assert int(first.headers["Retry-After"]) > 0
    assert wire.spoiled == 1
    assert await published(db) == (["demo@1.0.0"] if fate is Fate.LOSE_ANSWER else [])
    answers = [await ada.put("demo", "1.0.0", data=data, headers=key) for _ in range(2)]
    assert [answer.status for answer in answers] == [201, 201]
    assert answers[0].json == answers[1].json
    assert (await ada.put("demo", "1.0.0", data=data)).json["code"] == "version_exists"
    assert await published(db) == ["demo@1.0.0"]
    assert await ada.registry.search("demo") == ["demo"]


@pytest.mark.parametrize("fate", [Fate.RESET, Fate.LOSE_ANSWER])
async def test_a_download_whose_commit_was_not_answered_is_counted_once(fate: Fate, wire: Toxic, ada: User):
    data = tarball(name="demo", version="1.0.0", description="A demo")
    await ada.put("demo", "1.0.0", data=data)
    wire.judge = at_commit_of(b"INSERT INTO download_batches", fate)
    here = "/packages/demo/1.0.0/tarball"
    answers = await asyncio.gather(*(ada.registry.get(here) for _ in range(5)))
    assert {(answer.status, answer.body) for answer in answers} == {(200, data)}
    await until(lambda: wire.spoiled == 1)
    spool = ada.registry.app[SETTINGS].limits.spool_path
    async with asyncio.timeout(SETTLE_SECONDS):
        while leftovers.waiting(spool):
            await asyncio.sleep(0.05)
    assert await counted(ada.registry) == 5


@pytest.mark.parametrize("statement", [b"INSERT INTO packages", b"INSERT INTO package_versions", b"INSERT INTO events"])
async def test_a_publish_cut_at_a_statement_keeps_nothing_and_can_be_repeated(
    statement: bytes, wire: Toxic, ada: User, db: Database
):
    wire.judge = at_statement(statement)
    data = tarball(name="demo", version="1.0.0", description="A demo")
    first = await ada.put("demo", "1.0.0", data=data)
    assert wire.spoiled == 1
    assert (first.status, first.json["code"]) == (503, "database_unavailable")
    assert await published(db) == []
    assert (await ada.put("demo", "1.0.0", data=data)).status == 201
    assert await published(db) == ["demo@1.0.0"]


async def test_a_reset_of_every_connection_loses_nothing_of_what_was_answered(wire: Toxic, ada: User, db: Database):
    """During publishes and downloads. A refused publish is retried with the same Idempotency-Key."""
    await ada.publish("demo")
    here, got = "/packages/demo/1.0.0/tarball", 0
    refused: list[str] = []
    over = False

    async def publish(number: int) -> None:
        name = f"reset-{number}"
        data = tarball(name=name, version="1.0.0", description="Reset")
        while (answer := await ada.put(name, "1.0.0", data=data, headers={"Idempotency-Key": name})).status != 201:
            refused.append(answer.json["code"])
            await asyncio.sleep(0.05)

    async def download() -> None:
        nonlocal got
        while not over:
            answer = await ada.registry.get(here)
            got += answer.status == 200
            if answer.status != 200:
                refused.append(answer.json["code"])
            await asyncio.sleep(0.02)

    async with asyncio.TaskGroup() as tasks:
        downloading = [tasks.create_task(download()) for _ in range(4)]
        for start in range(0, 20, 4):
            publishing = [asyncio.create_task(publish(number)) for number in range(start, start + 4)]
            for _ in range(4):
                await asyncio.sleep(0.03)
                wire.reset_all()
            await asyncio.gather(*publishing)
        over = True
        await asyncio.gather(*downloading)
    assert set(refused) <= {"database_unavailable"}
    assert await published(db) == sorted(["demo@1.0.0", *(f"reset-{number}@1.0.0" for number in range(20))])
    spool = ada.registry.app[SETTINGS].limits.spool_path
    async with asyncio.timeout(SETTLE_SECONDS):
        while leftovers.waiting(spool):
            await asyncio.sleep(0.05)
    assert await counted(ada.registry) == got > 0
    await ada.registry.drain()
    page = await ada.registry.get("/search", params={"q": "reset", "limit": "100"})
    assert (page.json["total"], page.json["degraded"]) == (20, False)


async def test_without_the_database_tarballs_served_lately_go_on_but_none_that_was_deleted(wire: Toxic, ada: User):
    for name in ("kept", "doomed"):
        await ada.publish(name)
    await ada.registry.drain()
    for name in ("kept", "doomed"):
        assert (await ada.registry.get(f"/packages/{name}/1.0.0/tarball")).status == 200
    assert (await ada.call("DELETE", "/packages/doomed/1.0.0")).status == 204
    await ada.registry.drain()
    wire.refusing = True
    wire.reset_all()
    assert (await ada.registry.get("/packages/kept/1.0.0/tarball")).status == 200
    refused = await ada.registry.get("/packages/doomed/1.0.0/tarball")
    assert (refused.status, refused.json["code"]) == (503, "database_unavailable")


async def test_a_slow_database_delays_answers_but_makes_none_wrong(wire: Toxic, ada: User, db: Database):
    data = tarball(name="demo", version="1.0.0", description="A demo")
    await ada.put("demo", "1.0.0", data=data)
    await ada.registry.drain()
    wire.latency = 2.0
    downloads = [ada.registry.get("/packages/demo/1.0.0/tarball") for _ in range(5)]
    publish, search, *answers = await asyncio.gather(
        ada.put("demo", "1.1.0"), ada.registry.get("/search?q=demo"), *downloads
    )
    assert {(answer.status, answer.body) for answer in answers} == {(200, data)}
    assert (search.status, search.json["degraded"]) == (200, False)
    assert publish.status in (201, 503)
    wire.heal()
    assert await published(db) == ["demo@1.0.0", "demo@1.1.0"][: 1 + (publish.status == 201)]
    assert await counted(ada.registry) == 5
