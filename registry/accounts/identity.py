"""Users, API tokens, and the principal that a request acts for."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from registry.errors import Forbidden
from registry.events.audit import UNKNOWN_ORIGIN, Actor, Origin

ROLES = ("user", "admin")
SCOPES = ("publish", "yank", "read", "manage", "admin")

_ACTIONS = {
    "publish": "publish",
    "yank": "yank, deprecate or delete",
    "read": "read",
    "manage": "manage owners, webhooks or publishers",
    "admin": "administer the registry",
}


@dataclass(frozen=True, slots=True)
class User:
    """An account. A higher `credentials_version` invalidates every token that was issued under a lower one.

    `email_verified_at` is None until the user, or an operator, has verified the address.
    """

    id: int
    username: str
    email: str | None
    role: str
    is_active: bool
    credentials_version: int
    created_at: datetime
    email_verified_at: datetime | None


@dataclass(frozen=True, slots=True)
class ApiToken:
    """The stored part of an API token. `packages` None means all packages of the user.

    A token with `reported_at` is revoked: it was found in public at `reported_url` by `reported_source`.
    A token that a CI job got for its ID token has `publisher_id` and `publisher`, as in Principal.
    """

    id: int
    name: str
    scopes: tuple[str, ...]
    packages: tuple[str, ...] | None
    expires_at: datetime | None
    created_at: datetime
    last_used_at: datetime | None
    reported_at: datetime | None
    reported_url: str
    reported_source: str
    publisher_id: int | None
    publisher: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Principal:
    """The user of a request, with the rights of its credentials.

    A login has `jti`, and no `scopes`: it may do everything the user may. An API token has `token_id`, `token_name` and
    `scopes`. `origin` is where the request came from. The token of a CI job has `publisher`:
    the `id` of the trusted publisher, and the provenance of the versions that the job publishes.
    The session of a browser has `confirmed_at`: when the user last proved who they are. `is_confirmed` is true in a
    request whose sensitive acts need no other proof.
    """

    user_id: int
    username: str
    role: str
    credentials_version: int
    scopes: frozenset[str] | None = None
    packages: frozenset[str] | None = None
    token_id: int | None = None
    jti: str | None = None
    expires_at: datetime | None = None
    token_name: str = ""
    publisher: Mapping[str, Any] | None = None
    origin: Origin = UNKNOWN_ORIGIN
    confirmed_at: datetime | None = None
    is_confirmed: bool = False

    @property
    def actor(self) -> Actor:
        """This principal, for the audit log."""
        return Actor(self.user_id, self.token_id, self.token_name, self.publisher, self.origin)

    @property
    def is_login(self) -> bool:
        return self.token_id is None

    @property
    def is_admin(self) -> bool:
        """Whether this is an admin's login, or an admin's API token with the scope `admin` and no list of packages."""
        return self.role == "admin" and (self.scopes is None or ("admin" in self.scopes and self.packages is None))

    def may(self, scope: str, package: str | None = None) -> bool:
        """Whether these credentials allow `scope`, for `package` if given.

        The rights of the user in the package are checked elsewhere, in packages/rights.py.
        """
        if scope == "admin":
            return self.is_admin
        return (self.scopes is None or scope in self.scopes) and self._reaches(package)

    def require(self, scope: str, package: str | None = None) -> None:
        """Raises Forbidden unless `may(scope, package)`. The text says what is missing."""
        if self.may(scope, package):
            return
        if self.scopes is not None and scope not in self.scopes:
            raise Forbidden(f"This API token may not {_ACTIONS[scope]}: it lacks the scope `{scope}`.")
        if scope == "admin":
            raise Forbidden("Only an admin may do this.")
        raise Forbidden(f"This API token may not be used for the package {package}.")

    def require_login(self) -> None:
        """Raises Forbidden for an API token: a leaked one must not create tokens that last longer or may do more."""
        if not self.is_login:
            raise Forbidden("An API token may not manage credentials. Sign in with the password.")

    def _reaches(self, package: str | None) -> bool:
        return package is None or self.packages is None or package in self.packages


def has_look_alikes(text: str) -> bool:
    """Whether a letter that is not ASCII becomes an ASCII letter in lower case, such as the Kelvin sign.

    Addresses are compared in lower case, so with such a letter the mailbox of a stranger could pass for that of a user.
    """
    return any(not letter.isascii() and letter.lower()[0].isascii() for letter in text)
