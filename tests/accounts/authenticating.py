"""Finds users of tokens as a process does that caches nothing."""

from registry.accounts.authenticate import Authenticator
from registry.accounts.credential_cache import CHANNEL, CredentialCache, announce_change
from registry.accounts.identity import Principal, User
from registry.db.engine import Connection, Database, Statement
from registry.events.announcements import Announcements
from registry.setting_parts import AccountSettings


def authenticator(db: Database, settings: AccountSettings) -> Authenticator:
    return Authenticator(db, settings, CredentialCache(Announcements(db, [CHANNEL])))


async def authenticate(db: Database, settings: AccountSettings, token: str) -> Principal:
    return await authenticator(db, settings).authenticate(token)


async def authenticate_browser(db: Database, settings: AccountSettings, token: str) -> Principal:
    return await authenticator(db, settings).authenticate_browser(token)


async def find_user(db: Database, settings: AccountSettings, token: str) -> User:
    return await authenticator(db, settings).find_user(token)


async def announce_all(conn: Connection) -> None:
    """Makes processes forget all credentials. For tests that change rows of users, sessions or tokens themselves.

    The triggers of the database announce such changes, too, but this process hears of them a moment later.
    """
    for row in await conn.all(Statement("SELECT id FROM users", {})):
        announce_change(conn, row.id)


async def verify(db: Database, settings: AccountSettings, token: str) -> User | None:
    return await authenticator(db, settings).verify(token)
