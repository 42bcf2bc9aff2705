"""The cache of credentials. Each act that ends or changes credentials must reach it, in whatever process it happens."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from registry.accounts import administer, credential_cache
from registry.accounts.api_tokens import create_api_token, delete_api_token
from registry.accounts.authenticate import Authenticator
from registry.accounts.credential_cache import LOOKUPS, MAX_LAG_SECONDS, CredentialCache
from registry.accounts.identity import ApiToken, Principal, User
from registry.accounts.leaks import revoke_leaked
from registry.accounts.login import change_password, login, logout
from registry.accounts.sessions import manage as sessions
from registry.accounts.sessions.manage import Browser
from registry.db.engine import Database, Statement, open_database
from registry.errors import Unauthorized
from registry.events.announcements import Announcements
from registry.factors import account
from registry.factors.proof import Proof
from registry.mail import store as mail
from registry.publishers import store as publishers
from registry.setting_parts import AccountSettings
from registry.settings import Settings
from tests.until import until

from .conftest import PASSWORD

NEW_PASSWORD = "Battery-Staple-43"


@dataclass
class Held:
    """A user with three credentials: a login, the session of a browser, and an API token."""

    user: User
    login: str
    browser: str
    token: str
    api_token: ApiToken
    principal: Principal
    settings: AccountSettings


@pytest.fixture
async def elsewhere(database_url: str) -> AsyncIterator[Database]:
    """The database pool of another process."""
    async with open_database(Settings.read({"REGISTRY_DB_URL": database_url}).database) as other:
        yield other


@pytest.fixture
def cached(db: Database, settings: AccountSettings, announcements: Announcements) -> Authenticator:
    return Authenticator(db, settings, CredentialCache(announcements))


@pytest.fixture
async def held(db: Database, settings: AccountSettings, ada: User, cached: Authenticator) -> Held:
    _, first, _ = await login(db, settings, "ada", PASSWORD)
    _, browser, _ = await login(db, settings, "ada", PASSWORD, browser=Browser())
    principal = await cached.authenticate(first)
    api_token, text = await create_api_token(db, principal, "ci", ["publish"])
    return Held(ada, first, browser, text, api_token, principal, settings)


def lookups(source: str) -> float:
    return LOOKUPS.labels(source)._value.get()


async def in_cache(look_up: Callable[[], Awaitable[object]]) -> bool:
    """Looks credentials up. Whether the cache had them."""
    before = lookups("database")
    await look_up()
    return lookups("database") == before


async def log_out(db: Database, held: Held) -> None:
    await logout(db, held.principal)


async def end_session(db: Database, held: Held) -> None:
    listed = await sessions.list_sessions(db, held.settings, held.principal, 2**62, 10)
    (own,) = (each["id"] for each in listed if each["current"])
    await sessions.end(db, held.principal, own)


async def change_own_password(db: Database, held: Held) -> None:
    await change_password(db, held.settings, held.principal, PASSWORD, NEW_PASSWORD, "192.0.2.1")


async def reset_password(db: Database, held: Held) -> None:
    await administer.reset_password(db, held.settings, "ada", NEW_PASSWORD)


async def deactivate(db: Database, held: Held) -> None:
    await administer.deactivate(db, "ada")


async def deactivate_and_reactivate(db: Database, held: Held) -> None:
    await administer.deactivate(db, "ada")
    await administer.reactivate(db, "ada")


async def end_account(db: Database, held: Held) -> None:
    await account.end(db, held.settings, held.principal, Proof(PASSWORD), "192.0.2.1")


async def report_login(db: Database, held: Held) -> None:
    await revoke_leaked(db, held.settings, held.login)


async def report_browser(db: Database, held: Held) -> None:
    await revoke_leaked(db, held.settings, held.browser)


async def report_token(db: Database, held: Held) -> None:
    await revoke_leaked(db, held.settings, held.token)


async def delete_token(db: Database, held: Held) -> None:
    await delete_api_token(db, held.principal, held.api_token.id)


async def run(db: Database, sql: str, **values: object) -> None:
    async with db.transaction() as conn:
        await conn.run(Statement(sql, {}), **values)


ENDED = [
    (log_out, "login"),
    (end_session, "login"),
    (change_own_password, "login"),
    (change_own_password, "browser"),
    (change_own_password, "token"),
    (reset_password, "login"),
    (reset_password, "token"),
    (deactivate, "login"),
    (deactivate, "browser"),
    (deactivate, "token"),
    (deactivate_and_reactivate, "login"),
    (end_account, "login"),
    (end_account, "token"),
    (report_login, "login"),
    (report_browser, "browser"),
    (report_token, "token"),
    (delete_token, "token"),
]


def looking_up(cached: Authenticator, held: Held, kind: str) -> Callable[[], Awaitable[Principal]]:
    if kind == "browser":
        return lambda: cached.authenticate_browser(held.browser)
    text = {"login": held.login, "token": held.token}[kind]
    return lambda: cached.authenticate(text)


async def is_refused(look_up: Callable[[], Awaitable[object]]) -> bool:
    try:
        await look_up()
    except Unauthorized:
        return True
    return False


@pytest.mark.parametrize(("act", "kind"), ENDED)
async def test_the_process_of_an_act_never_accepts_the_credentials_afterwards(
    act: Callable[[Database, Held], Awaitable[None]], kind: str, held: Held, cached: Authenticator, db: Database
):
    look_up = looking_up(cached, held, kind)
    await look_up()
    assert await in_cache(look_up)
    await act(db, held)
    assert await is_refused(look_up)


@pytest.mark.parametrize(("act", "kind"), ENDED)
async def test_other_processes_hear_of_an_act(
    act: Callable[[Database, Held], Awaitable[None]], kind: str, held: Held, cached: Authenticator, elsewhere: Database
):
    look_up = looking_up(cached, held, kind)
    await look_up()
    assert await in_cache(look_up)
    await act(elsewhere, held)
    await until(lambda: is_refused(look_up))


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("UPDATE users SET is_active = false WHERE id = %(user)s", "login"),
        ("UPDATE users SET credentials_version = credentials_version + 1 WHERE id = %(user)s", "browser"),
        ("DELETE FROM api_tokens WHERE user_id = %(user)s", "token"),
        ("UPDATE api_tokens SET reported_at = now() WHERE user_id = %(user)s", "token"),
        ("UPDATE api_tokens SET expires_at = now() WHERE user_id = %(user)s", "token"),
        ("UPDATE sessions SET confirmed_at = NULL WHERE user_id = %(user)s", "browser"),
        ("UPDATE sessions SET last_used_at = now() - interval '1 year' WHERE user_id = %(user)s", "browser"),
        ("INSERT INTO revoked_tokens SELECT jti, expires_at FROM sessions WHERE user_id = %(user)s", "login"),
    ],
)
async def test_changes_that_nobody_announces_are_announced_by_the_database(
    sql: str, kind: str, held: Held, cached: Authenticator, elsewhere: Database
):
    """An earlier release that still serves, or an operator, doesn't announce changes."""
    look_up = looking_up(cached, held, kind)
    await look_up()
    assert await in_cache(look_up)
    await run(elsewhere, sql, user=held.user.id)
    await until(lambda: is_refused(look_up))


async def test_changes_of_a_user_show_at_once(held: Held, cached: Authenticator, db: Database):
    assert (await cached.authenticate(held.login)).role == "user"
    await administer.set_role(db, "ada", "admin")
    assert (await cached.authenticate(held.login)).role == "admin"
    assert (await cached.find_user(held.login)).email_verified_at is None
    async with db.transaction() as conn:
        await mail.verify(conn, held.user.id)
    assert (await cached.find_user(held.login)).email_verified_at is not None
    async with db.transaction() as conn:
        await mail.set_email(conn, held.user.id, "lovelace@example.com")
    assert (await cached.find_user(held.login)).email == "lovelace@example.com"


async def test_a_confirmation_shows_at_once(held: Held, cached: Authenticator, db: Database):
    before = await cached.authenticate_browser(held.browser)
    await sessions.confirm(db, before)
    after = await cached.authenticate_browser(held.browser)
    assert before.confirmed_at is not None
    assert after.confirmed_at is not None
    assert after.confirmed_at > before.confirmed_at


async def test_the_end_of_a_publisher_ends_its_cached_tokens(held: Held, cached: Authenticator, db: Database):
    async with db.transaction() as conn:
        added = await publishers.add(
            conn, held.user.id, kind="github", issuer="https://example.com", wanted={}, pending_name="demo"
        )
    await run(db, "UPDATE api_tokens SET publisher_id = %(publisher)s", publisher=added.id)
    look_up = looking_up(cached, held, "token")
    await until(lambda: in_cache(look_up))
    async with db.transaction() as conn:
        assert await publishers.end_pending(conn, held.user.id, added.id) is not None
    assert await is_refused(look_up)


async def test_an_api_token_expires_while_it_is_cached(held: Held, cached: Authenticator, db: Database):
    soon = datetime.now(UTC) + timedelta(seconds=1)
    _, text = await create_api_token(db, held.principal, "short", ["read"], expires_at=soon)
    assert not await is_refused(lambda: cached.authenticate(text))
    await until(lambda: is_refused(lambda: cached.authenticate(text)))


async def test_wrong_credentials_are_not_cached(held: Held, cached: Authenticator, db: Database):
    await delete_token(db, held)
    for _ in range(2):
        before = lookups("database")
        assert await is_refused(lambda: cached.authenticate(held.token))
        assert lookups("database") == before + 1


async def test_the_cache_is_off_while_announcements_may_be_late(
    held: Held, db: Database, settings: AccountSettings, announcements: Announcements, monkeypatch: pytest.MonkeyPatch
):
    asked: list[float] = []

    def lags_at_most(seconds: float) -> bool:
        asked.append(seconds)
        return False

    cached = Authenticator(db, settings, CredentialCache(announcements))
    look_up = looking_up(cached, held, "login")
    await look_up()
    assert await in_cache(look_up)
    monkeypatch.setattr(announcements, "lags_at_most", lags_at_most)
    assert not await in_cache(look_up)
    assert set(asked) == {MAX_LAG_SECONDS}
    assert MAX_LAG_SECONDS < 1


async def test_announcements_that_were_missed_invalidate_everything(
    held: Held, db: Database, settings: AccountSettings, announcements: Announcements
):
    cache = CredentialCache(announcements)
    look_up = looking_up(Authenticator(db, settings, cache), held, "login")
    await look_up()
    assert await in_cache(look_up)
    cache._clear()
    assert not await in_cache(look_up)


async def test_a_change_during_a_read_keeps_its_result_out_of_the_cache(
    held: Held, db: Database, settings: AccountSettings, announcements: Announcements
):
    cache = CredentialCache(announcements)
    cached = Authenticator(db, settings, cache)
    user = await cached.find_user(held.login)
    stale = credential_cache.Found(user, None, None)

    async def read() -> credential_cache.Found:
        await administer.set_role(db, "ada", "admin")
        return stale

    assert await cache.judge("key", read, lambda found: found) is stale
    again = credential_cache.Found(replace(user, role="admin"), None, None)

    async def read_again() -> credential_cache.Found:
        return again

    assert await cache.judge("key", read_again, lambda found: found) is again


async def test_the_last_use_of_a_cached_token_is_recorded_once_a_minute(
    held: Held, cached: Authenticator, db: Database
):
    async def stored() -> datetime:
        async with db.read() as conn:
            used: datetime = await conn.value(Statement("SELECT last_used_at FROM api_tokens", {}))
        return used

    look_up = looking_up(cached, held, "token")
    await look_up()
    first = await stored()
    await look_up()
    assert await stored() == first
    await run(db, "UPDATE api_tokens SET last_used_at = last_used_at - interval '2 minutes', name = 'changed'")

    async def is_recorded_again() -> bool:
        await look_up()
        return await stored() >= first

    await until(is_recorded_again)
