"""The principal of a request, for the middleware and for the handlers of every room."""

from dataclasses import replace

from aiohttp import hdrs, web

from registry.accounts import authenticate
from registry.accounts.authenticate import Authenticator
from registry.accounts.identity import Principal
from registry.errors import NotFound, Unauthorized
from registry.events.audit import Origin
from registry.keys import SETTINGS
from registry.setting_parts import AccountSettings
from registry.web.addresses import network_of
from registry.web.context import CONTEXT
from registry.web.responses import json_response

AUTHENTICATOR = web.AppKey("authenticator", Authenticator)

MAX_ID_DIGITS = 18
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


def id_of(request: web.Request, missing: str) -> int:
    """The number in the path. Raises NotFound with the text `missing` for what can't be an id."""
    given = request.match_info["id"]
    if not (given.isascii() and given.isdigit() and len(given) <= MAX_ID_DIGITS):
        raise NotFound(missing)
    return int(given)


def no_store(data: object, status: int = 200) -> web.Response:
    """`data` as JSON that no cache may keep, because it is personal or secret."""
    return json_response(data, status=status, headers={hdrs.CACHE_CONTROL: "no-store"})


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
    wrong_is_none = False

    def __init__(self, settings: AccountSettings) -> None:
        self._settings = settings

    def find(self, request: web.Request) -> str | None:
        header = request.headers.get(hdrs.AUTHORIZATION)
        return None if header is None else authenticate.bearer_token(header)

    def is_signed(self, credentials: str) -> bool:
        return authenticate.is_signed(self._settings, credentials)

    async def look_up(self, request: web.Request, credentials: str) -> Principal:
        principal = await request.app[AUTHENTICATOR].authenticate(credentials)
        return replace(principal, origin=origin_of(request))
