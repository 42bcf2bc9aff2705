"""What a reader of the log would write: it knows only the wire, and none of the registry's code."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import aiohttp

from tests.client import API, Registry

ZERO = "0" * 64


def canonical(value: Any) -> bytes:
    """RFC 8785 for values whose numbers are whole. Names are in the order of their UTF-16 code units."""
    if isinstance(value, dict):
        ordered = sorted(value.items(), key=lambda item: item[0].encode("utf-16-be"))
        return b"{" + b",".join(canonical(name) + b":" + canonical(each) for name, each in ordered) + b"}"
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def linked(previous: str, change: Mapping[str, Any]) -> str:
    content = {name: value for name, value in change.items() if name != "hash"}
    return hashlib.sha256(bytes.fromhex(previous) + canonical(content)).hexdigest()


def check_chain(changes: Iterable[Mapping[str, Any]], previous: str = ZERO) -> str:
    """Fails unless each hash follows from the one before it. Returns the last."""
    for change in changes:
        assert linked(previous, change) == change["hash"], change
        previous = change["hash"]
    return previous


async def read_all(registry: Registry, limit: int = 1000, **more: Any) -> list[Any]:
    """All changes, page by page."""
    found: list[Any] = []
    while True:
        since = found[-1]["seq"] if found else 0
        answer = await registry.get(f"/changes?since={since}&limit={limit}", **more)
        assert answer.status == 200, answer.body
        page = answer.json["changes"]
        if not page:
            return found
        found += page


class Stream:
    """Server-sent events, as they arrive."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def block(self) -> list[str]:
        """The lines up to the next empty line; empty at the end of the stream."""
        lines: list[str] = []
        async with asyncio.timeout(30):
            while raw := await self.response.content.readline():
                if not (line := raw.decode().removesuffix("\n")):
                    break
                lines.append(line)
        return lines

    async def event(self) -> tuple[int, str, Any]:
        """(id, event, data) of the next event. Comments are passed over."""
        while True:
            fields = dict(line.split(": ", 1) for line in await self.block())
            assert fields, "the stream has ended"
            if "" not in fields:
                assert list(fields) == ["id", "event", "data"]
                return int(fields["id"]), fields["event"], json.loads(fields["data"])

    async def ended(self) -> bool:
        """True once the server has ended the stream."""
        while await self.block():
            pass
        return self.response.content.at_eof()


@contextlib.asynccontextmanager
async def streaming(registry: Registry, headers: Mapping[str, str] | None = None) -> AsyncIterator[Stream]:
    address = f"{registry.url}{API}/changes/stream"
    async with registry.session.get(
        address, headers=headers, timeout=aiohttp.ClientTimeout(total=None), read_bufsize=1 << 20
    ) as response:
        assert response.status == 200, await response.read()
        stream = Stream(response)
        # The first comment says that the stream has begun.
        assert (await stream.block())[0].startswith(":")
        yield stream
