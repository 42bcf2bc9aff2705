"""Inspections have their own threads, so they don't block the rest of the service."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from registry.package_format import archive
from registry.packages.inspection import THREADS, InspectionPool
from tests.client import Registry
from tests.until import until

# More than the threads of asyncio, which downloads and spooling use.
UPLOADS = 48


async def test_a_download_completes_while_inspections_are_blocked(registry: Registry, monkeypatch: pytest.MonkeyPatch):
    ada = await registry.user()
    await ada.publish("small")
    inspect, running, go_on = archive.inspect, threading.Semaphore(0), threading.Event()

    def blocked(path: Path, **limits: Any) -> archive.Archive:
        running.release()
        go_on.wait()
        return inspect(path, **limits)

    monkeypatch.setattr(archive, "inspect", blocked)
    publishing = [asyncio.create_task(ada.put(f"slow-{number}", "1.0.0")) for number in range(UPLOADS)]
    try:
        await until(lambda: running.acquire(blocking=False))
        async with asyncio.timeout(60):
            assert (await registry.get("/packages/small/1.0.0/tarball")).status == 200
        assert not any(task.done() for task in publishing)
    finally:
        go_on.set()
    assert {answer.status for answer in await asyncio.gather(*publishing)} == {201}


async def test_inspections_run_a_few_at_a_time_and_a_cancelled_one_never_runs():
    pool, go_on = InspectionPool(), threading.Event()
    lock = threading.Lock()
    now, most = 0, 0

    def work() -> None:
        nonlocal now, most
        with lock:
            now, most = now + 1, max(most, now + 1)
        go_on.wait()
        with lock:
            now -= 1

    def never() -> None:
        raise AssertionError("this one was cancelled")

    tasks = [asyncio.create_task(pool.run(work)) for _ in range(3 * THREADS)]
    await asyncio.sleep(0)
    cancelled = asyncio.create_task(pool.run(never))
    await asyncio.sleep(0)
    cancelled.cancel()
    go_on.set()
    await asyncio.gather(*tasks)
    assert most <= THREADS
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    pool.close()
