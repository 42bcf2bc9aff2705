"""Creates, lists and deletes API tokens for a user who signed in with the password."""

import logging
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from registry.accounts import store, tokens
from registry.accounts.identity import SCOPES, ApiToken, Principal
from registry.accounts.sessions.manage import lock_user
from registry.db.engine import Database
from registry.errors import Conflict, FieldError, InvalidInput, NotFound
from registry.events import audit

log = logging.getLogger(__name__)

MAX_TOKENS = 100
MAX_NAME = 100
MAX_PACKAGES = 100
MAX_DAYS = 3650

# The grammar of package_format/names.py. This room is below that one and can't import it.
_PACKAGE = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,212}[a-z0-9])?")


async def create_api_token(
    db: Database,
    principal: Principal,
    name: str,
    scopes: Sequence[str],
    packages: Sequence[str] | None = None,
    expires_in_days: int | None = None,
    expires_at: datetime | None = None,
) -> tuple[ApiToken, str]:
    """Returns (the stored token, its text). The text is not stored, so this is the only time that it is known.

    `packages` None means all packages of the user. Without `expires_in_days` and `expires_at` the token doesn't expire.
    Raises Forbidden for an API token, InvalidInput with every wrong field, Conflict if the user has MAX_TOKENS tokens.
    """
    principal.require_login()
    now = datetime.now(UTC)
    problems = _problems(principal, name, scopes, packages) + _expiry_problems(now, expires_in_days, expires_at)
    if problems:
        raise InvalidInput.of(problems)
    if expires_in_days is not None:
        expires_at = now + timedelta(days=expires_in_days)
    text = tokens.make_api_token()
    async with db.transaction() as conn:
        # Without the lock, concurrent requests could exceed MAX_TOKENS, and a password change could miss this token.
        await lock_user(conn, principal)
        if await store.count_api_tokens(conn, principal.user_id) >= MAX_TOKENS:
            raise Conflict(f"You have {MAX_TOKENS} API tokens, which is the limit. Delete one first.")
        kept = await store.add_api_token(
            conn,
            principal.user_id,
            name=name.strip(),
            token_hash=tokens.hash_api_token(text),
            scopes=[scope for scope in SCOPES if scope in scopes],
            packages=None if packages is None else sorted(set(packages)),
            expires_at=expires_at,
        )
        details = {"token": kept.id, "name": kept.name, "scopes": list(kept.scopes)}
        audit.write_with_commit(conn, "token.create", principal.actor, details=details)
    log.info("api token created", extra={"user_id": principal.user_id, "token_id": kept.id, "scopes": kept.scopes})
    return kept, text


async def list_api_tokens(db: Database, principal: Principal) -> list[ApiToken]:
    """The user's API tokens, oldest first, including expired and leaked ones. Raises Forbidden for an API token."""
    principal.require_login()
    async with db.read() as conn:
        return await store.api_tokens_of(conn, principal.user_id)


async def delete_api_token(db: Database, principal: Principal, token_id: int) -> None:
    """Deletes an API token of the user. Raises Forbidden for an API token, NotFound if the user has no such token."""
    principal.require_login()
    if 0 < token_id < 2**63:
        async with db.transaction() as conn:
            deleted = await store.delete_api_token(conn, principal.user_id, token_id)
            if deleted:
                audit.write_with_commit(conn, "token.delete", principal.actor, details={"token": token_id})
        if deleted:
            log.info("api token deleted", extra={"user_id": principal.user_id, "token_id": token_id})
            return
    raise NotFound("You have no API token with this id.")


def _problems(
    principal: Principal, name: str, scopes: Sequence[str], packages: Sequence[str] | None
) -> list[FieldError]:
    problems: list[FieldError] = []
    if not 1 <= len(name.strip()) <= MAX_NAME or not name.isprintable():
        problems.append({"field": "name", "message": f"must have 1 to {MAX_NAME} printable characters"})
    if not scopes or not set(scopes) <= set(SCOPES):
        problems.append({"field": "scopes", "message": f"must be one or more of {', '.join(SCOPES)}"})
    elif "admin" in scopes and principal.role != "admin":
        problems.append({"field": "scopes", "message": "may contain `admin` only for an admin"})
    elif "admin" in scopes and packages is not None:
        problems.append({"field": "packages", "message": "can't be given together with the scope `admin`"})
    if packages is not None and not (
        1 <= len(packages) <= MAX_PACKAGES and all(_PACKAGE.fullmatch(package) for package in packages)
    ):
        problems.append({"field": "packages", "message": f"must be 1 to {MAX_PACKAGES} package names"})
    return problems


def _expiry_problems(now: datetime, expires_in_days: int | None, expires_at: datetime | None) -> list[FieldError]:
    if expires_in_days is not None and expires_at is not None:
        return [{"field": "expires_at", "message": "can't be given together with expires_in_days"}]
    if expires_in_days is not None and not 1 <= expires_in_days <= MAX_DAYS:
        return [{"field": "expires_in_days", "message": f"must be from 1 to {MAX_DAYS}"}]
    if expires_at is None:
        return []
    if expires_at.tzinfo is None:
        return [{"field": "expires_at", "message": "must have a time zone, such as Z"}]
    if not now < expires_at <= now + timedelta(days=MAX_DAYS):
        return [{"field": "expires_at", "message": f"must be within the next {MAX_DAYS} days"}]
    return []
