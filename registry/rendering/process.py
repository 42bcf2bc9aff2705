"""Runs `registry.rendering.worker` in processes of its own, and ends one that answers too late."""

import asyncio
import contextlib
import logging
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from typing import Any

import orjson

from registry.rendering.protocol import LENGTH_BYTES

PROCESSES = 2
MAX_WAITING = 64
CPU_SECONDS = 1.0
# A worker stops itself in time unless it is in a library that can't be interrupted, or the machine is overloaded.
WALL_SECONDS = 8.0

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
        """The result of `work`, a name of `registry.rendering.worker`, called with `arguments`.

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
            if answer["failed"] != "time":
                log.warning("text not rendered", extra={"work": work, "error": answer["failed"]})
            raise NotRendered(answer["failed"], is_final=True)
        return answer["result"]

    async def aclose(self) -> None:
        """Ends all processes."""
        while self._idle:
            await _end(self._idle.pop())

    async def _ask(self, request: bytes) -> Any:
        process = self._idle.pop() if self._idle else None
        if process is not None and process.returncode is not None:
            process = None  # it was killed while it had nothing to do
        try:
            process = process or await _start()
            async with asyncio.timeout(WALL_SECONDS):
                answer = await _exchange(process, request)
        except TimeoutError:
            raise NotRendered("time", is_final=True) from None
        except (OSError, asyncio.IncompleteReadError) as error:
            log.warning("worker process failed", extra={"error": repr(error)})
            raise NotRendered("the worker process failed", is_final=False) from error
        else:
            self._idle.append(process)
            process = None
            return orjson.loads(answer)
        finally:
            # It may still work on this request. This includes a request whose client has left.
            if process is not None:
                await _end(process)


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
