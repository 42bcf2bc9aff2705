"""The catalogue loader keeps the registry's own laws."""

import asyncio
import gzip
from pathlib import Path

import pytest

from registry.events import log as event_log
from registry.keys import DB, SETTINGS
from tests.bench.catalogue import Entry, load, read_catalogue
from tests.client import Registry

LINES = (
    "rank\tname\tdownloads\tsummary\tkeywords\tsection\n"
    '1\tquoted\t70\tSays "hello" \\o/\tgreeting,back\\slash\tmisc\n'
    "2\tunder_scored\t5\tPlain\t\tutils\n"
    "3\tunpopular\t0\tNobody's\t\t\n"
)


@pytest.fixture(params=["catalogue.tsv", "catalogue.tsv.gz"])
def entries(tmp_path: Path, request: pytest.FixtureRequest) -> list[Entry]:
    file = tmp_path / request.param
    file.write_bytes(gzip.compress(LINES.encode()) if file.suffix == ".gz" else LINES.encode())
    return read_catalogue(file)


async def test_a_loaded_catalogue_is_a_registry_like_any_other(registry: Registry, entries: list[Entry]) -> None:
    assert await asyncio.to_thread(load, registry.app[SETTINGS], entries, 2) == 6
    async with registry.app[DB].read() as conn:
        assert [event.seq for event in await event_log.read_after(conn, 0, 100)] == [1, 2, 3, 4, 5, 6]
    stats = (await registry.get("/stats")).json
    assert stats["packages"] == {"total": 6, "versions": 6, "downloads": 150}
    package = (await registry.get("/packages/quoted")).json
    assert package["description"] == 'Says "hello" \\o/'
    assert package["keywords"] == ["greeting", "back\\slash"]
    assert package["downloads"] == {"total": 70, "week": 0, "month": 0}
    assert package["versions"][0]["downloads"] == 70
    blob = await registry.get("/packages/under_scored/latest/tarball")
    assert blob.status == 200
    assert blob.headers["X-Checksum-SHA256"] == package["versions"][0]["checksum"]
    assert await registry.search("hello", sort="name") == ["quoted", "quoted-copy2"]
    why = (await registry.get("/search/explain", params={"q": "hello", "name": "quoted"})).json["factors"][0]
    assert why["because"].startswith("It has 70 downloads, which count as 69.")
    assert (await (await registry.user()).put("under-scored", "2.0.0")).status == 409


async def test_loading_again_adds_nothing_twice(registry: Registry, entries: list[Entry]) -> None:
    await asyncio.to_thread(load, registry.app[SETTINGS], entries)
    assert await asyncio.to_thread(load, registry.app[SETTINGS], entries) == 0
    assert (await registry.get("/stats")).json["packages"] == {"total": 3, "versions": 3, "downloads": 75}
    assert await registry.search("under_scored") == ["under_scored"]
