"""Each test has its own index prefix and its own packages."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import orjson
import pytest
import sqlalchemy as sa

from registry.db.engine import Database, json, open_database, statement
from registry.db.tables import download_days, package_versions, packages, users
from registry.devstack.elasticsearch import Elasticsearch
from registry.devstack.postgres import Postgres
from registry.events import log as event_log
from registry.events.announcements import Announcements
from registry.events.consumer import PROGRESS, Handler
from registry.events.log import VERSION_DELETED, VERSION_PUBLISHED
from registry.package_format import versions
from registry.packages import store as packages_store
from registry.packages.status import store as status
from registry.search.answers import AnswerCache
from registry.search.consumer import handler
from registry.search.fallback import consumer as words
from registry.search.index import SearchIndex, open_search
from registry.search.indexing import CONSUMER
from registry.search.rebuild import heal
from registry.search.request import SearchRequest
from registry.search.search import SUGGESTIONS, WAIT_SECONDS, Searcher
from registry.setting_parts import SearchSettings
from registry.settings import Settings
from registry.worker import CHANNELS
from tests.client import delete_search_indices
from tests.conftest import new_database


def search_settings(elasticsearch_url: str, prefix: str) -> SearchSettings:
    """Settings with a long timeout for slow machines."""
    environ = {"REGISTRY_ES_URL": elasticsearch_url, "REGISTRY_ES_PREFIX": prefix, "REGISTRY_ES_TIMEOUT": "20s"}
    return Settings.read(environ).search


@pytest.fixture
def own(elasticsearch: Elasticsearch, index_prefix: str) -> SearchSettings:
    """The search settings of this test."""
    return search_settings(elasticsearch.url, index_prefix)


@pytest.fixture
async def index(own: SearchSettings) -> AsyncIterator[SearchIndex]:
    """An index that doesn't exist yet."""
    async with open_search(own) as opened:
        yield opened


@pytest.fixture
async def away() -> AsyncIterator[SearchIndex]:
    """An index at an address where no server listens."""
    async with open_search(Settings.read({"REGISTRY_ES_URL": "http://127.0.0.1:9"}).search) as opened:
        yield opened


_ADD_USER = statement(sa.insert(users).values(username="ada", password_hash="-", role="user").returning(users.c.id))
_ADD_PACKAGE = statement(
    sa.insert(packages)
    .values({name: sa.bindparam(name) for name in ("name", "similarity_key", "owner_id")})
    .returning(packages.c.id)
)
_ADD_VERSION = statement(
    sa.insert(package_versions).values(
        {
            name: sa.bindparam(name)
            for name in (
                "package_id", "version", "canonical", "sort_key", "is_prerelease", "description", "author", "license",
                "homepage", "repository", "readme", "manifest", "dependencies_json", "keywords_json", "checksum",
                "tarball_path", "tarball_size", "published_by",
            )
        }
    )
)  # fmt: skip
_COUNT = statement(
    sa.update(packages).where(packages.c.name == sa.bindparam("of")).values(download_count=sa.bindparam("count"))
)
_COUNT_VERSIONS = statement(
    sa.update(package_versions)
    .where(package_versions.c.package_id == sa.bindparam("of"))
    .values(download_count=sa.bindparam("count"))
)
_SET_CLIENTS = statement(
    sa.text("""
    INSERT INTO package_clients (package_id, day, clients)
    SELECT id, (now() AT TIME ZONE 'UTC')::date - :age, :clients FROM packages WHERE name = :of
    ON CONFLICT (package_id, day) DO UPDATE SET clients = excluded.clients
    """)
)
_FIND = statement(sa.select(packages.c.id).where(packages.c.name == sa.bindparam("of")))
_VERSION = statement(
    sa.select(package_versions.c.id).where(
        package_versions.c.package_id == sa.bindparam("of"), package_versions.c.version == sa.bindparam("text")
    )
)
_DOWNLOADED_TODAY = statement(
    sa.insert(download_days).from_select(
        ["package_id", "day", "package_version_id", "count"],
        sa.select(packages.c.id, sa.func.current_date(), packages.c.latest_version_id, sa.literal(1)).where(
            packages.c.name == sa.bindparam("of")
        ),
    )
)
_SAVE = statement(
    sa.text("INSERT INTO consumers (name, seq) VALUES (:name, :seq) ON CONFLICT (name) DO UPDATE SET seq = :seq")
)


@dataclass
class Shelf:
    """Packages in PostgreSQL with their events, and the search consumer, which the test runs by `drain()`."""

    db: Database
    index: SearchIndex
    user: int = 0
    wait_seconds: float = WAIT_SECONDS

    def __post_init__(self) -> None:
        self.announcements = Announcements(self.db, CHANNELS)

    @property
    def searcher(self) -> Searcher:
        """Without cached answers: the hub doesn't listen."""
        return Searcher(self.db, self.index, self.announcements, AnswerCache(self.announcements))

    async def publish(self, name: str, version: str = "1.0.0", *, downloads: int = 0, **fields: Any) -> int:
        """Adds a version. Returns the seq of its event. Each of the downloads is from a client of its own, today."""
        parsed = versions.parse(version)
        texts = dict.fromkeys(("author", "license", "homepage", "repository", "readme"), "")
        async with self.db.transaction() as conn:
            self.user = self.user or int(await conn.value(_ADD_USER))
            package = await conn.value(_FIND, of=name)
            if package is None:
                package = await conn.value(
                    _ADD_PACKAGE, name=name, similarity_key=name.replace("_", "-"), owner_id=self.user
                )
            await conn.run(
                _ADD_VERSION,
                **{
                    "package_id": package,
                    "version": version,
                    "canonical": parsed.canonical,
                    "sort_key": parsed.sort_key,
                    "is_prerelease": parsed.is_prerelease,
                    "manifest": json({}),
                    "dependencies_json": json({}),
                    "keywords_json": json(fields.pop("keywords", [])),
                    "checksum": "0" * 64,
                    "tarball_path": f"{name}/{version}",
                    "tarball_size": 1,
                    "published_by": self.user,
                    "description": fields.pop("description", f"The {name} package"),
                    **texts,
                    **fields,
                },
            )
            await packages_store.refresh(conn, package)
            if downloads:
                await conn.run(_COUNT, of=name, count=downloads)
                await conn.run(_COUNT_VERSIONS, of=package, count=downloads)
                await conn.run(_SET_CLIENTS, of=name, clients=downloads, age=0)
            return await self._append(conn, VERSION_PUBLISHED, package, name, version)

    async def delete(self, name: str, version: str) -> int:
        return await self._change(VERSION_DELETED, name, version, packages_store.delete_version)

    async def yank(self, name: str, version: str) -> int:
        async def yanked(conn: Any, version_id: int) -> None:
            await status.yank(conn, version_id, True, "")

        return await self._change(event_log.VERSION_YANKED, name, version, yanked)

    async def deprecate(self, name: str, text: str = "use another", successor: str | None = None) -> int:
        async with self.db.transaction() as conn:
            package = await conn.value(_FIND, of=name)
            await status.deprecate(conn, package, text, successor)
            return await self._append(conn, event_log.PACKAGE_DEPRECATED, package, name, None)

    async def quarantine(self, name: str, reason: str | None) -> int:
        """Puts a package in quarantine; None releases it."""
        async with self.db.transaction() as conn:
            package = await conn.value(_FIND, of=name)
            await status.quarantine(conn, package, reason)
            await packages_store.refresh(conn, package)
            event = event_log.PACKAGE_RELEASED if reason is None else event_log.PACKAGE_QUARANTINED
            return await self._append(conn, event, package, name, None)

    async def _change(self, event: str, name: str, version: str, change: Any) -> int:
        async with self.db.transaction() as conn:
            package = await conn.value(_FIND, of=name)
            await change(conn, await conn.value(_VERSION, of=package, text=version))
            await packages_store.refresh(conn, package)
            return await self._append(conn, event, package, name, version)

    async def _append(self, conn: Any, event: str, package: int, name: str, version: str | None) -> int:
        return await event_log.append(
            conn, event, package_id=package, package=name, version=version, actor_id=self.user
        )

    async def downloaded(self, name: str, downloads: int) -> None:
        """Sets the download count of a package, with as many clients, and adds a download of today."""
        async with self.db.transaction() as conn:
            await conn.run(_COUNT, of=name, count=downloads)
            await conn.run(_DOWNLOADED_TODAY, of=name)
        await self.clients(name, downloads)

    async def clients(self, name: str, clients: int, *, age: int = 0) -> None:
        """Sets how many clients downloaded the package `age` days ago."""
        async with self.db.transaction() as conn:
            await conn.run(_SET_CLIENTS, of=name, clients=clients, age=age)

    async def drain(self, most: int = 10_000) -> None:
        """Indexes up to `most` new events in Elasticsearch and in PostgreSQL, as the two consumers do."""
        await self.handle(words.CONSUMER, words.handler(self.db), most)
        await self.handle(CONSUMER, handler(self.db, self.index), most)

    async def handle(self, consumer: str, handle: Handler, most: int) -> None:
        """Handles up to `most` new events and saves the cursor of `consumer`."""
        async with self.db.read() as conn:
            events = await event_log.read_after(conn, await event_log.position(conn, consumer), most)
        if events:
            await handle(events)
            await self.save_cursor(events[-1].seq, consumer)

    async def save_cursor(self, seq: int, consumer: str = CONSUMER) -> None:
        """Saves the cursor of a consumer, by default the search consumer."""
        async with self.db.transaction() as conn:
            await conn.run(_SAVE, name=consumer, seq=seq)
            conn.announce(PROGRESS, f"{consumer} {seq}")

    async def find(self, q: str, **params: Any) -> Any:
        """The page of a search with the query parameters `params`."""
        lists = {name: value if isinstance(value, list) else [value] for name, value in params.items()}
        pairs = [(name, str(value)) for name, values in lists.items() for value in values]
        request = SearchRequest.parse([("q", q), *pairs])
        return await self.searcher.page(request, wait_seconds=self.wait_seconds)

    async def suggestions(self, q: str, limit: int = SUGGESTIONS) -> list[str]:
        names: list[str] = orjson.loads(await self.searcher.suggest(q, limit))["suggestions"]
        return names

    async def names(self, q: str, **params: Any) -> list[str]:
        page = await self.find(q, **params)
        assert not page["degraded"]
        return [result["name"] for result in page["results"]]


@pytest.fixture
async def shelf(db: Database, index: SearchIndex) -> Shelf:
    """An empty registry with its index."""
    await heal(db, index)
    return Shelf(db, index)


@contextmanager
def shared_registry(
    postgres: Postgres, elasticsearch: Elasticsearch, libraries: Iterable[Mapping[str, Any]]
) -> Iterator[Settings]:
    """The settings of a registry with `libraries` (arguments of `Shelf.publish`), for tests that only search."""
    with new_database(postgres, "synapse") as url:
        search = search_settings(elasticsearch.url, f"t{uuid4().hex[:12]}-")
        settings = replace(Settings.read({"REGISTRY_DB_URL": url}), search=search)

        async def fill() -> None:
            async with opened(settings) as shelf:
                await heal(shelf.db, shelf.index)
                for library in libraries:
                    await shelf.publish(**library)
                await shelf.drain()

        async def clean() -> None:
            async with opened(settings) as shelf:
                await delete_search_indices(shelf.index)

        asyncio.run(fill())
        yield settings
        asyncio.run(clean())


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Shelf]:
    async with open_database(settings.database) as db, open_search(settings.search) as index:
        yield Shelf(db, index)
