"""Lets a thread read what the event loop receives."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import CancelledError


class Stopped(Exception):
    """Nobody wants the bytes any more."""


class PulledFile:
    """A file for a thread, whose bytes are the chunks of an asynchronous iterator. Create it on the event loop."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._loop = asyncio.get_running_loop()
        self._left = memoryview(b"")
        self._stopped = False

    def read(self, size: int, /) -> bytes:
        """Blocks until there are bytes. Raises Stopped, and what the iterator raises."""
        if self._stopped:
            raise Stopped
        if not self._left:
            self._left = memoryview(self._next_chunk())
        part, self._left = self._left[:size], self._left[size:]
        return bytes(part)

    def stop(self) -> None:
        """Makes the thread's next read raise Stopped."""
        self._stopped = True

    def _next_chunk(self) -> bytes:
        pulling = asyncio.run_coroutine_threadsafe(self._pull(), self._loop)
        try:
            return pulling.result()
        except CancelledError:
            raise Stopped from None  # the event loop ends

    async def _pull(self) -> bytes:
        return await anext(self._chunks, b"")
