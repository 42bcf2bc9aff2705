"""Publishing and indexing, beside PostgreSQL, the disk and Elasticsearch doing the same without a registry."""

import asyncio
import os
import secrets
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import psycopg2
from elasticsearch import AsyncElasticsearch
from elasticsearch.helpers import async_bulk

import es_mappings
from registry.db.engine import Database, open_database
from registry.search import store
from registry.search.index import open_search
from registry.search.indexing import package_writes, version_writes
from registry.search.rebuild import rebuild
from registry.search.writes import Write
from tests.bench import publish_to_found
from tests.bench.figure import compare
from tests.bench.reads import SMALL, packed, published
from tests.bench.stack import Stack
from tests.client import delete_search_indices

CLIENTS = 8
PUBLISHES = 400
# Elasticsearch compiles what it runs often: for its first 1,800 publishes that takes as long as indexing them.
WARM_UP_ROUNDS = 6
PAGE = 1000
FOUND_TIMES = 30
COPIES = {
    "packages": "name, similarity_key, description, author, license, homepage, repository, keywords, search_vector, "
    "latest_version_id, owner_id, download_count",
    "package_versions": "package_id, version, canonical, sort_key, is_prerelease, description, author, license, "
    "homepage, repository, readme, manifest, dependencies_json, keywords_json, checksum, tarball_path, tarball_size, "
    "published_by",
    "events": "type, package_id, package, version, actor_id, data",
}


async def publish(stack: Stack) -> None:
    tag = secrets.token_hex(4)
    rounds = iter(range(100))
    dsn = stack.settings.database.url
    model = stack.name("model")
    await published(stack.user, model, SMALL)
    await asyncio.to_thread(_make_copies, dsn)

    async def ours() -> float:
        number = next(rounds)
        names = [f"bench-{tag}-{number}-{n}" for n in range(PUBLISHES)]
        bodies = await asyncio.to_thread(lambda: [packed(name, "1.0.0", SMALL) for name in names])
        waiting = iter(zip(names, bodies, strict=True))

        async def client() -> None:
            for name, body in waiting:
                answer = await stack.user.put(name, "1.0.0", data=body)
                assert answer.status == 201, answer.body

        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        return PUBLISHES / (time.perf_counter() - began)

    async def theirs() -> float:
        return await asyncio.to_thread(_insert_and_write, dsn, stack.folder, model, f"{tag}-{next(rounds)}")

    try:
        for _ in range(WARM_UP_ROUNDS):
            await ours()
        await compare("publish 20 kB", ours, theirs, unit="publishes/s", at_least=0.40, clients=CLIENTS)
    finally:
        await asyncio.to_thread(_drop_copies, dsn)


def _make_copies(dsn: str) -> None:
    """Tables of the same columns and indices as those a publish writes to, and what they take from the real ones."""
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA baseline")
        for table in COPIES:
            cursor.execute(f"CREATE TABLE baseline.{table} (LIKE public.{table} INCLUDING ALL)")
        cursor.execute("CREATE SEQUENCE baseline.numbers")


def _drop_copies(dsn: str) -> None:
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("SET client_min_messages = warning; DROP SCHEMA baseline CASCADE")


def _insert_and_write(dsn: str, folder: Path, model: str, tag: str) -> float:
    """As many a second as threads of their own connections get done: the rows in one commit, the file with an fsync."""
    body, waiting = os.urandom(SMALL), iter(range(PUBLISHES))
    lock = threading.Lock()
    failures: list[Exception] = []

    def client() -> None:
        try:
            with closing(psycopg2.connect(dsn)) as connection:
                while True:
                    with lock:
                        number = next(waiting, None)
                    if number is None:
                        return
                    with (folder / f"{tag}-{number}").open("wb") as file:
                        file.write(body)
                        file.flush()
                        os.fsync(file.fileno())
                    with connection, connection.cursor() as cursor:
                        _insert(cursor, model, f"base-{tag}-{number}")
        except (OSError, psycopg2.Error) as failure:
            failures.append(failure)

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    return PUBLISHES / (time.perf_counter() - began)


def _insert(cursor: Any, model: str, name: str) -> None:
    """The rows of the package `model`, under another name."""
    own = {"name": "%(name)s", "similarity_key": "%(name)s", "package": "%(name)s", "package_id": "%(id)s"}
    cursor.execute("SELECT nextval('baseline.numbers')")
    values = {"name": name, "id": cursor.fetchone()[0], "model": model}
    of_model = "SELECT id FROM packages WHERE name = %(model)s"
    for table, key, value, which in (
        ("packages", "id", "%(id)s", f"id = ({of_model})"),
        ("package_versions", "id", "%(id)s", f"package_id = ({of_model})"),
        # A first publish has two events.
        ("events", "seq", "2 * %(id)s + row_number() OVER ()", f"package_id = ({of_model})"),
    ):
        columns = COPIES[table]
        chosen = ", ".join(own.get(column, column) for column in columns.split(", "))
        cursor.execute(
            f"INSERT INTO baseline.{table} ({key}, {columns}) "
            f"SELECT {value}, {chosen} FROM public.{table} WHERE {which}",
            values,
        )


async def indexing(stack: Stack) -> None:
    """A rebuild of both indices beside the same documents, read before, sent by the client's own helper."""
    own = replace(stack.settings.search, prefix="bench-indexing-")
    async with (
        open_database(stack.settings.database) as db,
        open_search(own) as index,
        AsyncElasticsearch(own.url, request_timeout=60) as es,
    ):
        documents = [each async for each in _documents(db)]

        async def ours() -> float:
            began = time.perf_counter()
            await rebuild(db, index)
            return len(documents) / (time.perf_counter() - began)

        try:
            unit = "documents/s"
            await compare(
                "indexing", ours, lambda: _bulk(es, documents), unit=unit, at_least=0.70, documents=len(documents)
            )
        finally:
            await delete_search_indices(index)


async def _documents(db: Database) -> AsyncIterator[Write]:
    for read, writes in ((store.packages_after, package_writes), (store.versions_after, version_writes)):
        after = 0
        while True:
            async with db.read() as conn:
                rows = await read(conn, after, PAGE)
            if not rows:
                break
            for write in writes(rows, 1):
                yield write
            after = rows[-1].id


async def _bulk(es: AsyncElasticsearch, documents: Sequence[Write]) -> float:
    """Documents a second of `helpers.async_bulk` into new indices of the same mapping, refreshed in the end."""
    body = es_mappings.load("packages")
    names = {kind: f"bench-bulk-{kind}" for kind in ("packages", "versions")}
    settings = body["settings"]
    for name in names.values():
        await es.options(ignore_status=404).indices.delete(index=name)  # a run that was cut off leaves it
        await es.indices.create(index=name, settings=settings, mappings=body["mappings"])
    try:
        began = time.perf_counter()
        actions = ({"_index": names[each.kind], "_id": each.id, "_source": each.document} for each in documents)
        await async_bulk(es, actions)
        await es.indices.refresh(index=list(names.values()))
        return len(documents) / (time.perf_counter() - began)
    finally:
        for name in names.values():
            await es.indices.delete(index=name)


async def found(stack: Stack) -> None:
    """From the answer to a publish until a search has it, beside the default refresh interval of Elasticsearch."""
    interval = 1.0  # the default of Elasticsearch
    times: list[float] = []

    async def ours() -> float:
        headers = stack.user.headers
        async with aiohttp.ClientSession(headers=headers) as session:
            times[:] = [await publish_to_found.found_after(session, stack.url) for _ in range(FOUND_TIMES)]
        return sorted(times)[len(times) // 2] * 1000

    async def theirs() -> float:
        return interval * 1000

    await compare("publish to found", ours, theirs, unit="ms", at_most=1.5)
