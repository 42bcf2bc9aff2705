"""A registry at work is well: nothing that is only under way is called wrong."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from registry.analytics import consumer as analytics
from registry.doctor import blobs, check, search, spool
from registry.doctor.examine import all_checks, examine, opened
from registry.keys import SETTINGS
from registry.search import reconcile
from registry.worker import running
from tests.client import Registry, User
from tests.conftest import MakeRegistry

LOOKS = 3


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (check, blobs, search, spool, reconcile):
        monkeypatch.setattr(module, "SETTLE_SECONDS", 1.0)
    monkeypatch.setattr(analytics, "GATHER_SECONDS", 0.2)


async def use(user: User, name: str, done: list[str]) -> None:
    """Everything that changes something, for ever."""
    registry = user.registry
    for number in range(1_000_000):
        version = f"1.{number}.0"
        await user.publish(name, version)
        for _ in range(3):
            assert (await registry.get(f"/packages/{name}/{version}/tarball")).status == 200
        answers = [await user.call("PATCH", f"/packages/{name}/{version}", json={"yanked": number % 2 == 0})]
        answers += [await user.call("PATCH", f"/packages/{name}", json={"deprecated": "old" if number % 3 else None})]
        if number % 3 == 2:
            answers += [await user.call("DELETE", f"/packages/{name}/1.{number - 1}.0")]
        if number % 9 == 8:
            answers += [await user.call("POST", f"/packages/{name}/1.{number - 1}.0/restore")]
        assert all(answer.status in (200, 204) for answer in answers), answers
        done.append(version)


@contextlib.asynccontextmanager
async def at_work(registry: Registry) -> AsyncIterator[list[str]]:
    """Users at work for as long as the block lasts; what they published."""
    user = await registry.user(admin=True)
    done: list[str] = []
    failures: list[BaseException] = []

    async def one(name: str) -> None:
        try:
            await use(user, name, done)
        except Exception as error:
            failures.append(error)
            raise

    async with running([one(f"package-{number}") for number in range(3)]):
        yield done
    assert not failures, failures


async def test_a_registry_at_work_is_well_and_stays_so_when_repaired(make_registry: MakeRegistry) -> None:
    registry = await make_registry()
    async with at_work(registry) as done, opened(registry.app[SETTINGS], lambda _: None) as looked_at:
        while not done:
            await asyncio.sleep(0.05)
        while not await looked_at.index.is_current():
            await asyncio.sleep(0.05)
        for look in range(LOOKS):
            before = len(done)
            report = await examine(looked_at, all_checks(looked_at, deep=True), repair=look == LOOKS - 1)
            assert [result for result in report.results if result.found or result.problem] == []
            assert len(done) > before
