"""The cookies of the pages: the session, the secret of forms that strangers send, and the theme."""

from dataclasses import replace
from typing import TypeVar

from aiohttp import web

from registry.accounts import authenticate
from registry.accounts.identity import Principal
from registry.accounts.requests import AUTHENTICATOR, NEEDS_CREDENTIALS, origin_of
from registry.keys import SETTINGS
from registry.setting_parts import AccountSettings

Response = TypeVar("Response", bound=web.StreamResponse)

SESSION, FORMS, THEME = "session", "forms", "theme"
THEMES = ("light", "dark")
_THEME_SECONDS = 365 * 24 * 3600


class SessionCookie:
    """Credentials in the cookie of a browser that signed in on a page. Anything else counts as none."""

    hint = NEEDS_CREDENTIALS
    wrong_is_none = True

    def __init__(self, settings: AccountSettings) -> None:
        self._settings = settings

    def find(self, request: web.Request) -> str | None:
        given = request.cookies.get(_name(request, SESSION))
        return given if given and self.is_signed(given) else None

    def is_signed(self, credentials: str) -> bool:
        return authenticate.is_signed_browser(self._settings, credentials)

    async def look_up(self, request: web.Request, credentials: str) -> Principal:
        principal = await request.app[AUTHENTICATOR].authenticate_browser(credentials)
        return replace(principal, origin=origin_of(request))


def start_session(request: web.Request, response: Response, token: str) -> Response:
    """Adds the session cookie to the answer of a sign-in. The browser keeps it for REGISTRY_SESSION_MAX."""
    _set(request, response, SESSION, token, max_age=int(request.app[SETTINGS].accounts.session_max.total_seconds()))
    return response


def end_session(request: web.Request, response: Response) -> Response:
    """Removes the session cookie."""
    _set(request, response, SESSION, "", max_age=0)
    return response


def secret_of_forms(request: web.Request) -> str:
    """The secret that a stranger's browser got with a form; "" without one."""
    return request.cookies.get(_name(request, FORMS), "")


def set_secret_of_forms(request: web.Request, response: Response, secret: str) -> Response:
    """Gives a stranger's browser the secret that its forms depend on."""
    _set(request, response, FORMS, secret)
    return response


def theme_of(request: web.Request) -> str:
    """The theme that the user chose; "" for the one of the system."""
    given = request.cookies.get(THEME, "")
    return given if given in THEMES else ""


def set_theme(response: Response, theme: str) -> Response:
    """Remembers the theme for a year; "" forgets it."""
    response.set_cookie(THEME, theme, max_age=_THEME_SECONDS if theme else 0, path="/", samesite="Lax")
    return response


def is_secure(request: web.Request) -> bool:
    """Whether users reach the registry by https."""
    return (request.app[SETTINGS].public_url or "").startswith("https:")


def _name(request: web.Request, name: str) -> str:
    # Browsers accept a `__Host-` cookie only from this very host and only by https.
    return f"__Host-{name}" if is_secure(request) else name


def _set(request: web.Request, response: web.StreamResponse, name: str, value: str, max_age: int | None = None) -> None:
    response.set_cookie(
        _name(request, name),
        value,
        max_age=max_age,
        path="/",
        secure=is_secure(request),
        httponly=True,
        samesite="Lax",
    )
