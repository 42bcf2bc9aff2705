"""Redis behind a spoiled wire: gone, silent, slow, and back. Nobody is refused, and nobody waits long."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.client import Registry
from tests.conftest import MakeRegistry
from tests.faults.toxic import Toxic, tcp, toxic
from tests.servers import Redis
from tests.web.test_limits import remaining

QUOTA = 1000
# A guard against hanging: without a bound, thirty requests would wait for Redis one after the other.
HANGS_SECONDS = 20


@pytest.fixture
async def wire(redis: Redis) -> AsyncIterator[Toxic]:
    async with toxic(tcp(redis.port)) as wire:
        yield wire


@pytest.fixture
async def registry(wire: Toxic, make_registry: MakeRegistry) -> Registry:
    return await make_registry(
        REGISTRY_RATE_LIMITS=f"read={QUOTA}/hour", REGISTRY_REDIS_URL=f"redis://127.0.0.1:{wire.port}/0"
    )


@pytest.mark.parametrize("fault", ["refusing", "silent", "slow"])
async def test_limits_fall_to_memory_and_come_back(fault: str, wire: Toxic, registry: Registry):
    async def burst() -> list[int]:
        """Sends 30 requests at once; how many more each answer says are allowed."""
        async with asyncio.timeout(HANGS_SECONDS):
            answers = await asyncio.gather(*(registry.get("/packages") for _ in range(30)))
        assert {answer.status for answer in answers} == {200}
        return sorted(remaining(answer) for answer in answers)

    left = sorted([*(await burst()), *(await burst()), *(await burst())])
    shared = left[0]
    assert left == list(range(shared, shared + 90))
    if fault == "slow":
        wire.latency = 0.8
    else:
        setattr(wire, fault, True)
        wire.reset_all()
    in_memory = await burst()
    assert in_memory[-1] == QUOTA - 1  # counted from the start, in this process
    wire.heal()
    async with asyncio.timeout(20):
        while remaining(await registry.get("/packages")) > shared:
            await asyncio.sleep(0.1)
    left = await burst()
    assert left == list(range(left[0], left[0] + 30))
    assert left[-1] < shared
