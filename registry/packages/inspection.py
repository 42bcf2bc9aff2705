"""Runs the inspection of uploads in threads of its own."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

# Inspecting an archive may take seconds. More threads would take processor time away from downloads and spooling.
THREADS = 2

T = TypeVar("T")


class InspectionPool:
    """Runs functions that inspect uploads, THREADS at a time. The others wait in order."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="inspect")

    async def run(self, function: Callable[[], T]) -> T:
        """The result of `function()`. A caller that is cancelled while it waits leaves the queue."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)

    def close(self) -> None:
        """Drops the waiting functions, and ends each thread when its current function has ended."""
        self._executor.shutdown(wait=False, cancel_futures=True)
