"""A PostgreSQL and an Elasticsearch for the session; a database, an index prefix and a shelf of packages per test."""

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg2
import pytest
import sqlalchemy as sa

from registry.db.engine import Database, json, open_database, statement
from registry.db.tables import metadata, package_versions, packages, users
from registry.devstack.distribution import elasticsearch_home
from registry.devstack.elasticsearch import Elasticsearch
from registry.devstack.java import find_java
from registry.devstack.postgres import Postgres
from registry.events import log as event_log
from registry.events.log import VERSION_DELETED, VERSION_PUBLISHED
from registry.packages import store as packages_store
from registry.packages import versions
from registry.search.consumer import handler
from registry.search.index import SearchIndex, open_search
from registry.search.indexing import CONSUMER
from registry.search.rebuild import heal
from registry.search.request import SearchRequest
from registry.search.search import search
from registry.settings import Settings


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with Postgres(tmp_path_factory.mktemp("postgres"), durable=False, environ=os.environ) as server:
        engine = sa.create_engine(sa.make_url(server.url()).set(drivername="postgresql+psycopg2"))
        metadata.create_all(engine)
        engine.dispose()
        yield server


@pytest.fixture(scope="session")
def elasticsearch_url() -> Iterator[str]:
    """REGISTRY_ES_URL when it is set, else a node of our own."""
    settings = Settings.read(os.environ)
    if settings.search.url:
        yield settings.search.url
        return
    stack = settings.stack
    java = find_java([Path(home) for home in (stack.es_java_home, stack.java_home) if home])
    home = Path(stack.es_home) if stack.es_home else elasticsearch_home(stack.cache_dir.resolve())
    with (
        tempfile.TemporaryDirectory(prefix="synapse-") as folder,
        Elasticsearch(home, java, Path(folder).resolve(), environ=os.environ) as node,
    ):
        yield node.url


def own_settings(postgres: Postgres, elasticsearch_url: str) -> Settings:
    """A database with every table and an index prefix that nobody else has; time for a slow machine."""
    name = f"test_{uuid4().hex}"
    with closing(psycopg2.connect(postgres.url("postgres"))) as connection:
        connection.autocommit = True
        connection.cursor().execute(f"CREATE DATABASE {name} TEMPLATE synapse")
    return Settings.read(
        {
            "REGISTRY_DB_URL": postgres.url(name),
            "REGISTRY_ES_URL": elasticsearch_url,
            "REGISTRY_ES_PREFIX": f"t{uuid4().hex[:12]}-",
            "REGISTRY_ES_TIMEOUT": "20s",
        }
    )


@pytest.fixture
def settings(postgres: Postgres, elasticsearch_url: str) -> Settings:
    return own_settings(postgres, elasticsearch_url)


@pytest.fixture
async def db(settings: Settings) -> AsyncIterator[Database]:
    async with open_database(settings.database) as opened:
        yield opened


@pytest.fixture
async def index(settings: Settings) -> AsyncIterator[SearchIndex]:
    """An index that doesn't exist yet."""
    async with open_search(settings.search) as opened:
        yield opened
        await opened.delete_all()


@pytest.fixture
async def away() -> AsyncIterator[SearchIndex]:
    """An index on an address where nobody listens."""
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
_FIND = statement(sa.select(packages.c.id).where(packages.c.name == sa.bindparam("of")))
_VERSION = statement(
    sa.select(package_versions.c.id).where(
        package_versions.c.package_id == sa.bindparam("of"), package_versions.c.version == sa.bindparam("text")
    )
)
_SAVE = statement(
    sa.text("INSERT INTO consumers (name, seq) VALUES (:name, :seq) ON CONFLICT (name) DO UPDATE SET seq = :seq")
)


@dataclass
class Shelf:
    """Packages in PostgreSQL with their events, and the consumer run by hand."""

    db: Database
    index: SearchIndex
    user: int = 0

    async def publish(self, name: str, version: str = "1.0.0", *, downloads: int = 0, **fields: Any) -> int:
        """Adds a version; the seq of its event."""
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
            return await self._append(conn, VERSION_PUBLISHED, package, name, version)

    async def delete(self, name: str, version: str) -> int:
        return await self._change(VERSION_DELETED, name, version, packages_store.delete_version)

    async def yank(self, name: str, version: str) -> int:
        async def yanked(conn: Any, version_id: int) -> None:
            await packages_store.yank(conn, version_id, True, "")

        return await self._change(event_log.VERSION_YANKED, name, version, yanked)

    async def deprecate(self, name: str, text: str = "use another") -> int:
        async with self.db.transaction() as conn:
            package = await conn.value(_FIND, of=name)
            await packages_store.deprecate(conn, package, text)
            return await self._append(conn, event_log.PACKAGE_DEPRECATED, package, name, None)

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

    async def count(self, name: str, downloads: int) -> None:
        async with self.db.transaction() as conn:
            await conn.run(_COUNT, of=name, count=downloads)

    async def drain(self) -> None:
        """What the consumer does: everything new is indexed and the cursor saved."""
        async with self.db.read() as conn:
            events = await event_log.read_after(conn, await event_log.position(conn, CONSUMER), 10_000)
        if events:
            await handler(self.db, self.index)(events)
            async with self.db.transaction() as conn:
                await conn.run(_SAVE, name=CONSUMER, seq=events[-1].seq)

    async def find(self, q: str, **params: Any) -> Any:
        """The page of a search; `params` as in the address."""
        lists = {name: value if isinstance(value, list) else [value] for name, value in params.items()}
        pairs = [(name, str(value)) for name, values in lists.items() for value in values]
        return await search(self.db, self.index, SearchRequest.parse([("q", q), *pairs]))

    async def names(self, q: str, **params: Any) -> list[str]:
        page = await self.find(q, **params)
        assert not page["degraded"]
        return [result["name"] for result in page["results"]]


@pytest.fixture
async def shelf(db: Database, index: SearchIndex) -> Shelf:
    """An empty registry with its index."""
    await heal(db, index)
    return Shelf(db, index)
