"""Publishes, deletes, downloads and searches at random, each answer held against the model."""

import asyncio
import base64
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from tests.client import API, PASSWORD, Answer, sha256
from tests.faults.fleet import AFTERMATH_SECONDS, Fleet, Member
from tests.faults.model import DELETED, LIVE, Model, Package, Version
from tests.service import run_command

OWNERS = 3
ADMIN = "root"
AGAIN_SECONDS = 0.3
MOST_PROBLEMS = 50
MOST_TEXT = 500
# Every answer of the API takes less, whatever is away.
PATIENCE_SECONDS = 60.0
# In so long a change is in the index when nothing is away.
INDEXED_SECONDS = 30.0


class Load:
    """Users of the registry. `problems` are sentences on what should not have been; an empty list is the goal."""

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self.fleet = fleet
        self.model = Model()
        self.problems: list[str] = []
        self.done: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.cut: Counter[str] = Counter()
        self._chance = random.Random(seed)
        self._tokens: list[str] = []
        self._going = asyncio.Event()
        self._busy = 0
        self._over = False
        self._tasks: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def running(self, *, writers: int, readers: int, rate: float) -> AsyncIterator["Load"]:
        """Goes on, with about `rate` requests a second, until the block ends."""
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        timeout = aiohttp.ClientTimeout(total=PATIENCE_SECONDS)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as self._session:
            # As aiohttp's own test client: a second try would hide that the first had come to a process that died.
            self._session._retry_connection = False
            await self._sign_in()
            pause = (writers + readers) / rate
            work = [self._write] * writers + [self._read] * readers
            self._tasks = [asyncio.create_task(self._repeat(each, pause)) for each in work]
            self._going.set()
            try:
                yield self
            finally:
                self._over = True
                self._going.set()
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Nothing is under way in the block: every request has its answer."""
        self._going.clear()
        while self._busy:
            self._raise_failures()
            await asyncio.sleep(0.02)
        yield
        self._going.set()

    def problem(self, text: str) -> None:
        """Notes what should not be, and says so at once."""
        print(f"UNTRUE {text[:MOST_TEXT]}", flush=True)
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(text[:MOST_TEXT])

    async def call(self, member: Member, method: str, path: str, *, user: int | None = None, **more: Any) -> Answer:
        """Raises ClientError or TimeoutError when there was no whole answer."""
        headers = {"Authorization": f"Bearer {self._tokens[user]}"} if user is not None else {}
        headers |= more.pop("headers", {})
        address = f"{member.service.url}{API}{path}"
        async with self._session.request(method, address, headers=headers, **more) as response:
            return Answer(response.status, response.headers, await response.read())

    async def ask(self, kind: str, method: str, path: str, **more: Any) -> Answer | None:
        """The answer, None when it was cut off or the database was away; either may only happen in an outage."""
        began = time.monotonic()
        member = await self.fleet.choose(self._chance)
        try:
            answer = await self.call(member, method, path, **more)
        except (aiohttp.ClientError, TimeoutError) as error:
            self.cut[kind] += 1
            if not member.away.since(began):
                self.problem(f"{kind} {path}: no answer though {member.name} was there: {error!r}")
            if isinstance(error, aiohttp.ClientConnectorError):
                return Answer(0, {}, b"")
            return None
        if answer.status == 503:
            self.refused[f"{kind} 503"] += 1
            if not self.fleet.database.since(began - AFTERMATH_SECONDS):
                self.problem(f"{kind} {path}: refused though the database was there: {answer.body!r}")
            return Answer(0, {}, b"")
        if answer.status >= 500:
            self.problem(f"{kind} {path}: {answer.status} {answer.body!r}")
        self.done[kind] += 1
        return answer

    async def _sign_in(self) -> None:
        status, _, error = await run_command(
            self.fleet.folder, "user", "create", ADMIN, "--admin", stdin=PASSWORD, **self.fleet.environ
        )
        assert status == 0, error
        member = self.fleet.members[0]
        names = [*(f"owner-{number}" for number in range(OWNERS)), ADMIN]
        for name in names:
            body = {"username": name, "password": PASSWORD}
            if name != ADMIN:
                assert (await self.call(member, "POST", "/auth/register", json=body)).status == 201
            answer = await self.call(member, "POST", "/auth/login", json=body)
            assert answer.status == 200, answer.body
            self._tokens.append(answer.json["token"])

    async def _repeat(self, work: Callable[[], Awaitable[None]], pause: float) -> None:
        while not self._over:
            await self._going.wait()
            self._busy += 1
            try:
                await work()
            finally:
                self._busy -= 1
            await asyncio.sleep(self._chance.expovariate(1 / pause))

    def _raise_failures(self) -> None:
        for task in self._tasks:
            if task.done():
                task.result()

    # Changing

    async def _write(self) -> None:
        packages = [package for package in self.model.packages if not package.changing]
        package = self._chance.choice(packages) if packages else None
        if package is None or self._chance.random() < 0.2:
            package = Package(f"p{self._chance.getrandbits(48):012x}", self._chance.randrange(OWNERS))
            self.model.packages.append(package)
            await self.publish(package)
            return
        version = self._chance.choice(package.versions)
        kind = self._chance.choices((self.publish, self.delete, self.yank, self.republish), (50, 20, 20, 10))[0]
        if kind == self.publish:
            await self.publish(package)
        elif version.state == DELETED and kind != self.republish:
            await self.restore(version)
        else:
            await kind(package, version)  # type: ignore[call-arg]

    async def publish(self, package: Package) -> None:
        version = package.new_version()
        data = version.data()
        way = self._chance.choice((_as_body, _as_json, _as_multipart))
        key = {"Idempotency-Key": f"{version.path}#{self._chance.getrandbits(32)}"}
        key = key if self._chance.random() < 0.5 else {}

        def attempt() -> Awaitable[Answer | None]:
            method, path, headers, body = way(version, data)
            return self.ask(f"publish {method}", method, path, user=package.owner, data=body, headers=headers | key)

        async with _changing(version, LIVE):
            answer = await self._settle(version, attempt, {201}, {201} if key else {201, 409})
            self.model.events += 1
            if key and self._chance.random() < 0.2:
                repeated = await self._settle(version, attempt, {201}, {201})
                if repeated.json != answer.json:
                    self.problem(f"{version.path}: a repeat was answered {repeated.body!r}, first {answer.body!r}")
            if answer.status == 201 and self._chance.random() < 0.3:
                await self._find_at_once(version, answer.json["seq"])

    async def delete(self, package: Package, version: Version) -> None:
        if version.state != LIVE:
            return
        async with _changing(version, DELETED):
            await self._change(version, "delete", "DELETE", version.path, {204}, {204, 404}, user=package.owner)

    async def restore(self, version: Version) -> None:
        async with _changing(version, LIVE):
            path = f"{version.path}/restore"
            await self._change(version, "restore", "POST", path, {200}, {200, 409}, user=OWNERS)

    async def yank(self, package: Package, version: Version) -> None:
        async with _changing(version, version.state):
            version.yanked = not version.yanked
            body = {"yanked": version.yanked, "reason": "broken" if version.yanked else ""}
            await self._change(version, "yank", "PATCH", version.path, {200}, {200}, user=package.owner, json=body)

    async def republish(self, package: Package, version: Version) -> None:
        """Refused whether the version is there or was deleted."""
        before = version.changes
        method, path, headers, body = _as_body(version, version.data())
        answer = await self.ask("republish", method, path, user=package.owner, data=body, headers=headers)
        if answer is None or not answer.status or version.changes != before:
            return
        code = {LIVE: "version_exists", DELETED: "version_burned"}[version.state]
        if (answer.status, answer.json["code"]) != (409, code):
            self.problem(f"{version.path} ({version.state}): published again: {answer.status} {answer.body!r}")

    async def _change(
        self, version: Version, kind: str, method: str, path: str, first: set[int], again: set[int], **more: Any
    ) -> None:
        await self._settle(version, lambda: self.ask(kind, method, path, **more), first, again)
        self.model.events += 1

    async def _settle(
        self, version: Version, attempt: Callable[[], Awaitable[Answer | None]], first: set[int], again: set[int]
    ) -> Answer:
        """Tries until there is an answer, as clients do: one of `first`, or of `again` when an earlier try got none."""
        expected = first
        while (answer := await attempt()) is None or not answer.status:
            expected = again
            await asyncio.sleep(AGAIN_SECONDS)
        if answer.status not in expected:
            self.problem(f"{version.path}: {answer.status} where {expected} were due: {answer.body!r}")
        return answer

    async def _find_at_once(self, version: Version, seq: int) -> None:
        began = time.monotonic()
        params = {"q": version.package, "versions": "all", "min_seq": str(seq), "limit": "100"}
        while True:
            answer = await self.ask("search min_seq", "GET", "/search", params=params)
            if not answer or answer.status != 200 or not self.fleet.calm_since(began):
                return
            if (version.package, version.text) in {
                (found["name"], found["version"]) for found in answer.json["results"]
            }:
                return
            if time.monotonic() > began + INDEXED_SECONDS:
                self.problem(f"{version.path}: not found with min_seq={seq}, degraded={answer.json['degraded']}")
                return

    # Reading

    async def _read(self) -> None:
        packages = [package for package in self.model.packages if not package.changing]
        if not packages:
            return
        package = self._chance.choice(packages)
        version = self._chance.choice(package.versions)
        kinds = (self.download, self.look, self.search, self.suggest)
        kind = self._chance.choices(kinds, (50, 20, 25, 5))[0]
        await (kind(package) if kind in (self.search, self.suggest) else kind(version))  # type: ignore[arg-type]

    async def download(self, version: Version, *, whole: bool = False) -> None:
        data = version.data()
        start = end = None
        method, headers = "GET", {}
        manner = "whole" if whole else self._chance.choices(("whole", "begin", "rest", "head"), (70, 10, 10, 10))[0]
        if manner == "begin":
            start, end = 0, self._chance.randrange(1, len(data))
            headers = {"Range": f"bytes=0-{end - 1}"}
        elif manner == "rest":
            start = self._chance.randrange(1, len(data))
            headers = {"Range": f"bytes={start}-"}
        elif manner == "head":
            method, start, end = "HEAD", 0, 0
        before = (version.changes, version.state)
        answer = await self.ask(f"download {manner}", method, f"{version.path}/tarball", headers=headers)
        counts = manner in ("whole", "begin")
        if answer is None:
            version.doubtful += counts
        elif answer.status in (200, 206):
            version.downloads += counts
            if answer.body != data[start:end]:
                self.problem(f"{version.path}: {manner} of other bytes ({len(answer.body)} of {len(data)})")
        if answer and answer.status and (version.changes, version.state) == before:
            wanted = 404 if version.state != LIVE else 206 if "Range" in headers else 200
            if answer.status != wanted:
                self.problem(f"{version.path} ({version.state}): {manner} answered {answer.status}: {answer.body!r}")

    async def look(self, version: Version) -> None:
        before = version.changes
        answer = await self.ask("read", "GET", version.path)
        if answer and answer.status and version.changes == before:
            if answer.status != (200 if version.state == LIVE else 404):
                self.problem(f"{version.path} ({version.state}): read answered {answer.status}")
            elif answer.status == 200 and answer.json["checksum"] != sha256(version.data()):
                self.problem(f"{version.path}: another checksum")

    async def search(self, package: Package) -> None:
        began, changed = time.monotonic(), package.changed_at
        answer = await self.ask("search", "GET", "/search", params={"q": package.name})
        settled = package.changed_at == changed < began - INDEXED_SECONDS and not package.changing
        if not answer or answer.status != 200 or not settled or not self.fleet.calm_since(began):
            return
        found = {result["name"]: result["version"] for result in answer.json["results"]}
        shown = found.get(package.name)
        if package.latest is None and shown is not None:
            self.problem(f"{package.name}: found though all is deleted")
        if package.is_found_by_name and package.latest and shown != package.latest.text:
            self.problem(f"{package.name}: found in version {shown}, not {package.latest.text}")

    async def suggest(self, package: Package) -> None:
        await self.ask("suggest", "GET", "/search/suggest", params={"q": package.name[: self._chance.randint(1, 13)]})


@asynccontextmanager
async def _changing(version: Version, to: str) -> AsyncIterator[None]:
    """The version is on its way to the state `to` in the block."""
    version.changing = True
    version.changes += 1
    try:
        yield
    finally:
        version.state = to
        version.changes += 1
        version.changed_at = time.monotonic()
        version.changing = False


Request = tuple[str, str, dict[str, str], Any]
"""Method, path, headers and body."""


def _as_body(version: Version, data: bytes) -> Request:
    return "PUT", version.path, {"Content-Type": "application/gzip"}, data


def _as_json(version: Version, data: bytes) -> Request:
    body = {"name": version.package, "version": version.text, "description": version.description}
    body["tarball"] = base64.b64encode(data).decode()
    return "POST", "/packages", {"Content-Type": "application/json"}, json.dumps(body).encode()


def _as_multipart(version: Version, data: bytes) -> Request:
    metadata = {"name": version.package, "version": version.text, "description": version.description}
    form = aiohttp.FormData()
    form.add_field("tarball", data, filename="it.tar.gz", content_type="application/gzip")
    form.add_field("metadata", json.dumps(metadata), content_type="application/json")
    return "POST", "/packages", {}, form
