"""The principal of a request, for the middleware and for the handlers of every room."""

from dataclasses import replace

from aiohttp import hdrs, web

from registry.accounts import authenticate
from registry.accounts.identity import Principal
from registry.errors import Unauthorized
from registry.events.audit import Origin
from registry.keys import DB, SETTINGS
from registry.setting_parts import AccountSettings
from registry.web.addresses import network_of
from registry.web.context import CONTEXT

NEEDS_CREDENTIALS = "Credentials are needed: send `Authorization: Bearer <token>`; POST /api/v1/auth/login gives one."


def principal_of(request: web.Request) -> Principal:
    """The authenticated principal. Raises Unauthorized when the request has no credentials."""
    principal = request[CONTEXT].principal
    if not isinstance(principal, Principal):
        raise Unauthorized(NEEDS_CREDENTIALS)
    return principal


def origin_of(request: web.Request) -> Origin:
    """Where the request came from, for the audit log."""
    full = request.app[SETTINGS].downloads.address == "full"
    return Origin(
        network_of(request[CONTEXT].client, full=full),
        request.headers.get(hdrs.USER_AGENT, "").encode("utf-8", "replace").decode().replace("\0", ""),
    )


def visible_packages(request: web.Request) -> frozenset[str] | None:
    """The names of the packages that the client may know of; None means all.

    In a private registry, a token that is bound to packages must not learn that others exist.
    """
    principal = request[CONTEXT].principal
    if not isinstance(principal, Principal) or request.app[SETTINGS].accounts.access != "private":
        return None
    return principal.packages


class BearerHeader:
    """Credentials in the header `Authorization: Bearer <token>`: a login or an API token."""

    hint = NEEDS_CREDENTIALS

    def __init__(self, settings: AccountSettings) -> None:
        self._settings = settings

    def find(self, request: web.Request) -> str | None:
        header = request.headers.get(hdrs.AUTHORIZATION)
        return None if header is None else authenticate.bearer_token(header)

    def is_signed(self, credentials: str) -> bool:
        return authenticate.is_signed(self._settings, credentials)

    async def look_up(self, request: web.Request, credentials: str) -> Principal:
        principal = await authenticate.authenticate(request.app[DB], self._settings, credentials)
        return replace(principal, origin=origin_of(request))
