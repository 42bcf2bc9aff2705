"""Background tasks end with their block, and a task that fails is logged, counted and restarted."""

import asyncio
import logging

import pytest
from prometheus_client import REGISTRY

from registry.tasks import running


def failures(task: str) -> float:
    return REGISTRY.get_sample_value("registry_task_failures_total", {"task": task}) or 0.0


async def test_a_task_that_fails_is_logged_counted_and_restarted(caplog: pytest.LogCaptureFixture):
    starts = 0
    alive = asyncio.Event()

    async def work() -> None:
        nonlocal starts
        starts += 1
        if starts == 1:
            raise ZeroDivisionError
        alive.set()
        await asyncio.Event().wait()

    before = failures("dying")
    with caplog.at_level(logging.ERROR):
        async with running({"dying": work}), asyncio.timeout(20):
            await alive.wait()
    assert starts == 2
    assert failures("dying") - before == 1
    [record] = caplog.records
    assert (record.message, record.__dict__["task"]) == ("background task failed", "dying")


async def test_a_task_that_returns_is_not_restarted():
    starts: list[int] = []

    async def work() -> None:
        starts.append(1)

    async with running({"short": work}):
        while not starts:
            await asyncio.sleep(0)
        assert await asyncio.wait_for(_ended("short"), 20)
    assert starts == [1]


async def _ended(name: str) -> bool:
    while any(task.get_name() == name for task in asyncio.all_tasks()):
        await asyncio.sleep(0)
    return True


async def test_tasks_have_ended_when_the_block_ends():
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # tidying up may take a moment
            ended.append("work")

    async with running({"one": work, "two": work}):
        await asyncio.sleep(0)
    assert ended == ["work", "work"]


async def test_a_task_that_answers_its_cancellation_with_an_error_ends():
    alive = asyncio.Event()

    async def stubborn() -> None:
        alive.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ZeroDivisionError from None

    async with asyncio.timeout(20):
        async with running({"stubborn": stubborn}):
            await alive.wait()
