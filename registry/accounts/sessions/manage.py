"""Starts, lists and ends the sessions of users. A session begins with a login and ends with its token.

Logins by releases without sessions have no row. They are not listed, and they work until they expire.
"""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from registry.accounts import store as accounts
from registry.accounts import tokens
from registry.accounts.identity import Principal, User
from registry.accounts.sessions import store
from registry.db.engine import Connection, Database
from registry.errors import NotFound, Unauthorized
from registry.events import audit
from registry.events.audit import MAX_USER_AGENT, Origin
from registry.setting_parts import AccountSettings

log = logging.getLogger(__name__)

Login = tuple[User, str, datetime]
"""(the user, a token, its expiry)."""


@dataclass(frozen=True, slots=True)
class Browser:
    """Asks for the session of a browser, whose token is for a cookie.

    `replaces` is the session that the browser had before. It ends when the new one starts.
    """

    replaces: Principal | None = None


async def start(
    conn: Connection, settings: AccountSettings, user: User, origin: Origin, browser: Browser | None = None
) -> Login:
    """Issues a token, and records the session in the transaction of `conn`."""
    now = datetime.now(UTC)
    audience = None if browser is None else tokens.BROWSER
    token, expires_at = tokens.issue(user, settings, now, audience)
    if browser is not None and browser.replaces is not None:
        await end_own(conn, browser.replaces)
    await store.add(
        conn,
        user.id,
        jti=tokens.read(token, settings, audience=audience).jti,
        credentials_version=user.credentials_version,
        ip=origin.address,
        user_agent=origin.user_agent[:MAX_USER_AGENT],
        expires_at=expires_at,
        confirmed_at=None if browser is None else now,
    )
    return user, token, expires_at


async def end_own(conn: Connection, principal: Principal) -> None:
    """Ends the session of `principal` itself. A repeated call changes nothing."""
    if principal.jti is not None and principal.expires_at is not None:
        await accounts.revoke(conn, principal.user_id, principal.jti, principal.expires_at)
        session = await store.end_by_token(conn, principal.jti)
        await audit.write(conn, "session.end", principal.actor, details={"session": session})


async def confirm(db: Database, principal: Principal) -> None:
    """Records that the user of a browser's session has just proved who they are.

    Raises Unauthorized if the session has ended meanwhile.
    """
    async with db.transaction() as conn:
        await lock_user(conn, principal)
        if principal.jti is None or not await store.confirm(conn, principal.user_id, principal.jti, datetime.now(UTC)):
            raise Unauthorized(tokens.NOT_VALID)


def is_fresh(settings: AccountSettings, principal: Principal) -> bool:
    """Whether the user of a browser's session proved who they are within REGISTRY_REAUTH."""
    return principal.confirmed_at is not None and datetime.now(UTC) - principal.confirmed_at <= settings.reauth


async def lock_user(conn: Connection, principal: Principal) -> None:
    """Locks the user until the transaction ends. Raises Unauthorized if the credentials have ended meanwhile."""
    if await accounts.lock_user(conn, principal.user_id) != principal.credentials_version:
        raise Unauthorized(tokens.NOT_VALID)


async def list_sessions(
    db: Database, settings: AccountSettings, principal: Principal, before: int, count: int
) -> list[dict[str, Any]]:
    """Up to `count` sessions of the user with ids below `before`, newest first. Raises Forbidden for an API token."""
    principal.require_login()
    now = datetime.now(UTC)
    async with db.read() as conn:
        rows = await store.of_user(
            conn,
            principal.user_id,
            principal.jti or "",
            before,
            count,
            used_since=now - settings.session_idle,
            begun_since=now - settings.session_max,
        )
    return [
        {
            "id": row.id,
            "created_at": row.created_at,
            "last_used_at": row.last_used_at,
            "ip": row.ip,
            "user_agent": row.user_agent,
            "current": row.is_current,
        }
        for row in rows
    ]


async def end(db: Database, principal: Principal, session: int) -> bool:
    """Ends a session of the user at once. Returns whether it was that of `principal` itself.

    Raises Forbidden for an API token, NotFound.
    """
    principal.require_login()
    async with db.transaction() as conn:
        ended = await store.end(conn, principal.user_id, session)
        if ended is None:
            raise NotFound("You have no session with this id.")
        await accounts.revoke(conn, principal.user_id, ended.jti, ended.expires_at)
        audit.write_with_commit(conn, "session.end", principal.actor, details={"session": session})
    log.info("session ended", extra={"user_id": principal.user_id, "session": session})
    return bool(ended.jti == principal.jti)


async def purge(db: Database) -> int:
    """Deletes the rows of sessions that are over. Returns how many."""
    async with db.transaction() as conn:
        return await store.purge(conn)
