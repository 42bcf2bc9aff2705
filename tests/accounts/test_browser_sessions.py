"""The sessions of browsers: their limits, their confirmation, and how they differ from API logins."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from registry.accounts.authenticate import is_signed, is_signed_browser
from registry.accounts.identity import Principal, User
from registry.accounts.leaks import revoke_leaked
from registry.accounts.login import change_password, login, logout
from registry.accounts.sessions import manage as sessions
from registry.accounts.sessions.manage import Browser
from registry.db.engine import Database, statement
from registry.db.tables import sessions as table
from registry.errors import Unauthorized
from registry.setting_parts import AccountSettings
from tests.accounts.authenticating import authenticate, authenticate_browser, verify

from .conftest import PASSWORD

NEW = "Battery-Staple-43"


async def open_browser(
    db: Database, settings: AccountSettings, replaces: Principal | None = None
) -> tuple[Principal, str]:
    """(the principal of a new session, its token)."""
    _, token, _ = await login(db, settings, "ada", PASSWORD, browser=Browser(replaces))
    return await authenticate_browser(db, settings, token), token


async def age(db: Database, **columns: timedelta) -> None:
    """Moves the given times of all sessions back."""
    async with db.transaction() as conn:
        await conn.run(statement(update(table).values({name: table.c[name] - by for name, by in columns.items()})))


async def is_valid(db: Database, settings: AccountSettings, token: str) -> bool:
    try:
        await authenticate_browser(db, settings, token)
    except Unauthorized:
        return False
    return True


async def test_a_cookies_token_is_not_valid_in_a_header_nor_the_other_way_round(
    db: Database, settings: AccountSettings, ada: User, ada_token: str
):
    principal, token = await open_browser(db, settings)
    assert (principal.user_id, principal.is_login) == (ada.id, True)
    assert await verify(db, settings, token) is None
    assert not is_signed(settings, token)
    assert is_signed_browser(settings, token)
    assert not await is_valid(db, settings, ada_token)
    assert not is_signed_browser(settings, ada_token)
    assert (await authenticate(db, settings, ada_token)).confirmed_at is None


async def test_a_session_ends_after_its_idle_time(db: Database, settings: AccountSettings, ada: User):
    _, token = await open_browser(db, settings)
    await age(db, last_used_at=settings.session_idle - timedelta(minutes=1))
    assert await is_valid(db, settings, token)
    # That was a use, so the idle time begins again.
    await age(db, last_used_at=settings.session_idle - timedelta(minutes=1))
    assert await is_valid(db, settings, token)
    await age(db, last_used_at=settings.session_idle + timedelta(seconds=1))
    assert not await is_valid(db, settings, token)


async def test_uses_are_recorded_often_enough_for_a_short_idle_time(db: Database, settings: AccountSettings, ada: User):
    short = replace(settings, session_idle=timedelta(seconds=60))
    _, token = await open_browser(db, short)
    for _ in range(3):
        await age(db, last_used_at=timedelta(seconds=40))
        assert await is_valid(db, short, token)


async def test_a_session_ends_after_its_longest_time_however_much_it_is_used(
    db: Database, settings: AccountSettings, ada: User
):
    short = replace(settings, session_max=timedelta(hours=1))
    _, token, expires_at = await login(db, short, "ada", PASSWORD, browser=Browser())
    assert timedelta(minutes=59) < expires_at - datetime.now(UTC) <= timedelta(hours=1)
    _, older = await open_browser(db, settings)
    assert await is_valid(db, short, older)
    await age(db, created_at=timedelta(hours=1))
    # The limit also holds for a session that began before an operator lowered it.
    assert not await is_valid(db, short, older)
    assert not await is_valid(db, short, token)
    assert await is_valid(db, settings, older)


async def test_the_limits_of_browsers_do_not_end_api_logins(db: Database, settings: AccountSettings, ada_token: str):
    await age(db, created_at=timedelta(days=29), last_used_at=timedelta(days=29))
    assert (await authenticate(db, settings, ada_token)).username == "Ada"


async def test_a_login_ends_the_session_that_the_browser_had_before(db: Database, settings: AccountSettings, ada: User):
    first, old = await open_browser(db, settings)
    _, elsewhere = await open_browser(db, settings)
    _, new = await open_browser(db, settings, replaces=first)
    assert [await is_valid(db, settings, token) for token in (old, elsewhere, new)] == [False, True, True]


async def test_signing_out_and_a_leak_end_a_session(db: Database, settings: AccountSettings, ada: User):
    principal, token = await open_browser(db, settings)
    await logout(db, principal)
    assert not await is_valid(db, settings, token)
    _, token = await open_browser(db, settings)
    assert await revoke_leaked(db, settings, token)
    assert not await is_valid(db, settings, token)


async def test_a_new_password_replaces_the_session_and_ends_all_others(
    db: Database, settings: AccountSettings, ada: User
):
    principal, token = await open_browser(db, settings)
    _, other = await open_browser(db, settings)
    _, fresh, _ = await change_password(db, settings, principal, PASSWORD, NEW)
    assert [await is_valid(db, settings, each) for each in (token, other, fresh)] == [False, False, True]


async def test_a_session_is_fresh_until_it_must_be_confirmed_again(db: Database, settings: AccountSettings, ada: User):
    principal, token = await open_browser(db, settings)
    assert sessions.is_fresh(settings, principal)
    await age(db, confirmed_at=settings.reauth + timedelta(seconds=1))
    principal = await authenticate_browser(db, settings, token)
    assert not sessions.is_fresh(settings, principal)
    await sessions.confirm(db, principal)
    principal = await authenticate_browser(db, settings, token)
    assert sessions.is_fresh(settings, principal)
    await logout(db, principal)
    with pytest.raises(Unauthorized):
        await sessions.confirm(db, principal)


async def test_an_api_login_is_never_fresh(db: Database, settings: AccountSettings, ada_login: Principal):
    assert not sessions.is_fresh(settings, ada_login)


async def test_sessions_that_are_over_are_not_listed(db: Database, settings: AccountSettings, ada_login: Principal):
    await open_browser(db, settings)

    async def count() -> int:
        return len(await sessions.list_sessions(db, settings, ada_login, 2**62, 10))

    assert await count() == 2
    await age(db, last_used_at=settings.session_idle)
    assert await count() == 1
