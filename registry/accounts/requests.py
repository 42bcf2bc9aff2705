"""Who sent a request, for the handlers of every room."""

from aiohttp import web

from registry.accounts.identity import Principal
from registry.errors import Unauthorized
from registry.web.middleware import CONTEXT, NEEDS_CREDENTIALS


def principal_of(request: web.Request) -> Principal:
    """The authenticated principal. Raises Unauthorized when the request has no credentials."""
    principal = request[CONTEXT].principal
    if not isinstance(principal, Principal):
        raise Unauthorized(NEEDS_CREDENTIALS)
    return principal
