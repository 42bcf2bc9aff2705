"""Creates users."""

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from registry.accounts import passwords, store
from registry.accounts.identity import ROLES, Principal, User, has_look_alikes
from registry.db.engine import ConstraintViolated, Database
from registry.errors import FieldError, Forbidden, InvalidInput, Unauthorized, UserExists
from registry.events import audit
from registry.events.audit import OPERATOR, Actor
from registry.setting_parts import AccountSettings

log = logging.getLogger(__name__)

MAX_EMAIL = 254

USERNAME = "[A-Za-z0-9](?:[A-Za-z0-9_-]{1,48}[A-Za-z0-9])"

_LABEL = r"[^\W_](?:[\w-]{0,61}[^\W_])?"
# A rough check: only a delivered message proves an address. RFC 6531 allows letters of every script.
_EMAIL = re.compile(rf"[^\s@\"(),:;<>\[\]\\]{{1,64}}@{_LABEL}(?:\.{_LABEL})+")


def require_open(settings: AccountSettings, principal: Principal | None) -> None:
    """Raises Unauthorized or Forbidden if registration is closed, unless `principal` is an admin."""
    if settings.registration == "open" or (principal is not None and principal.is_admin):
        return
    if principal is None:
        raise Unauthorized("Registration is closed. An admin creates users.")
    raise Forbidden("Registration is closed. Only an admin may create users.")


async def register(
    db: Database,
    settings: AccountSettings,
    username: str,
    password: str,
    email: str | None = None,
    role: str = "user",
    *,
    actor: Actor = OPERATOR,
) -> User:
    """Creates a user. An `email` of "" or None means none. `role` is one of ROLES. `actor` is who creates it.

    Raises InvalidInput with every wrong field, and UserExists if another user has the name or the address. Upper and
    lower case make no difference in either.
    """
    if role not in ROLES:
        raise InvalidInput.field("role", f"must be {' or '.join(ROLES)}")
    problems = await asyncio.to_thread(_problems, username, password, email or "", settings.breached_passwords)
    if problems:
        raise InvalidInput.of(problems)
    password_hash = await passwords.hash_password(password, settings.pbkdf2_iterations)
    try:
        async with db.transaction() as conn:
            user = await store.add_user(
                conn, username=username, email=email or None, password_hash=password_hash, role=role
            )
            # Somebody without an account creates it for themselves.
            actor = actor if actor is OPERATOR or actor.user_id else replace(actor, user_id=user.id)
            audit.write_with_commit(conn, "user.create", actor, account_id=user.id, details={"role": role})
    except ConstraintViolated as violated:
        raise _taken(violated.constraint) from None
    log.info("user registered", extra={"user_id": user.id, "role": role})
    return user


def check_username(username: str) -> str:
    """Returns `username`. Raises ValueError with the rules if it is not a valid user name."""
    if username.lower() == store.DELETED:
        raise ValueError("is reserved")
    if not re.fullmatch(USERNAME, username):
        raise ValueError(
            "must have 3 to 50 letters A-Z or a-z, digits, hyphens or underscores, "
            "and begin and end with a letter or a digit"
        )
    return username


def check_email(email: str) -> str:
    """Returns `email`. Raises ValueError if it doesn't look like an e-mail address. Letters may be of any script."""
    if has_look_alikes(email):
        raise ValueError("must not have letters that look like ASCII letters")
    if len(email) > MAX_EMAIL or not email.isprintable() or not _EMAIL.fullmatch(email):
        raise ValueError(f"must be an address of at most {MAX_EMAIL} characters")
    return email


def _problems(username: str, password: str, email: str, breached: Path | None) -> list[FieldError]:
    problems = _problem("username", check_username, username)
    problems += passwords.check_strength(password, username=username, email=email, breached=breached)
    if email:
        problems += _problem("email", check_email, email)
    return problems


def _problem(field: str, check: Callable[[str], str], value: str) -> list[FieldError]:
    try:
        check(value)
    except ValueError as wrong:
        return [{"field": field, "message": str(wrong)}]
    return []


def email_taken() -> UserExists:
    """The error for an e-mail address that another user has."""
    return _exists("email", "This e-mail address belongs to another user.")


def _taken(constraint: str) -> UserExists:
    return email_taken() if constraint == store.EMAIL_TAKEN else _exists("username", "This user name is taken.")


def _exists(field: str, message: str) -> UserExists:
    return UserExists(message, errors=[{"field": field, "message": message}])
