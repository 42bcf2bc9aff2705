"""Who is asking, and what they may do."""

from dataclasses import dataclass
from datetime import datetime

from registry.errors import Forbidden

ROLES = ("user", "admin")
SCOPES = ("publish", "yank", "read", "admin")

_DEEDS = {
    "publish": "publish",
    "yank": "yank or delete versions",
    "read": "read",
    "admin": "administer the registry",
}


@dataclass(frozen=True, slots=True)
class User:
    """An account. `credentials_version` rises when every token made before must stop to hold."""

    id: int
    username: str
    email: str | None
    role: str
    is_active: bool
    credentials_version: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ApiToken:
    """What is kept of an API token; its text is known to its owner alone. `packages` None means all of the user's.

    One with `reported_at` was found by `reported_source` at `reported_url` and no longer holds.
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


@dataclass(frozen=True, slots=True)
class Principal:
    """A user, by way of a login (`jti` is set, `scopes` is None: everything) or of an API token (`token_id` is set)."""

    user_id: int
    username: str
    role: str
    credentials_version: int
    scopes: frozenset[str] | None = None
    packages: frozenset[str] | None = None
    token_id: int | None = None
    jti: str | None = None
    expires_at: datetime | None = None

    @property
    def is_login(self) -> bool:
        return self.token_id is None

    @property
    def is_admin(self) -> bool:
        """An admin who signed in, or whose API token has the scope `admin` and no list of packages."""
        return self.role == "admin" and (self.scopes is None or ("admin" in self.scopes and self.packages is None))

    def may(self, scope: str, package: str | None = None) -> bool:
        """Whether these credentials reach as far as `scope`, on `package` when given.

        Who owns the package is another question, asked by the use cases of packages.
        """
        if scope == "admin":
            return self.is_admin
        return (self.scopes is None or scope in self.scopes) and self._reaches(package)

    def require(self, scope: str, package: str | None = None) -> None:
        """Raises Forbidden that says what is missing unless `may(scope, package)`."""
        if self.may(scope, package):
            return
        if self.scopes is not None and scope not in self.scopes:
            raise Forbidden(f"This API token may not {_DEEDS[scope]}: it lacks the scope `{scope}`.")
        if scope == "admin":
            raise Forbidden("Only an admin may do this.")
        raise Forbidden(f"This API token is limited to other packages than {package}.")

    def require_login(self) -> None:
        """Raises Forbidden for an API token, so that a leaked one can't be made to last or to reach further."""
        if not self.is_login:
            raise Forbidden("An API token may not manage credentials. Sign in with the password.")

    def _reaches(self, package: str | None) -> bool:
        return package is None or self.packages is None or package in self.packages
