"""HTTP of accounts: parse, call the use case, answer."""

from datetime import datetime
from typing import Annotated

from aiohttp import web
from pydantic import AfterValidator, AwareDatetime, Field
from typing_extensions import TypedDict

from registry.accounts import api_tokens, authenticate, login, passwords, register
from registry.accounts.identity import SCOPES, ApiToken, Principal, User
from registry.errors import FieldError, NotFound, Unauthorized
from registry.keys import DB, SETTINGS
from registry.web.middleware import NEEDS_CREDENTIALS, PRINCIPAL
from registry.web.parsing import Body, check, parse_object, read_body, require_json
from registry.web.responses import json_response
from registry.web.route import OPEN, READ, SIGNED_IN, Route


def principal_of(request: web.Request) -> Principal:
    """Who sent the request. Raises Unauthorized when nobody signed in."""
    principal = request.get(PRINCIPAL)
    if not isinstance(principal, Principal):
        raise Unauthorized(NEEDS_CREDENTIALS)
    return principal


class UserInfo(TypedDict):
    """A user; `email` is "" when none was given."""

    id: int
    username: str
    email: str
    role: str
    created_at: datetime


class Registered(TypedDict):
    success: bool
    user: UserInfo


class LoggedIn(TypedDict):
    success: bool
    token: str
    expires_at: datetime
    user: UserInfo


class _VerifiedRequired(TypedDict):
    valid: bool


class Verified(_VerifiedRequired, total=False):
    user: UserInfo


class Me(TypedDict):
    success: bool
    user: UserInfo


class Done(TypedDict):
    success: bool


class TokenInfo(TypedDict):
    id: int
    name: str
    scopes: list[str]
    packages: list[str] | None
    expires_at: datetime | None
    created_at: datetime
    last_used_at: datetime | None


class TokenMade(TokenInfo):
    """`token` is shown this once."""

    success: bool
    token: str


class TokenList(TypedDict):
    tokens: list[TokenInfo]


def _plausible_email(email: str | None) -> str | None:
    if email and not register.is_email(email):
        raise ValueError(f"must be an address of at most {register.MAX_EMAIL} characters")
    return email


def _strong(password: str) -> str:
    problems: list[FieldError] = passwords.check_strength(password)
    if problems:
        raise ValueError(problems[0]["message"])
    return password


PASSWORD = {"minLength": passwords.MIN_LENGTH, "maxLength": passwords.MAX_LENGTH}


class Registration(Body):
    username: Annotated[
        str, Field(json_schema_extra={"pattern": f"^{register.USERNAME}$"}), AfterValidator(register.check_username)
    ]
    password: Annotated[str, Field(json_schema_extra=PASSWORD), AfterValidator(_strong)]
    email: Annotated[
        str | None, Field(json_schema_extra={"maxLength": register.MAX_EMAIL}), AfterValidator(_plausible_email)
    ] = None


class Credentials(Body):
    """`username` may be the e-mail address."""

    username: Annotated[str, Field(max_length=register.MAX_EMAIL)]
    password: Annotated[str, Field(max_length=passwords.MAX_LENGTH)]


class PasswordChange(Body):
    current_password: Annotated[str, Field(max_length=passwords.MAX_LENGTH)]
    new_password: Annotated[str, Field(json_schema_extra=PASSWORD), AfterValidator(_strong)]


class TokenText(Body):
    token: str


class TokenRequest(Body):
    """`packages` null means all of the user's; without an expiry the token does not expire."""

    name: Annotated[str, Field(min_length=1, max_length=api_tokens.MAX_NAME)]
    scopes: Annotated[
        list[str],
        Field(min_length=1, max_length=20, json_schema_extra={"items": {"type": "string", "enum": [*SCOPES]}}),
    ]
    packages: Annotated[list[str], Field(min_length=1, max_length=api_tokens.MAX_PACKAGES)] | None = None
    expires_in_days: Annotated[int, Field(ge=1, le=api_tokens.MAX_DAYS)] | None = None
    expires_at: Annotated[AwareDatetime, Field(strict=False)] | None = None


async def register_user(request: web.Request) -> web.StreamResponse:
    settings = request.app[SETTINGS].accounts
    principal = request.get(PRINCIPAL)
    register.require_open(settings, principal if isinstance(principal, Principal) else None)
    body = await read_body(request, Registration)
    user = await register.register(request.app[DB], settings, body.username, body.password, body.email)
    return json_response({"success": True, "user": _user(user)}, status=201)


async def log_in(request: web.Request) -> web.StreamResponse:
    body = await read_body(request, Credentials)
    user, token, expires_at = await login.login(
        request.app[DB], request.app[SETTINGS].accounts, body.username, body.password
    )
    return _no_store(_logged_in(user, token, expires_at))


async def log_out(request: web.Request) -> web.StreamResponse:
    await login.logout(request.app[DB], principal_of(request))
    return json_response({"success": True})


async def verify(request: web.Request) -> web.StreamResponse:
    """A token in the body is answered with 200 and `valid`; one in the header alone with 200 or 401."""
    raw = await request.read() if request.can_read_body else b""
    db, settings = request.app[DB], request.app[SETTINGS].accounts
    if raw.strip():
        require_json(request)
        data = parse_object(raw)
        if "token" in data:
            user = await authenticate.verify(db, settings, check(TokenText, data).token)
            return _no_store({"valid": False} if user is None else {"valid": True, "user": _user(user)})
    principal = await authenticate.authenticate(db, settings, request.headers.get("Authorization"))
    if principal is None:
        raise Unauthorized(NEEDS_CREDENTIALS)
    return _no_store({"valid": True, "user": _user(await authenticate.read_user(db, principal))})


async def me(request: web.Request) -> web.StreamResponse:
    user = await authenticate.read_user(request.app[DB], principal_of(request))
    return _no_store({"success": True, "user": _user(user)})


async def change_password(request: web.Request) -> web.StreamResponse:
    body = await read_body(request, PasswordChange)
    user, token, expires_at = await login.change_password(
        request.app[DB],
        request.app[SETTINGS].accounts,
        principal_of(request),
        body.current_password,
        body.new_password,
    )
    return _no_store(_logged_in(user, token, expires_at))


async def create_token(request: web.Request) -> web.StreamResponse:
    body = await read_body(request, TokenRequest)
    kept, text = await api_tokens.create_api_token(
        request.app[DB],
        principal_of(request),
        body.name,
        body.scopes,
        body.packages,
        body.expires_in_days,
        body.expires_at,
    )
    return _no_store({"success": True, "token": text, **_token(kept)}, status=201)


async def list_tokens(request: web.Request) -> web.StreamResponse:
    kept = await api_tokens.list_api_tokens(request.app[DB], principal_of(request))
    return _no_store({"tokens": [_token(token) for token in kept]})


async def delete_token(request: web.Request) -> web.StreamResponse:
    given = request.match_info["id"]
    if not (given.isascii() and given.isdigit() and len(given) <= 18):
        raise NotFound("You have no API token of this id.")
    await api_tokens.delete_api_token(request.app[DB], principal_of(request), int(given))
    return web.Response(status=204)


def _user(user: User) -> UserInfo:
    return {
        "id": user.id,
        "username": user.username,
        "email": user.email or "",
        "role": user.role,
        "created_at": user.created_at,
    }


def _token(token: ApiToken) -> TokenInfo:
    return {
        "id": token.id,
        "name": token.name,
        "scopes": list(token.scopes),
        "packages": None if token.packages is None else list(token.packages),
        "expires_at": token.expires_at,
        "created_at": token.created_at,
        "last_used_at": token.last_used_at,
    }


def _logged_in(user: User, token: str, expires_at: datetime) -> LoggedIn:
    return {"success": True, "token": token, "expires_at": expires_at, "user": _user(user)}


def _no_store(data: object, status: int = 200) -> web.Response:
    return json_response(data, status=status, headers={"Cache-Control": "no-store"})


AUTH = "/api/v1/auth"
_TOKEN_SCHEMA = {"type": "object", "properties": {"token": {"type": "string"}}}

ROUTES = (
    Route("POST", f"{AUTH}/register", register_user, "Create a user", READ, "register",
          body={"application/json": Registration}, answers={201: Registered}, errors=(409,)),
    Route("POST", f"{AUTH}/login", log_in, "Sign in", OPEN, "login",
          body={"application/json": Credentials}, answers={200: LoggedIn}, errors=(401,)),
    Route("POST", f"{AUTH}/logout", log_out, "Revoke the token that is sent", SIGNED_IN, "default",
          answers={200: Done}),
    Route("POST", f"{AUTH}/verify", verify, "Check a token, of the body or the header", OPEN, "read",
          body={"application/json": _TOKEN_SCHEMA, "x-required": False}, answers={200: Verified}, errors=(401,)),
    Route("GET", f"{AUTH}/verify", verify, "Check the token of the header", OPEN, "read",
          answers={200: Verified}, errors=(401,)),
    Route("GET", f"{AUTH}/me", me, "Who am I", SIGNED_IN, "read", answers={200: Me}),
    Route("POST", f"{AUTH}/password", change_password, "Change the password; every older token ends", SIGNED_IN,
          "login", body={"application/json": PasswordChange}, answers={200: LoggedIn}, errors=(409,)),
    Route("POST", f"{AUTH}/tokens", create_token, "Make an API token", SIGNED_IN, "default",
          body={"application/json": TokenRequest}, answers={201: TokenMade}, errors=(409,)),
    Route("GET", f"{AUTH}/tokens", list_tokens, "Your API tokens", SIGNED_IN, "read", answers={200: TokenList}),
    Route("DELETE", f"{AUTH}/tokens/{{id}}", delete_token, "Delete an API token", SIGNED_IN, "default",
          answers={204: None}),
)  # fmt: skip
