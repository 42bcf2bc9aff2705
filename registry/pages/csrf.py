"""Refuses forms that another site made a browser send: by a token in each form, and by the header Origin.

A token is a nonce and a MAC over the nonce and the session, so each form has another token, and a token is of no use in
another session. Forms of strangers depend on a random cookie instead of a session.
"""

import hashlib
import hmac
import secrets
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from registry.accounts.identity import Principal
from registry.errors import Forbidden
from registry.keys import SETTINGS
from registry.pages import cookies
from registry.settings import Settings
from registry.web.context import CONTEXT

FIELD = "csrf"
HEADER = "X-CSRF-Token"
_NONCE_BYTES = 12
_NONCE_LENGTH = 16
_SECRET_BYTES = 24
_NEW_SECRET: web.RequestKey[str] = web.RequestKey("new_secret_of_forms", str)
_HAS_FORM: web.RequestKey[bool] = web.RequestKey("has_form", bool)


def token_for(request: web.Request) -> str:
    """A new token for a form on the page that answers `request`.

    The page of a stranger must be sent with finish(), which sets the cookie that the token depends on.
    """
    request[_HAS_FORM] = True
    nonce = secrets.token_urlsafe(_NONCE_BYTES)
    return f"{nonce}.{_mac(request.app[SETTINGS].accounts.secret_keys[0], nonce, _binding(request, make=True))}"


def has_form(request: web.Request) -> bool:
    """Whether token_for() has made a token for the answer."""
    return _HAS_FORM in request


def finish(request: web.Request, response: web.StreamResponse) -> None:
    """Sets the cookie that the tokens of a stranger depend on, if token_for() has chosen a new one."""
    if _NEW_SECRET in request:
        cookies.set_secret_of_forms(request, response, request[_NEW_SECRET])


def check(request: web.Request, token: str) -> None:
    """Raises Forbidden unless the registry made `token` for this session, and the request comes from its own pages."""
    check_origin(request)
    nonce, _, mac = token.partition(".")
    binding = _binding(request, make=False)
    # With nonces of any length, part of a cookie could be sent as the end of a nonce.
    if (
        binding
        and len(nonce) == _NONCE_LENGTH
        and any(
            hmac.compare_digest(_mac(key, nonce, binding).encode(), mac.encode("utf-8", "replace"))
            for key in request.app[SETTINGS].accounts.secret_keys
        )
    ):
        return
    raise Forbidden("This form is out of date. Go back, reload the page and send the form again.")


def has_cookie(request: web.Request) -> bool:
    """Whether the browser sent a session, or the cookie that the tokens of a stranger depend on."""
    return bool(_binding(request, make=False))


def check_origin(request: web.Request) -> None:
    """Raises Forbidden if the header Origin, or Referer without one, names another site."""
    given = request.headers.get(hdrs.ORIGIN)
    if given is None and (referer := request.headers.get(hdrs.REFERER)) is not None:
        parts = urlsplit(referer)
        given = f"{parts.scheme}://{parts.netloc}"
    if given is not None and given not in own_origins(request.app[SETTINGS]):
        raise Forbidden("Another site sent this form. Open the page of this registry and send the form from there.")


def own_origins(settings: Settings) -> frozenset[str]:
    """The origin of REGISTRY_PUBLIC_URL. While it is not set, the addresses of this machine."""
    if settings.web.public_url:
        return frozenset({settings.web.public_url})
    # Browsers leave out the default port.
    port = "" if settings.web.port == 80 else f":{settings.web.port}"
    return frozenset(f"http://{host}{port}" for host in ("localhost", "127.0.0.1", "[::1]"))


def _binding(request: web.Request, *, make: bool) -> str:
    """What a token is valid for: the session, or the random cookie of a stranger, which `make` chooses if missing."""
    principal = request[CONTEXT].principal
    if isinstance(principal, Principal):
        return f"session:{principal.jti}"
    secret = request.get(_NEW_SECRET) or cookies.secret_of_forms(request)
    if not secret and make:
        secret = request[_NEW_SECRET] = secrets.token_urlsafe(_SECRET_BYTES)
    return f"stranger:{secret}" if secret else ""


def _mac(key: str, nonce: str, binding: str) -> str:
    return hmac.new(key.encode(), f"form:{nonce}:{binding}".encode(), hashlib.sha256).hexdigest()
