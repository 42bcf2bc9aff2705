"""The doctor and the worker write lost or refused documents for dashboards again, and only those."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from elasticsearch import AsyncElasticsearch

from registry.analytics import consumer as analytics
from registry.analytics.documents import DOWNLOADS, EVENTS, download_place
from registry.db.engine import Statement
from registry.doctor.check import Registry
from registry.doctor.examine import CLEAN, WRONG, Report, all_checks, examine
from tests.doctor.conftest import catch_up

NUMBERS = {"properties": {"registry": {"properties": {"client": {"properties": {"rule": {"type": "long"}}}}}}}


def this_month() -> str:
    return download_place(1, datetime.now(UTC)).index


async def look(registry: Registry, *, repair: bool = False) -> Report:
    return await examine(registry, all_checks(registry, deep=False), repair=repair)


def figures(report: Report) -> dict[str, tuple[int, int]]:
    """(found, left) of each check that found a fault."""
    assert not [result.problem for result in report.results if result.problem]
    return {result.name: (result.found, result.left) for result in report.results if result.found}


async def sql(registry: Registry, text: str) -> None:
    async with registry.db.transaction() as conn:
        await conn.run(Statement(text, {}))


async def cursors(registry: Registry) -> dict[str, int]:
    async with registry.db.read() as conn:
        return {row.name: row.seq for row in await conn.all(Statement("SELECT name, seq FROM consumers", {}))}


async def drop(registry: Registry, *kinds: str) -> None:
    async with AsyncElasticsearch(registry.settings.search.url) as client:
        for kind in kinds:
            pattern = f"{registry.settings.search.prefix}{kind}-*"
            for name in (await client.indices.get(index=pattern, features="aliases")).body:
                await client.indices.delete(index=name)


async def replayed(registry: Registry) -> Sequence[str]:
    assert registry.dashboards is not None
    return await analytics.replay_lost(registry.db, registry.dashboards, registry.settings.downloads.retention)


async def test_the_doctor_writes_missing_documents_and_checks_again(resting: Registry) -> None:
    before = await cursors(resting)
    await drop(resting, DOWNLOADS, EVENTS)
    report = await look(resting, repair=True)
    assert figures(report) == {"dashboard downloads": (1, 0), "dashboard events": (1, 0)}
    assert await cursors(resting) == before
    assert figures(await look(resting)) == {}


async def test_a_refused_document_is_recorded_and_only_this_document_is_written_again(
    resting: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    # This index only takes numbers as names of rules.
    await sql(resting, "UPDATE downloads SET rule = CASE id WHEN 2 THEN 'browser' ELSE '1' END")
    await drop(resting, DOWNLOADS)
    async with AsyncElasticsearch(resting.settings.search.url) as client:
        await client.indices.create(index=f"{resting.settings.search.prefix}{this_month()}", mappings=NUMBERS)
    report = await look(resting, repair=True)
    assert figures(report) == {"dashboard downloads": (1, 0), "refused dashboard documents": (1, 1)}
    assert report.status == WRONG
    [example] = next(result.examples for result in report.results if result.name == "refused dashboard documents")
    assert example.startswith("download-2: document_parsing_exception: ")

    written: list[int] = []

    async def write(_db: object, _index: object, rows: Sequence[object]) -> None:
        written.append(len(rows))

    with monkeypatch.context() as patched:
        patched.setattr(analytics, "write_downloads", write)
        assert figures(await look(resting, repair=True)) == {"refused dashboard documents": (1, 1)}
    assert written == [1]
    assert await replayed(resting) == []

    await sql(resting, "UPDATE downloads SET rule = '2' WHERE id = 2")
    report = await look(resting, repair=True)
    assert (figures(report), report.status) == ({"refused dashboard documents": (1, 0)}, CLEAN)
    assert figures(await look(resting)) == {}


@pytest.mark.parametrize("kind", [DOWNLOADS, EVENTS])
async def test_the_worker_writes_all_documents_again_when_the_index_is_lost(resting: Registry, kind: str) -> None:
    assert await replayed(resting) == []
    await drop(resting, kind)
    assert await replayed(resting) == [kind]
    assert (await cursors(resting))[kind] == 0
    assert await replayed(resting) == []
    await catch_up(resting)
    assert figures(await look(resting)) == {}


async def test_an_index_that_lacks_the_documents_before_its_loss_is_noticed(resting: Registry) -> None:
    assert resting.dashboards is not None
    handled = (await cursors(resting))[DOWNLOADS]
    await drop(resting, DOWNLOADS)
    await analytics.rewrite(resting.db, resting.dashboards, DOWNLOADS, lambda _: True, after=handled - 1)
    assert await replayed(resting) == [DOWNLOADS]
    await catch_up(resting)
    assert figures(await look(resting)) == {}
