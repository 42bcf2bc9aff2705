"""A small client of the API, for tests: what a user of it would write."""

import asyncio
import base64
import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from registry.accounts.administer import set_role
from registry.db.engine import Statement
from registry.downloads.keys import RECORDER
from registry.elastic import open_client
from registry.events import log as event_log
from registry.keys import DB
from registry.search.index import KINDS, SearchIndex, open_search
from registry.search.indexing import CONSUMER
from registry.setting_parts import SearchSettings

PASSWORD = "Correct-Horse-42"
API = "/api/v1"


def tarball(
    manifest: dict[str, Any] | bytes | None = None, files: dict[str, bytes] | None = None, **fields: Any
) -> bytes:
    """A .tar.gz with synapse.json; `fields` are those of the manifest. The same arguments give the same bytes."""
    if manifest is None:
        manifest = {"name": "demo", "version": "1.0.0", "description": "A demo", **fields}
    raw = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for name, data in {"synapse.json": raw, **(files or {})}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@dataclass
class Answer:
    """A response, read whole."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class User:
    """A signed-in user."""

    registry: "Registry"
    id: int
    username: str
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    async def call(self, method: str, path: str, **more: Any) -> Answer:
        headers = {**self.headers, **more.pop("headers", {})}
        return await self.registry.call(method, path, headers=headers, **more)

    async def put(
        self, name: str, version: str, *, data: bytes | None = None, query: str = "", headers: Any = None, **fields: Any
    ) -> Answer:
        """Publishes by PUT; `fields` go into the manifest."""
        if data is None:
            data = tarball(**{"description": f"About {name}", **fields, "name": name, "version": version})
        return await self.call(
            "PUT",
            f"/packages/{name}/{version}{query}",
            data=data,
            headers={"Content-Type": "application/gzip", **(headers or {})},
        )

    async def post(
        self, name: str, version: str, *, data: bytes | None = None, headers: Any = None, query: str = "", **fields: Any
    ) -> Answer:
        """Publishes by POST with JSON; `fields` go into the request."""
        description = fields.pop("description", f"About {name}")
        if data is None:
            data = tarball(name=name, version=version, description=description)
        body = {"name": name, "version": version, "description": description, **fields}
        body["tarball"] = base64.b64encode(data).decode()
        return await self.call("POST", f"/packages{query}", json=body, headers=headers or {})

    async def publish(self, name: str, version: str = "1.0.0", **fields: Any) -> Any:
        """Publishes and gives the answer's JSON; fails unless it is a 201."""
        answer = await self.put(name, version, **fields)
        assert answer.status == 201, answer.body
        return answer.json


@dataclass
class Registry:
    """The running service under test. `app` reaches its resources, `call` speaks HTTP with it."""

    app: web.Application
    session: aiohttp.ClientSession
    url: str
    _users: dict[str, User] = field(default_factory=dict)

    async def call(self, method: str, path: str, **more: Any) -> Answer:
        """`path` is below /api/v1 unless it is a whole address. The body of an endless stream is not read."""
        address = path if path.startswith("http") else f"{self.url}{API}{path}"
        async with self.session.request(method, address, allow_redirects=False, **more) as response:
            endless = response.content_type == "text/event-stream"
            return Answer(response.status, response.headers, b"" if endless else await response.read())

    async def get(self, path: str, **more: Any) -> Answer:
        return await self.call("GET", path, **more)

    async def user(self, username: str = "ada", *, admin: bool = False, email: str | None = None) -> User:
        """A signed-in user of this name, made when new."""
        if username not in self._users:
            body = {"username": username, "password": PASSWORD}
            made = await self.call("POST", "/auth/register", json={**body, "email": email})
            assert made.status == 201, made.body
            if admin:
                await set_role(self.app[DB], username, "admin")
            answer = await self.call("POST", "/auth/login", json=body)
            assert answer.status == 200, answer.body
            self._users[username] = User(self, made.json["user"]["id"], username, answer.json["token"])
        return self._users[username]

    async def flush(self) -> None:
        """Returns when every download whose answer has ended is counted."""
        await self.app[RECORDER].flush()

    async def drain(self, seconds: float = 60.0) -> None:
        """Returns when the search index has everything that was published, and every download is counted."""
        if RECORDER in self.app:  # else it runs in a process of its own
            await self.flush()
        async with asyncio.timeout(seconds):
            while True:
                async with self.app[DB].read() as conn:
                    if await event_log.position(conn, CONSUMER) >= await event_log.last_seq(conn):
                        return
                await asyncio.sleep(0.02)

    async def search(self, q: str, **params: str) -> list[str]:
        """The names found, best first, once the index is up to date."""
        await self.drain()
        answer = await self.get("/search", params={"q": q, **params})
        assert answer.status == 200, answer.body
        return [result["name"] for result in answer.json["results"]]

    async def check(self) -> None:
        """Fails on documents that were set aside."""
        async with self.app[DB].read() as conn:
            failures = await conn.all(Statement("SELECT document, reason FROM index_failures", {}))
        assert not failures, failures


async def delete_search_indices(index: SearchIndex) -> None:
    """Deletes all generations of the search indices."""
    await index._drop([name for kind in KINDS for name in await index._generations(kind)])


async def remove_indices(settings: SearchSettings) -> None:
    """Takes everything of this prefix out of an Elasticsearch that others use as well."""
    async with open_search(settings) as index:
        await delete_search_indices(index)
    async with open_client(settings) as client:
        assert client is not None
        es = client.options(request_timeout=60)
        for name in (await es.indices.get(index=f"{settings.prefix}registry-*", features="aliases")).body:
            await es.options(ignore_status=404).indices.delete(index=name)
        await es.options(ignore_status=404).indices.delete_index_template(name=f"{settings.prefix}registry-*")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
