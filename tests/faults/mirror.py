"""A minimal mirror: it repeats in one registry what the log of changes of another one tells. It knows only the wire."""

import asyncio
import contextlib
import random
from typing import Any

import aiohttp

from tests.changes.reading import Stream
from tests.client import API, PASSWORD, sha256, tarball
from tests.faults.fleet import Fleet

RETRY_SECONDS = 0.1


class Client:
    """Calls whichever process of a registry is up, and tries again on another one if that process dies."""

    def __init__(self, fleet: Fleet, session: aiohttp.ClientSession, chance: random.Random) -> None:
        self.fleet = fleet
        self.session = session
        self.chance = chance
        self.headers: dict[str, str] = {}

    async def url(self) -> str:
        return (await self.fleet.choose(self.chance)).service.url

    async def call(self, method: str, path: str, *also: int, **more: Any) -> Any:
        """The answer: JSON, other bytes, or None for a status of `also`, which an earlier try may have caused."""
        headers = self.headers | more.pop("headers", {})
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                address = f"{await self.url()}{API}{path}"
                async with self.session.request(method, address, headers=headers, **more) as response:
                    if response.status < 300:
                        is_json = response.content_type == "application/json"
                        return await (response.json() if is_json else response.read())
                    if response.status in also:
                        return None
                    assert response.status == 503, (response.status, await response.text())
            await asyncio.sleep(RETRY_SECONDS)

    async def sign_in(self) -> None:
        body = {"username": "ada", "password": PASSWORD}
        await self.call("POST", "/auth/register", 409, json=body)
        self.headers = {"Authorization": f"Bearer {(await self.call('POST', '/auth/login', json=body))['token']}"}

    async def publish(self, name: str, version: str, data: bytes | None = None) -> int:
        """Publishes once, however often it tries. Returns the seq."""
        headers = {"Content-Type": "application/gzip", "Idempotency-Key": f"{name}-{version}"}
        if data is None:
            data = tarball(name=name, version=version, description="x")
        answer = await self.call("PUT", f"/packages/{name}/{version}", data=data, headers=headers)
        return int(answer["seq"])

    async def packages(self) -> dict[str, Any]:
        """What a reader sees of all packages, by name."""
        found: dict[str, Any] = {}
        while page := (await self.call("GET", f"/packages?limit=100&offset={len(found)}"))["packages"]:
            for each in page:
                package = await self.call("GET", f"/packages/{each['name']}")
                found[each["name"]] = [
                    {name: version[name] for name in ("version", "checksum", "size", "yanked", "yank_reason")}
                    for version in package["versions"]
                ]
        return found


class Mirror:
    """Repeats the changes of `source` in `copy`, one after the other, until the package `last` is published.

    `seen` are the changes that it has repeated. `skipped` are the versions that were deleted before it got their
    tarballs.
    """

    def __init__(self, source: Client, copy: Client, last: str) -> None:
        self.source = source
        self.copy = copy
        self.last = last
        self.seen: list[Any] = []
        self.skipped: set[tuple[str, str]] = set()

    @property
    def position(self) -> int:
        return int(self.seen[-1]["seq"]) if self.seen else 0

    @property
    def is_complete(self) -> bool:
        return bool(self.seen) and (self.seen[-1]["package"], self.seen[-1]["type"]) == (self.last, "version.published")

    async def follow(self) -> None:
        """Uses streams and, after each of them, a request that waits."""
        while not self.is_complete:
            page = await self.source.call("GET", f"/changes?since={self.position}&wait=5&limit=50")
            for change in page["changes"]:
                await self.repeat(change)
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, AssertionError):
                await self._follow_stream()

    async def _follow_stream(self) -> None:
        headers = {"Last-Event-ID": str(self.position)}
        async with self.source.session.get(f"{await self.source.url()}{API}/changes/stream", headers=headers) as answer:
            stream = Stream(answer)
            while not self.is_complete:
                await self.repeat((await stream.event())[2])

    async def repeat(self, change: Any) -> None:
        name, version = change["package"], change["version"]
        path = f"/packages/{name}/{version}"
        match change["type"]:
            case "version.published":
                data = await self.source.call("GET", f"{path}/tarball", 404)
                if data is None:
                    self.skipped.add((name, version))
                else:
                    assert sha256(data) == change["details"]["checksum"]
                    await self.copy.publish(name, version, data)
            case "version.yanked":
                await self.copy.call("PATCH", path, json={"yanked": True, "reason": change["details"]["reason"]})
            case "version.deleted":
                await self.copy.call("DELETE", path, 404)
            case other:
                assert other == "package.created"
        self.seen.append(change)
