"""The whole API against a model of it: any order of calls, by anybody, and what must hold after each."""

import asyncio
import itertools
import os
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import semver
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.client import PASSWORD, Answer, Registry, User, tarball
from tests.packages.ways import WAYS
from tests.packages.ways import package as packed

EXAMPLES = 4
# A long run goes on for so many minutes with other choices each round; without, one round has the same ones each time.
MINUTES = float(os.environ.get("REGISTRY_FUZZ_MINUTES", "0"))
STEP_SECONDS = 60.0
VERSIONS = ("0.1.0", "1.0.0-alpha.2", "1.0.0-alpha.10", "1.0.0", "1.10.0", "1.9.0", "2.0.0-rc.1", "1.0.0+build")
PEOPLE = st.sampled_from(["ada", "bob", "admin"])
LETTERS = st.sampled_from(["a", "b"])
NUMBERS = st.sampled_from(VERSIONS)
WAY = st.sampled_from(sorted(WAYS))
_machines = itertools.count()


@dataclass
class Kept:
    """A version as the model knows it."""

    version: str
    downloads: int = 0
    yanked: bool = False
    deleted: bool = False


@dataclass
class Package:
    owner: str
    versions: dict[str, Kept] = field(default_factory=dict)

    def live(self) -> list[Kept]:
        """Ascending by SemVer precedence, as another library sees it."""
        found = [kept for kept in self.versions.values() if not kept.deleted]
        return sorted(found, key=lambda kept: semver.Version.parse(kept.version))

    def latest(self) -> str:
        """The highest stable one, else the highest; a yanked one only where there is no other."""
        live = self.live()
        wanted = [kept for kept in live if not kept.yanked] or live
        stable = [kept for kept in wanted if not semver.Version.parse(kept.version).prerelease]
        return (stable or wanted)[-1].version


@dataclass
class Totals:
    packages: int = 0
    versions: int = 0
    downloads: int = 0


async def test_any_order_of_calls_leaves_what_the_model_says(registry: Registry):
    loop = asyncio.get_running_loop()
    people = {name: await registry.user(name, admin=name == "admin") for name in ("ada", "bob", "admin")}

    class Machine(ApiMachine):
        def __init__(self) -> None:
            super().__init__(registry, people, loop)

    bounded = settings(
        max_examples=EXAMPLES,
        stateful_step_count=30,
        deadline=None,
        phases=[Phase.generate],  # not shrunk: a failure takes minutes to shrink against a real service
        derandomize=not MINUTES,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    end = time.monotonic() + MINUTES * 60
    await asyncio.to_thread(run_state_machine_as_test, Machine, settings=bounded)
    while time.monotonic() < end:
        await asyncio.to_thread(run_state_machine_as_test, Machine, settings=bounded)


class ApiMachine(RuleBasedStateMachine):
    """Packages of its own; the users are those of every machine before it."""

    def __init__(self, registry: Registry, people: dict[str, User], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.registry, self.people, self.loop = registry, people, loop
        self.prefix = f"machine{next(_machines)}"
        self.packages: dict[str, Package] = {}
        self.seen: dict[str, tuple[str, bytes]] = {}

    def run(self, step: Coroutine[Any, Any, Answer]) -> Answer:
        answer = asyncio.run_coroutine_threadsafe(step, self.loop).result(STEP_SECONDS)
        assert answer.status < 500, answer.body
        return answer

    def flush(self) -> None:
        """Counts all downloads so far."""
        asyncio.run_coroutine_threadsafe(self.registry.flush(), self.loop).result(STEP_SECONDS)

    def get(self, path: str, **more: Any) -> Answer:
        return self.run(self.registry.get(path, **more))

    def call(self, who: str, method: str, path: str, **more: Any) -> Answer:
        return self.run(self.people[who].call(method, path, **more))

    def kept(self, letter: str, version: str) -> Kept | None:
        package = self.packages.get(f"{self.prefix}-{letter}")
        return package.versions.get(version.partition("+")[0]) if package else None

    def path(self, letter: str, version: str) -> str:
        return f"/packages/{self.prefix}-{letter}/{version}"

    def check_managed(self, answer: Answer, who: str, letter: str, kept: Kept | None, status: int) -> bool:
        """Whether it was done: by the owner or an admin, to a version that is there."""
        if kept is None or kept.deleted:
            assert answer.status in (403, 404), answer.body
            return False
        allowed = who in (self.packages[f"{self.prefix}-{letter}"].owner, "admin")
        assert answer.status == (status if allowed else 403), answer.body
        return allowed

    @initialize()
    def begin(self) -> None:
        self.flush()
        figures = self.get("/stats").json["packages"]
        self.before = Totals(figures["total"], figures["versions"], figures["downloads"])

    @rule(who=PEOPLE, letter=LETTERS, version=NUMBERS, way=WAY, repeat=st.booleans(), force=st.booleans())
    def publish(self, who: str, letter: str, version: str, way: str, repeat: bool, force: bool) -> None:
        name = f"{self.prefix}-{letter}"
        headers = {"Idempotency-Key": f"key-{next(_machines)}"} | ({"X-Force": "true"} if force else {})

        def send() -> Answer:
            return self.run(WAYS[way](self.people[who], *packed(name, version), headers=headers))

        answer = send()
        package, kept = self.packages.get(name), self.kept(letter, version)
        if package and who != package.owner:
            assert answer.status == 403, answer.body
            return
        assert answer.status == (409 if kept else 201), answer.body
        if kept:
            assert answer.json["code"] == ("version_burned" if kept.deleted else "version_exists")
            return
        self.packages.setdefault(name, Package(who)).versions[version.partition("+")[0]] = Kept(version)
        if repeat:
            again = send()
            assert (again.status, again.json) == (201, answer.json)

    @rule(who=PEOPLE, letter=LETTERS, version=NUMBERS, yanked=st.booleans())
    def yank(self, who: str, letter: str, version: str, yanked: bool) -> None:
        answer = self.call(who, "PATCH", self.path(letter, version), json={"yanked": yanked})
        kept = self.kept(letter, version)
        if self.check_managed(answer, who, letter, kept, 200) and kept:
            kept.yanked = yanked

    @rule(who=PEOPLE, letter=LETTERS, version=NUMBERS)
    def delete(self, who: str, letter: str, version: str) -> None:
        answer = self.call(who, "DELETE", self.path(letter, version))
        kept = self.kept(letter, version)
        if self.check_managed(answer, who, letter, kept, 204) and kept:
            kept.deleted = True

    @rule(who=PEOPLE, letter=LETTERS, version=NUMBERS)
    def restore(self, who: str, letter: str, version: str) -> None:
        answer = self.call(who, "POST", f"{self.path(letter, version)}/restore")
        kept = self.kept(letter, version)
        if who != "admin":
            assert answer.status in (403, 404), answer.body
        elif kept and kept.deleted:
            assert answer.status == 200, answer.body
            kept.deleted = False
        else:
            assert answer.status in (404, 409), answer.body

    @rule(letter=LETTERS, version=NUMBERS, start=st.sampled_from([None, "0", "1"]))
    def download(self, letter: str, version: str, start: str | None) -> None:
        headers = {} if start is None else {"Range": f"bytes={start}-"}
        answer = self.get(f"{self.path(letter, version)}/tarball", headers=headers)
        kept = self.kept(letter, version)
        if kept is None or kept.deleted:
            assert answer.status == 404
            return
        assert answer.status == (206 if start == "1" else 200)  # a range that is all of it is no part
        kept.downloads += start != "1"

    @rule(who=PEOPLE)
    def end_a_login(self, who: str) -> None:
        user = self.people[who]
        assert self.call(who, "POST", "/auth/logout").status in (200, 204)
        assert self.call(who, "GET", "/auth/me").status == 401
        body = {"username": who, "password": PASSWORD}
        user.token = self.run(self.registry.call("POST", "/auth/login", json=body)).json["token"]
        assert self.call(who, "GET", "/auth/me").status == 200

    @rule(who=PEOPLE, letter=LETTERS, scope=st.sampled_from(["publish", "yank", "read"]))
    def try_an_api_token(self, who: str, letter: str, scope: str) -> None:
        """One for another package, or of another scope, publishes nothing."""
        body = {"name": "narrow", "scopes": [scope], "packages": [f"{self.prefix}-other"]}
        made = self.call(who, "POST", "/auth/tokens", json=body)
        assert made.status == 201, made.body
        headers = {"Authorization": f"Bearer {made.json['token']}", "Content-Type": "application/gzip"}
        name = f"{self.prefix}-{letter}"
        data = tarball(name=name, version="9.0.0", description="Not for this token")
        assert self.run(self.registry.call("PUT", f"/packages/{name}/9.0.0", data=data, headers=headers)).status == 403
        assert self.call(who, "DELETE", f"/auth/tokens/{made.json['id']}").status == 204
        assert self.run(self.registry.call("GET", "/auth/me", headers=headers)).status == 401

    @invariant()
    def packages_are_what_the_model_says(self) -> None:
        self.flush()
        for name, package in self.packages.items():
            answer = self.get(f"/packages/{name}")
            live = package.live()
            assert answer.status == (200 if live else 404)
            if not live:
                assert self.get(f"/packages/{name}/versions").status == 404
                self.seen.pop(name, None)
                continue
            shown = answer.json
            assert self.get(f"/packages/{name}/versions").json["versions"] == [kept.version for kept in live]
            assert sorted(item["version"] for item in shown["versions"]) == sorted(kept.version for kept in live)
            assert shown["latest_version"] == package.latest()
            assert {item["version"]: item["yanked"] for item in shown["versions"]} == {
                kept.version: kept.yanked for kept in live
            }
            self.check_validator(name, answer)

    def check_validator(self, name: str, answer: Answer) -> None:
        """The ETag changes exactly when the body does."""
        tag = answer.headers["ETag"]
        if name in self.seen:
            old_tag, old_body = self.seen[name]
            assert (tag == old_tag) == (answer.body == old_body)
        self.seen[name] = tag, answer.body
        assert self.get(f"/packages/{name}", headers={"If-None-Match": tag}).status == 304

    @invariant()
    def totals_are_the_sums(self) -> None:
        if not hasattr(self, "before"):
            return
        self.flush()
        figures = self.get("/stats").json["packages"]
        live = [package.live() for package in self.packages.values()]
        assert figures["total"] - self.before.packages == sum(bool(versions) for versions in live)
        assert figures["versions"] - self.before.versions == sum(map(len, live))
        every = [kept for package in self.packages.values() for kept in package.versions.values()]
        assert figures["downloads"] - self.before.downloads == sum(kept.downloads for kept in every)
