"""What operators do with accounts."""

import logging
from typing import Any

import pytest

from registry.accounts import administer
from registry.accounts.api_tokens import create_api_token
from registry.accounts.identity import Principal, User
from registry.accounts.listing import users
from registry.accounts.login import login
from registry.accounts.register import register
from registry.audit.read import registry_audit
from registry.audit.store import Filters
from registry.db.engine import Database, Statement
from registry.errors import Conflict, Forbidden, InvalidInput, NotFound, Unauthorized
from registry.factors.administer import reset_factors
from registry.setting_parts import AccountSettings
from registry.web.paging import NEWEST
from tests.accounts.authenticating import authenticate

from .conftest import PASSWORD

NEW = "Battery-Staple-43"


async def test_resetting_a_password_ends_all_logins_and_api_tokens(
    ada_token: str, ada_login: Principal, db: Database, settings: AccountSettings
):
    _, api_token = await create_api_token(db, ada_login, "ci", ["publish"])
    await administer.reset_password(db, settings, "ADA", NEW)
    for ended in (ada_token, api_token):
        with pytest.raises(Unauthorized):
            await authenticate(db, settings, ended)
    with pytest.raises(Unauthorized):
        await login(db, settings, "ada", PASSWORD)
    assert (await login(db, settings, "ada", NEW))[0].username == "Ada"


async def test_a_reset_refuses_weak_passwords_and_unknown_users(
    ada_login: Principal, db: Database, settings: AccountSettings
):
    with pytest.raises(InvalidInput, match="most common"):
        await administer.reset_password(db, settings, "ada", "password1")
    with pytest.raises(InvalidInput, match="e-mail"):
        await administer.reset_password(db, settings, "ada", "ada@example.com")
    with pytest.raises(NotFound):
        await administer.reset_password(db, settings, "nobody", NEW)
    await login(db, settings, "ada", PASSWORD)


async def test_account_changes_are_logged_without_secrets(
    ada_login: Principal, db: Database, settings: AccountSettings, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    await administer.set_role(db, "ada", "admin")
    await administer.reset_password(db, settings, "ada", NEW)
    await administer.deactivate(db, "ada")
    await administer.reactivate(db, "ada")
    audit = [record for record in caplog.records if record.name.startswith("registry.accounts")]
    assert [record.message for record in audit] == [
        "role changed", "password reset", "user deactivated", "user reactivated",
    ]  # fmt: skip
    assert {vars(record)["user_id"] for record in audit} == {ada_login.user_id}
    assert NEW not in str([vars(record) for record in audit])


@pytest.fixture
async def root(db: Database, settings: AccountSettings) -> Principal:
    """The login of an admin."""
    await register(db, settings, "root", PASSWORD, None, "admin")
    return await authenticate(db, settings, (await login(db, settings, "root", PASSWORD))[1])


async def test_an_admin_changes_other_accounts_and_the_audit_log_names_the_admin(
    ada: User, root: Principal, db: Database, settings: AccountSettings
):
    assert (await administer.set_role(db, "ada", "admin", root)).role == "admin"
    await administer.deactivate(db, "ada", root)
    with pytest.raises(Unauthorized):
        await login(db, settings, "ada", PASSWORD)
    await administer.reactivate(db, "ada", root)
    await reset_factors(db, "ada", root)
    assert (await login(db, settings, "ada", PASSWORD))[0].role == "admin"
    entries = (await registry_audit(db, root, Filters(actor="root"), NEWEST, 20))["entries"]
    acts = [entry["action"] for entry in entries if entry["action"] != "login.succeed"]
    assert acts == ["factor.reset", "user.reactivate", "user.deactivate", "user.role"]


async def test_only_admins_change_other_accounts_and_no_admin_the_own_one(
    ada_login: Principal, root: Principal, db: Database, settings: AccountSettings
):
    for act in (
        lambda name, who: administer.set_role(db, name, "user", who),
        lambda name, who: administer.deactivate(db, name, who),
        lambda name, who: administer.reactivate(db, name, who),
        lambda name, who: reset_factors(db, name, who),
    ):
        with pytest.raises(Forbidden):
            await act("root", ada_login)
        with pytest.raises(Conflict, match="own account"):
            await act("root", root)
        with pytest.raises(NotFound):
            await act("nobody", root)
    with pytest.raises(Forbidden):
        await users.list_users(db, ada_login, users.Wanted(), NEWEST, 10)
    with pytest.raises(Forbidden):
        await users.find_user(db, ada_login, "ada")
    assert (await authenticate(db, settings, (await login(db, settings, "root", PASSWORD))[1])).is_admin


async def test_admins_list_users_by_name_address_role_and_state(
    ada: User, root: Principal, db: Database, settings: AccountSettings
):
    await register(db, settings, "bob_100", PASSWORD, None)
    await administer.deactivate(db, "bob_100", root)

    async def named(**wanted: Any) -> list[str]:
        return [each.username for each in await users.list_users(db, root, users.Wanted(**wanted), NEWEST, 10)]

    assert await named() == ["bob_100", "root", "Ada"]
    assert await named(text="ADA@exam") == ["Ada"]
    assert await named(text="b_1") == ["bob_100"]
    assert await named(text="%") == []
    assert await named(role="admin") == ["root"]
    assert await named(active=False) == ["bob_100"]
    assert await named(text="a", role="user", active=True) == ["Ada"]
    [first] = await users.list_users(db, root, users.Wanted(), NEWEST, 1)
    assert [each.username for each in await users.list_users(db, root, users.Wanted(), first.id, 10)] == ["root", "Ada"]


async def test_a_listed_user_has_factors_and_the_last_sign_in(
    ada: User, root: Principal, db: Database, settings: AccountSettings
):
    found = await users.find_user(db, root, "ADA")
    assert (found.email, found.last_sign_in_at, found.has_factors, found.packages) == (
        "ada@example.com",
        None,
        False,
        0,
    )
    await login(db, settings, "ada", PASSWORD)
    async with db.transaction() as conn:
        await conn.run(
            Statement("INSERT INTO totp_secrets (user_id, sealed, confirmed_at) SELECT id, 'x', NULL FROM users", {})
        )
    found = await users.find_user(db, root, "ada")
    assert found.last_sign_in_at is not None
    assert not found.has_factors
    async with db.transaction() as conn:
        await conn.run(Statement("UPDATE totp_secrets SET confirmed_at = now()", {}))
    assert (await users.find_user(db, root, "ada")).has_authenticator
