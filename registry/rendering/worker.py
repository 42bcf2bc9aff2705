"""The process that parses users' texts: Markdown, source code, differences.

Some texts take a parser hours, and a thread can't be stopped. This process stops itself after the given processor
time, and the service ends it if it answers too late. It gets no environment and opens no file or connection.

The process ends when its input ends.
"""

import resource
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, BinaryIO

import orjson

from registry.rendering import differ, highlighter, markdown
from registry.rendering.protocol import LENGTH_BYTES, WORK

MEMORY_BYTES = 1 << 30

_FUNCTIONS = (markdown.render, highlighter.lines, differ.hunks, differ.replacement)
_WORK: Mapping[str, Callable[..., Any]] = dict(zip(WORK, _FUNCTIONS, strict=True))


class _OutOfTime(BaseException):
    """Not an Exception, so that no parser catches it."""


def main() -> None:
    """Answers requests until standard input ends."""
    if sys.platform == "linux":  # macOS refuses it
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, _stop)
    source, target = sys.stdin.buffer, sys.stdout.buffer
    while len(head := source.read(LENGTH_BYTES)) == LENGTH_BYTES:
        body = source.read(int.from_bytes(head, "big"))
        _send(target, _answer(body))


def _answer(body: bytes) -> dict[str, Any]:
    """`result`, or `failed` with the reason: "time" or the text of the error."""
    request = orjson.loads(body)
    try:
        with _limited(request["seconds"]):
            return {"result": _WORK[request["work"]](**request["arguments"])}
    except _OutOfTime:
        return {"failed": "time"}
    except Exception as error:  # noqa: BLE001  # the service logs it and shows the plain text
        return {"failed": f"{type(error).__name__}: {error}"[:500]}


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raises _OutOfTime when the block has used the given seconds of processor time."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise _OutOfTime


def _send(target: BinaryIO, answer: dict[str, Any]) -> None:
    data = orjson.dumps(answer)
    target.write(len(data).to_bytes(LENGTH_BYTES, "big") + data)
    target.flush()


if __name__ == "__main__":
    main()
