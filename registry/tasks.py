"""Runs background tasks for as long as a block lasts, and restarts a task that fails.

A loop that should never end must not end unnoticed. Each failure is logged with its traceback and counted in
`registry_task_failures_total`, and the task starts again after a pause that grows with each failure.

A cancellation can get lost: `asyncio.wait_for` before Python 3.12 drops one that arrives together with a result. A loop
that catches errors would then run for ever. `cancellations()` and `raise_lost_cancellation()` find such a loss.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any

from prometheus_client import Counter

log = logging.getLogger(__name__)

FAILURES = Counter("registry_task_failures_total", "Background tasks that failed and were started again", ["task"])
RESTART_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

Task = Callable[[], Coroutine[Any, Any, None]]
"""Starts the work. Called again after a failure."""


@contextlib.asynccontextmanager
async def running(tasks: Mapping[str, Task]) -> AsyncIterator[None]:
    """Runs `tasks` (name → task) during the block, and cancels and awaits them at its end.

    A task that returns is finished and does not start again.
    """
    ending = asyncio.Event()
    started = [asyncio.create_task(_keep_running(name, task, ending), name=name) for name, task in tasks.items()]
    try:
        yield
    finally:
        ending.set()
        for each in started:
            each.cancel()
        await asyncio.gather(*started, return_exceptions=True)


def cancellations() -> int:
    """How many times the current task was cancelled so far."""
    task = asyncio.current_task()
    return task.cancelling() if task else 0


def raise_lost_cancellation(before: int) -> None:
    """Raises CancelledError if the current task was cancelled since `before = cancellations()`."""
    if cancellations() > before:
        raise asyncio.CancelledError


async def _keep_running(name: str, task: Task, ending: asyncio.Event) -> None:
    FAILURES.labels(name)  # creates the series at 0, so that alerts see the first failure as an increase
    failures = 0
    while True:
        try:
            await task()
        except Exception:  # the task is restarted, and the counter triggers an alert
            FAILURES.labels(name).inc()
            log.exception("background task failed", extra={"task": name})
            if ending.is_set():
                return  # the task answered its cancellation with an error
        else:
            return
        await asyncio.sleep(RESTART_SECONDS[min(failures, len(RESTART_SECONDS) - 1)])
        failures += 1
