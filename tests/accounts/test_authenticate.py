from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from registry.accounts import administer, store, tokens
from registry.accounts.api_tokens import create_api_token, list_api_tokens
from registry.accounts.authenticate import bearer_token
from registry.accounts.identity import Principal, User
from registry.db.engine import Connection, Database, statement
from registry.db.tables import users
from registry.errors import DatabaseUnavailable, NotFound, Unauthorized
from registry.setting_parts import AccountSettings
from tests.accounts.authenticating import authenticate, find_user, verify


@pytest.mark.parametrize("header", [None, "", "Basic YTpi", "Bearerx y", "Token abc", "bear er"])
def test_other_schemes_have_no_bearer_token(header: str | None):
    assert bearer_token(header) is None


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Bearer ", "Bearer x", "Bearer a.b.c", "Bearer \udcff", "Bearer \0", "Bearer syn_", "bearer syn_\udcff"],
)
async def test_malformed_bearer_credentials_are_refused(header: str, db: Database, settings: AccountSettings):
    token = bearer_token(header)
    assert token is not None
    with pytest.raises(Unauthorized):
        await authenticate(db, settings, token)


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER   {}", " Bearer {} ", "Bearer \t{}\t"])
def test_case_and_blanks_in_an_authorization_header_are_ignored(form: str):
    assert bearer_token(form.format("a.b.c")) == "a.b.c"


async def test_a_login_has_no_list_of_scopes(ada: User, ada_token: str, db: Database, settings: AccountSettings):
    principal = await authenticate(db, settings, ada_token)
    assert principal.user_id == ada.id
    assert principal.is_login
    assert principal.scopes is None
    assert await find_user(db, settings, ada_token) == ada


async def test_a_forged_token_of_a_real_user_is_refused(ada: User, db: Database, settings: AccountSettings):
    forged, _ = tokens.issue(ada, replace(settings, secret_keys=("w" * 40,)), datetime.now(UTC))
    with pytest.raises(Unauthorized, match="not valid"):
        await authenticate(db, settings, forged)
    assert await verify(db, settings, forged) is None


async def test_a_login_stays_valid_after_a_key_rotation(
    ada: User, ada_token: str, db: Database, settings: AccountSettings
):
    rotated = replace(settings, secret_keys=("n" * 40, *settings.secret_keys))
    assert await verify(db, rotated, ada_token) == ada


async def test_a_signed_token_for_an_unknown_user_is_refused(user: User, db: Database, settings: AccountSettings):
    token, _ = tokens.issue(replace(user, id=2**63 - 1), settings, datetime.now(UTC))
    with pytest.raises(Unauthorized, match="not valid"):
        await authenticate(db, settings, token)


async def test_reactivating_a_user_does_not_revive_old_tokens(
    ada_token: str, ada_login: Principal, db: Database, settings: AccountSettings
):
    _, api_token = await create_api_token(db, ada_login, "ci", ["read"])
    await administer.deactivate(db, "ADA")
    for token in (ada_token, api_token):
        with pytest.raises(Unauthorized):
            await authenticate(db, settings, token)
    assert (await administer.reactivate(db, "ada")).is_active
    for token in (ada_token, api_token):
        with pytest.raises(Unauthorized):
            await authenticate(db, settings, token)


async def test_tokens_of_an_inactive_account_are_refused(
    ada_token: str, ada_login: Principal, db: Database, settings: AccountSettings
):
    _, api_token = await create_api_token(db, ada_login, "ci", ["read"])
    async with db.transaction() as conn:
        await conn.run(statement(users.update().values(is_active=sa.false())))
    for token in (ada_token, api_token):
        with pytest.raises(Unauthorized):
            await authenticate(db, settings, token)
        assert await verify(db, settings, token) is None


async def test_a_role_changes_at_once(ada_token: str, db: Database, settings: AccountSettings):
    await administer.set_role(db, "ada", "admin")
    principal = await authenticate(db, settings, ada_token)
    assert principal.is_admin
    await administer.set_role(db, "ada", "user")
    principal = await authenticate(db, settings, ada_token)
    assert not principal.is_admin


async def test_operators_cannot_change_unknown_users(db: Database):
    for operate in (administer.deactivate, administer.reactivate):
        with pytest.raises(NotFound):
            await operate(db, "nobody")
    with pytest.raises(NotFound):
        await administer.set_role(db, "nobody", "admin")


async def test_an_api_token_has_its_scopes_and_packages(ada_login: Principal, db: Database, settings: AccountSettings):
    kept, text = await create_api_token(db, ada_login, "ci", ["yank", "publish"], ["b", "a"], expires_in_days=1)
    principal = await authenticate(db, settings, text)
    assert principal == Principal(
        user_id=ada_login.user_id,
        username="Ada",
        role="user",
        credentials_version=1,
        scopes=frozenset({"publish", "yank"}),
        packages=frozenset({"a", "b"}),
        token_id=kept.id,
        token_name="ci",
        expires_at=kept.expires_at,
    )
    assert (await verify(db, settings, text)) is not None


async def test_an_unknown_api_token_with_a_right_checksum_is_refused(db: Database, settings: AccountSettings):
    with pytest.raises(Unauthorized, match="API token is not valid"):
        await authenticate(db, settings, tokens.make_api_token())


async def test_an_expired_api_token_is_refused(ada_login: Principal, db: Database, settings: AccountSettings):
    text = tokens.make_api_token()
    async with db.transaction() as conn:
        await store.add_api_token(
            conn,
            ada_login.user_id,
            name="old",
            token_hash=tokens.hash_api_token(text),
            scopes=["read"],
            packages=None,
            expires_at=datetime.now(UTC) - timedelta(seconds=1),
        )
    with pytest.raises(Unauthorized, match="expired"):
        await authenticate(db, settings, text)


async def test_the_last_use_is_recorded_once_a_minute(ada_login: Principal, db: Database, settings: AccountSettings):
    kept, text = await create_api_token(db, ada_login, "ci", ["read"])
    assert kept.last_used_at is None
    await authenticate(db, settings, text)
    first = await last_use(db, ada_login)
    await authenticate(db, settings, text)
    assert await last_use(db, ada_login) == first
    earlier = first - timedelta(minutes=2)
    async with db.transaction() as conn:
        await store.mark_used(conn, kept.id, now=earlier, before=datetime.now(UTC) + timedelta(minutes=1))
    assert await last_use(db, ada_login) == earlier
    await authenticate(db, settings, text)
    assert await last_use(db, ada_login) > first


async def last_use(db: Database, principal: Principal) -> datetime:
    (kept,) = await list_api_tokens(db, principal)
    assert kept.last_used_at is not None
    return kept.last_used_at


async def test_authentication_succeeds_when_the_last_use_cannot_be_recorded(
    ada_login: Principal, db: Database, settings: AccountSettings, monkeypatch: pytest.MonkeyPatch
):
    _, text = await create_api_token(db, ada_login, "ci", ["read"])

    @asynccontextmanager
    async def away() -> AsyncIterator[Connection]:
        raise DatabaseUnavailable("away")
        yield

    with monkeypatch.context() as patch:
        patch.setattr(db, "transaction", away)
        await authenticate(db, settings, text)
    (kept,) = await list_api_tokens(db, ada_login)
    assert kept.last_used_at is None


async def test_revoked_logins_are_deleted_after_they_expire(ada: User, db: Database):
    now = datetime.now(UTC)
    async with db.transaction() as conn:
        await store.revoke(conn, ada.id, "long-expired", now - timedelta(hours=2))
        await store.revoke(conn, ada.id, "just-expired", now - timedelta(minutes=1))
        await store.revoke(conn, ada.id, "alive", now + timedelta(days=1))
    assert await administer.purge_expired(db) == 1
    assert await administer.purge_expired(db) == 0
