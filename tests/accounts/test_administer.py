"""What operators do with accounts."""

import logging

import pytest

from registry.accounts import administer
from registry.accounts.api_tokens import create_api_token
from registry.accounts.authenticate import authenticate
from registry.accounts.identity import Principal
from registry.accounts.login import login
from registry.db.engine import Database
from registry.errors import InvalidInput, NotFound, Unauthorized
from registry.setting_parts import AccountSettings

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
