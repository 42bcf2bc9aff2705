"""Checks credentials. Refuses new credentials from an address that sent too many wrong ones, without a query."""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from aiohttp import web
from cachetools import LRUCache

from registry.errors import Unauthorized
from registry.web.addresses import network_key
from registry.web.context import CONTEXT
from registry.web.limits import RateLimiter

Found = TypeVar("Found")

REMEMBERED = 10_000


class CredentialSource(Protocol):
    """Where the credentials of a route come from, such as the Authorization header.

    `hint` tells a client without credentials how to send them. If `wrong_is_none`, wrong credentials count as none:
    a browser keeps sending the cookie of a session that has ended.
    """

    hint: str
    wrong_is_none: bool

    def find(self, request: web.Request) -> str | None:
        """The credentials in `request`, None without any. Does no I/O."""

    def is_signed(self, credentials: str) -> bool:
        """Whether this registry signed `credentials`, so that nobody else can have made them. Does no I/O."""

    async def look_up(self, request: web.Request, credentials: str) -> Any:
        """The principal. Raises Unauthorized for credentials that are not valid."""


class CredentialCheck:
    """Looks credentials up, unless too many wrong ones came from the client's address.

    Other users may share that address. Credentials that this process accepted before, or that this registry signed,
    are therefore still looked up.
    """

    def __init__(self, limiter: RateLimiter) -> None:
        self._limiter = limiter
        self._accepted: LRUCache[bytes, None] = LRUCache(REMEMBERED)
        self._rejected: LRUCache[bytes, None] = LRUCache(REMEMBERED)

    async def check(
        self,
        request: web.Request,
        credentials: str,
        look_up: Callable[[], Awaitable[Found]],
        is_signed: Callable[[str], bool] = lambda _: False,
    ) -> Found:
        """The result of `look_up`. Counts a failure if it raises Unauthorized or its result is false.

        Raises Unauthorized, or TooManyRequests without calling `look_up`.
        """
        context = request[CONTEXT]
        limit = context.route.limit if context.route else None
        client = network_key(context.client)
        # A digest takes little memory, and the credentials can't be computed from it.
        digest = hashlib.sha256(credentials.encode("utf-8", "surrogatepass")).digest()
        refusal = self._limiter.refusal(limit, client)
        if refusal and digest not in self._accepted and (digest in self._rejected or not is_signed(credentials)):
            raise refusal
        try:
            found = await look_up()
        except Unauthorized:
            self._reject(digest)
            self._limiter.count_failure(limit, client)
            raise
        if found:
            self._accepted[digest] = None
        else:
            self._reject(digest)
            self._limiter.count_failure(limit, client)
        return found

    def _reject(self, digest: bytes) -> None:
        self._accepted.pop(digest, None)
        self._rejected[digest] = None


CREDENTIAL_CHECK = web.AppKey("credential_check", CredentialCheck)
