"""The request and response bodies of accounts, as types that validate and document them."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field
from typing_extensions import TypedDict

from registry.accounts import api_tokens, passwords, register
from registry.accounts.delays import attempt
from registry.accounts.identity import SCOPES, ApiToken, User
from registry.errors import FieldError
from registry.web.parsing import Body
from registry.web.route import Limit


class UserInfo(TypedDict):
    """A user. `email` is "" if the user has none."""

    id: int
    username: str
    email: str
    role: str
    created_at: datetime


class Registered(TypedDict):
    success: bool
    user: UserInfo


class _LoggedInRequired(TypedDict):
    success: bool
    token: str
    expires_at: datetime
    user: UserInfo


class LoggedIn(_LoggedInRequired, total=False):
    """`password_breached` is present, and true, if the password is known from a breach and should be changed."""

    password_breached: bool


class _VerifiedRequired(TypedDict):
    valid: bool


class Verified(_VerifiedRequired, total=False):
    user: UserInfo


class Done(TypedDict):
    success: bool


class TokenInfo(TypedDict):
    """A token with `reported_at` is revoked: it was found in public at `reported_url` by `reported_source`."""

    id: int
    name: str
    scopes: list[str]
    packages: list[str] | None
    expires_at: datetime | None
    created_at: datetime
    last_used_at: datetime | None
    reported_at: datetime | None
    reported_url: str
    reported_source: str


class TokenCreated(TokenInfo):
    """`token` is the text of the token. No other response contains it."""

    success: bool
    token: str


class TokenList(TypedDict):
    tokens: list[TokenInfo]


def _check_email(email: str | None) -> str | None:
    return register.check_email(email) if email else email


def _check_strength(password: str) -> str:
    problems: list[FieldError] = passwords.check_strength(password)
    if problems:
        raise ValueError(problems[0]["message"])
    return password


def _check_length(password: str) -> str:
    if not passwords.is_short_enough(password):
        raise ValueError(f"must have at most {passwords.MAX_LENGTH} characters")
    return password


def _parse_time(value: object) -> object:
    """Parses a text. Returns other values unchanged, for the type to refuse: a number is not a time."""
    if not isinstance(value, str):
        return value
    try:
        return datetime.fromisoformat(value.upper())  # RFC 3339 allows `t` and `z`
    except ValueError:
        raise ValueError("must be a time such as 2030-01-31T12:00:00Z") from None


REGISTER = Limit("register", "5/hour")
LOGIN = Limit("login", "10/hour", attempt.USE_TOKENS)
"""The rate limits of all routes that create users, and of those that check a password to sign in or to replace it."""

MAX_ALERTS = 100
PASSWORD = {"minLength": passwords.MIN_LENGTH, "maxLength": passwords.MAX_LENGTH}

CurrentPassword = Annotated[
    str, Field(json_schema_extra={"maxLength": passwords.MAX_LENGTH}), AfterValidator(_check_length)
]
NewPassword = Annotated[str, Field(json_schema_extra=PASSWORD), AfterValidator(_check_strength)]


class Registration(Body):
    username: Annotated[
        str, Field(json_schema_extra={"pattern": f"^{register.USERNAME}$"}), AfterValidator(register.check_username)
    ]
    password: NewPassword
    email: Annotated[
        str | None, Field(json_schema_extra={"maxLength": register.MAX_EMAIL}), AfterValidator(_check_email)
    ] = None


class Credentials(Body):
    """`username` may be the e-mail address."""

    username: Annotated[str, Field(max_length=register.MAX_EMAIL)]
    password: CurrentPassword


class PasswordChange(Body):
    current_password: CurrentPassword
    new_password: NewPassword


class TokenText(Body):
    token: Annotated[str, AfterValidator(str.strip)]


class LeakedToken(Body):
    """An alert of a scanner for leaked tokens. `url` is where it found the token, `source` is the kind of place."""

    token: Annotated[str, Field(min_length=1)]
    type: str | None = None
    url: str | None = None
    source: str | None = None


class LeakedTokens(Body):
    alerts: Annotated[list[LeakedToken], Field(min_length=1, max_length=MAX_ALERTS)]


class TokenRequest(Body):
    """`packages` null means all packages of the user. Without an expiry the token doesn't expire."""

    name: Annotated[str, Field(min_length=1, max_length=api_tokens.MAX_NAME)]
    scopes: Annotated[
        list[str],
        Field(min_length=1, max_length=20, json_schema_extra={"items": {"type": "string", "enum": [*SCOPES]}}),
    ]
    packages: Annotated[list[str], Field(min_length=1, max_length=api_tokens.MAX_PACKAGES)] | None = None
    expires_in_days: Annotated[int, Field(ge=1, le=api_tokens.MAX_DAYS)] | None = None
    expires_at: Annotated[AwareDatetime, BeforeValidator(_parse_time)] | None = None


TOKEN_TYPE = "synapse_registry_token"  # noqa: S105 - a type of token
TOKEN_SCHEMA = {"title": "TokenCheck", "type": "object", "properties": {"token": {"type": "string"}}}
LeakReport = Annotated[
    LeakedToken | Annotated[list[LeakedToken], Field(min_length=1, max_length=MAX_ALERTS)], Field(title="LeakReport")
]


class LeakLabel(TypedDict):
    """`token_hash` is the SHA-256 of the token in hex. `label` is `true_positive` if this registry issued the token."""

    token_hash: str
    token_type: str
    label: Literal["true_positive", "false_positive"]


def user_info(user: User) -> UserInfo:
    return {
        "id": user.id,
        "username": user.username,
        "email": user.email or "",
        "role": user.role,
        "created_at": user.created_at,
    }


def token_info(token: ApiToken) -> TokenInfo:
    return {
        "id": token.id,
        "name": token.name,
        "scopes": list(token.scopes),
        "packages": None if token.packages is None else list(token.packages),
        "expires_at": token.expires_at,
        "created_at": token.created_at,
        "last_used_at": token.last_used_at,
        "reported_at": token.reported_at,
        "reported_url": token.reported_url,
        "reported_source": token.reported_source,
    }


def logged_in(user: User, token: str, expires_at: datetime) -> LoggedIn:
    return {"success": True, "token": token, "expires_at": expires_at, "user": user_info(user)}
