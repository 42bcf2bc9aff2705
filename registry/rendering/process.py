"""Runs `registry.rendering.worker` in processes of its own, and ends one that answers too late."""

import asyncio
import contextlib
import logging
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from typing import Any

import orjson
from prometheus_client import Counter

from registry.rendering.protocol import LENGTH_BYTES, WORK

PROCESSES = 2
MAX_WAITING = 64
CPU_SECONDS = 1.0
# A worker stops itself in time unless it is in a library that can't be interrupted, or the machine is overloaded.
WALL_SECONDS = 8.0
ATTEMPTS = 2  # an idle process may have ended since its last answer

REFUSED = Counter("registry_texts_not_rendered_total", "Texts that took too long or broke their parser", ["work"])
for _work in WORK:
    REFUSED.labels(_work)  # creates the series at 0, so that alerts see the first one as an increase

log = logging.getLogger(__name__)


class NotRendered(Exception):
    """The work was not done. `is_final` if it can't be done in the given time, so that a repetition would not help."""

    def __init__(self, reason: str, *, is_final: bool) -> None:
        super().__init__(reason)
        self.is_final = is_final


class Workers:
    """Up to PROCESSES worker processes. Each starts when it is first needed, and is replaced after it was ended."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(PROCESSES)
        self._waiting = 0
        self._idle: list[Process] = []

    async def call(self, work: str, *, seconds: float = CPU_SECONDS, **arguments: Any) -> Any:
        """The result of `work`, one of WORK, called with `arguments`.

        `seconds` is the processor time that it may take. Raises NotRendered.
        """
        if self._waiting >= MAX_WAITING:
            raise NotRendered("too many texts wait to be rendered", is_final=False)
        request = orjson.dumps({"work": work, "seconds": seconds, "arguments": arguments})
        self._waiting += 1
        try:
            async with self._turns:
                answer = await self._ask(request)
        finally:
            self._waiting -= 1
        if "failed" in answer:
            REFUSED.labels(work).inc()
            log.warning("text not rendered", extra={"work": work, "error": answer["failed"]})
            raise NotRendered(answer["failed"], is_final=True)
        return answer["result"]

    async def aclose(self) -> None:
        """Ends all processes."""
        while self._idle:
            await _end(self._idle.pop())

    async def _ask(self, request: bytes) -> Any:
        """The answer of a process; of a second one if the first ends without an answer."""
        for _ in range(ATTEMPTS):
            try:
                return await self._ask_one(request)
            except TimeoutError:
                return {"failed": "time"}
            except (OSError, asyncio.IncompleteReadError) as error:
                log.warning("worker process failed", extra={"error": repr(error)})
        return {"failed": "the worker process ended"}

    async def _ask_one(self, request: bytes) -> Any:
        process = self._idle.pop() if self._idle else await _start()
        try:
            async with asyncio.timeout(WALL_SECONDS):
                answer = await _exchange(process, request)
        except BaseException:
            # It may still work on this request. Its client may have left.
            await _end(process)
            raise
        self._idle.append(process)
        return orjson.loads(answer)


async def _start() -> Process:
    # It parses what strangers wrote, so it doesn't inherit the environment, which contains secrets. Signals of the
    # terminal don't reach it: it ends when its input ends.
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-m", "registry.rendering.worker"),
        env={},
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        start_new_session=True,
    )


async def _exchange(process: Process, request: bytes) -> bytes:
    source, target = process.stdout, process.stdin
    assert source is not None  # noqa: S101  # both are pipes
    assert target is not None  # noqa: S101
    target.write(len(request).to_bytes(LENGTH_BYTES, "big") + request)
    await target.drain()
    return await source.readexactly(int.from_bytes(await source.readexactly(LENGTH_BYTES), "big"))


async def _end(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()
