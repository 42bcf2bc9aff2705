"""Who may do what with a package.

Both of these are required:
- The credentials allow the action. An API token has scopes and may be bound to a list of packages.
- The user has a role in the package that allows the action, or is an admin and the action is open to admins.
"""

from dataclasses import dataclass
from enum import Enum

from registry.accounts.identity import Principal
from registry.errors import Forbidden, Quarantined

OWNER, MAINTAINER = "owner", "maintainer"


@dataclass(frozen=True, slots=True)
class _Rule:
    """`scope`: needed by an API token. `roles`: those that allow the action. `phrase`: the action in an error text."""

    scope: str
    roles: frozenset[str]
    admins: bool
    phrase: str


class Action(Enum):
    """An action on a package."""

    PUBLISH = _Rule("publish", frozenset((OWNER, MAINTAINER)), admins=False, phrase="publish versions of")
    YANK = _Rule("yank", frozenset((OWNER, MAINTAINER)), admins=True, phrase="yank versions of")
    DEPRECATE = _Rule("yank", frozenset((OWNER, MAINTAINER)), admins=True, phrase="deprecate")
    DELETE = _Rule("yank", frozenset((OWNER,)), admins=True, phrase="delete versions of")
    MANAGE = _Rule("manage", frozenset((OWNER,)), admins=False, phrase="change the owners of")
    TRUST = _Rule("manage", frozenset((OWNER,)), admins=False, phrase="add trusted publishers to")
    LIST_PUBLISHERS = _Rule("manage", frozenset((OWNER,)), admins=True, phrase="see or remove trusted publishers of")
    AUDIT = _Rule("manage", frozenset((OWNER,)), admins=True, phrase="read the audit log of")
    WEBHOOK = _Rule("manage", frozenset((OWNER, MAINTAINER)), admins=False, phrase="make webhooks of")
    SET_OWNERS = _Rule("admin", frozenset(), admins=True, phrase="set the owners of")
    RESTORE = _Rule("admin", frozenset(), admins=True, phrase="restore versions of")
    QUARANTINE = _Rule("admin", frozenset(), admins=True, phrase="quarantine")


def check_credentials(who: Principal, action: Action, package: str | None = None) -> None:
    """Raises Forbidden unless the credentials allow `action`, on `package` if it is given.

    Use it to refuse a request early, before the package is read. `authorize` checks the user's role as well.
    """
    who.require(action.value.scope, package)


def authorize(who: Principal, action: Action, package: str, role: str | None) -> None:
    """Raises Forbidden unless `who` may do `action`.

    `package` is its real name. `role` is the user's role in it: owner, maintainer or None.
    """
    check_credentials(who, action, package)
    rule = action.value
    if _has_role(who, rule, role):
        return
    allowed = [f"its {name}s" for name in (OWNER, MAINTAINER) if name in rule.roles]
    if rule.admins:
        allowed.append("admins")
    raise Forbidden(f"You may not {rule.phrase} {package}: only {' and '.join(allowed)} may.")


def may(who: Principal, action: Action, package: str, role: str | None) -> bool:
    """Whether `authorize` would let `who` do `action`."""
    return who.may(action.value.scope, package) and _has_role(who, action.value, role)


def _has_role(who: Principal, rule: _Rule, role: str | None) -> bool:
    return role in rule.roles or (rule.admins and who.is_admin)


def quarantined(package: str, reason: str) -> Quarantined:
    """The error of reads and changes of a package in quarantine. `reason` is the one that the admin gave."""
    return Quarantined(f"{package} is in quarantine: {reason}", members={"reason": reason})


def check_quarantine(who: Principal, package: str, reason: str | None) -> None:
    """Raises Quarantined for a package in quarantine, unless `who` is an admin. `reason` is None for other packages."""
    if reason is not None and not who.is_admin:
        raise quarantined(package, reason)
