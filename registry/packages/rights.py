"""Who may do what with a package.

Two things must both hold: the credentials reach far enough (an API token's scopes and its list of packages), and the
user has a role in the package that allows the action, or is an admin where admins may act.
"""

from dataclasses import dataclass
from enum import Enum

from registry.accounts.identity import Principal
from registry.errors import Forbidden

OWNER, MAINTAINER = "owner", "maintainer"


@dataclass(frozen=True, slots=True)
class _Rule:
    """`scope` is what an API token needs, `roles` are those that allow the action; `phrase` names it in errors."""

    scope: str
    roles: frozenset[str]
    admins: bool
    phrase: str


class Action(Enum):
    """What can be done with a package."""

    PUBLISH = _Rule("publish", frozenset((OWNER, MAINTAINER)), admins=False, phrase="publish versions of")
    YANK = _Rule("yank", frozenset((OWNER, MAINTAINER)), admins=True, phrase="yank versions of")
    DEPRECATE = _Rule("yank", frozenset((OWNER, MAINTAINER)), admins=True, phrase="deprecate")
    DELETE = _Rule("yank", frozenset((OWNER,)), admins=True, phrase="delete versions of")
    RESTORE = _Rule("admin", frozenset(), admins=True, phrase="restore versions of")


def check_credentials(who: Principal, action: Action, package: str | None = None) -> None:
    """Raises Forbidden unless the credentials reach `action`, on the package of this name when given.

    For what can be decided before the package is read; `authorize` checks the user's role as well.
    """
    who.require(action.value.scope, package)


def authorize(who: Principal, action: Action, package: str, role: str | None) -> None:
    """Raises Forbidden unless `who` may do `action`.

    `package` is the real name, `role` that of the user in the package: owner, maintainer or None.
    """
    check_credentials(who, action, package)
    rule = action.value
    if role in rule.roles or (rule.admins and who.is_admin):
        return
    allowed = [f"its {name}s" for name in (OWNER, MAINTAINER) if name in rule.roles]
    if rule.admins:
        allowed.append("admins")
    raise Forbidden(f"You may not {rule.phrase} {package}: only {' and '.join(allowed)} may.")
