"""Redis behind a spoiled wire: gone, silent, slow, and back. Nobody is refused, and nobody waits long."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from registry.web import limits
from tests.client import Registry
from tests.conftest import MakeRegistry
from tests.faults.toxic import Toxic, tcp, toxic
from tests.servers import Redis
from tests.web.test_limits import remaining

QUOTA = 1000
# What one request may wait for Redis, with room for a busy machine.
MOST_SECONDS = 4.0


@pytest.fixture
async def wire(redis: Redis) -> AsyncIterator[Toxic]:
    async with toxic(tcp(redis.port)) as wire:
        yield wire


@pytest.fixture
async def registry(wire: Toxic, make_registry: MakeRegistry, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setattr(limits, "REDIS_RETRY_SECONDS", 1.0)
    return await make_registry(
        REGISTRY_RATE_LIMITS=f"read={QUOTA}/hour", REGISTRY_REDIS_URL=f"redis://127.0.0.1:{wire.port}/0"
    )


@pytest.mark.parametrize("fault", ["refusing", "silent", "slow"])
async def test_limits_fall_to_memory_and_come_back(fault: str, wire: Toxic, registry: Registry):
    async def burst() -> tuple[list[int], float]:
        """What is left after each of 30 requests at once, and how long the last took."""
        began = time.monotonic()
        answers = await asyncio.gather(*(registry.get("/packages") for _ in range(30)))
        assert {answer.status for answer in answers} == {200}
        return sorted(remaining(answer) for answer in answers), time.monotonic() - began

    left = sorted([*(await burst())[0], *(await burst())[0], *(await burst())[0]])
    shared = left[0]
    assert left == list(range(shared, shared + 90))
    if fault == "slow":
        wire.latency = 0.8
    else:
        setattr(wire, fault, True)
        wire.reset_all()
    in_memory, seconds = await burst()
    assert seconds < MOST_SECONDS
    assert in_memory[-1] == QUOTA - 1  # counted from the start, in this process
    wire.heal()
    async with asyncio.timeout(20):
        while remaining(await registry.get("/packages")) > shared:
            await asyncio.sleep(0.1)
    left, _ = await burst()
    assert left == list(range(left[0], left[0] + 30))
    assert left[-1] < shared
