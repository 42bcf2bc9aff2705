"""The log of changes of a registry that is reached by HTTP, as a source for its verification."""

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from registry.changes.keys import decode
from registry.changes.verify import DoesNotFit
from registry.errors import SettingsError, StackError

SECONDS = 60
PAGE = 1000
MAX_ANSWER = 64 << 20


class RemoteLog:
    """Reads /changes of the registry at `url`. `session` has the credentials."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._base = f"{url.rstrip('/').removesuffix('/api/v1')}/api/v1/changes"
        self._until = 0

    async def checkpoint(self) -> Mapping[str, Any] | None:
        status, found = await self._get("/checkpoint", also=501)
        if status == 501:
            return None
        with _well_formed():
            decode(found["signature"])
            self._until = int(found["seq"])
            return {name: found[name] for name in ("seq", "hash", "at", "key_id", "signature")}

    async def stored(self) -> list[Mapping[str, Any]]:
        return []

    async def keys(self) -> list[Mapping[str, Any]]:
        _, found = await self._get("/keys")
        with _well_formed():
            for key in found["keys"]:
                decode(key["public_key"])
                decode(key.get("voucher") or "")
            return [{"vouched_by": None, **key} for key in found["keys"]]

    async def changes(self) -> AsyncIterator[Mapping[str, Any]]:
        """The changes, at least up to the newest checkpoint."""
        since = 0
        while True:
            _, page = await self._get(f"?since={since}&limit={PAGE}")
            with _well_formed():
                found = [dict(change) for change in page["changes"]]
            for change in found:
                if "hash" not in change:
                    raise StackError("The changes have no hashes, because the token is limited to some packages.")
                yield change
            if not found or found[-1]["seq"] >= self._until > 0:
                return
            if found[-1]["seq"] <= since:
                raise DoesNotFit(found[-1]["seq"], f"it was sent again after {since}.")
            since = found[-1]["seq"]

    async def _get(self, path: str, also: int = 200) -> tuple[int, Any]:
        """(status, JSON) of an answer, whose status must be 200 or `also`. Raises StackError."""
        try:
            async with self._session.get(f"{self._base}{path}", allow_redirects=False) as answer:
                if answer.status not in (200, also):
                    raise StackError(f"{self._base}{path} answered {answer.status}.")
                body = bytearray()
                async for chunk in answer.content.iter_any():
                    body += chunk
                    if len(body) > MAX_ANSWER:
                        raise StackError(f"{self._base}{path} sent more than {MAX_ANSWER} bytes.")
                return answer.status, orjson.loads(body)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise StackError(f"{self._base}{path} can't be read: {error or 'it took too long'}.") from error
        except orjson.JSONDecodeError as error:
            raise StackError(f"{self._base}{path} is not the log of a registry.") from error


@contextlib.contextmanager
def _well_formed() -> Iterator[None]:
    """Turns a missing or mistyped member into StackError."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise StackError(f"The answer is not that of a registry: {error}.") from error


@contextlib.asynccontextmanager
async def open_remote(url: str, token: str = "") -> AsyncIterator[RemoteLog]:
    """The log of the registry at `url`, read with `token` if there is one. Raises SettingsError for a wrong address."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query
    except ValueError:
        sound = False
    if not sound:
        raise SettingsError("--url wants the address of a registry, such as https://packages.example.")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        yield RemoteLog(session, url)
