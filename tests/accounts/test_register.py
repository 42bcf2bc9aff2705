import asyncio
from dataclasses import replace

import pytest

from registry.accounts.identity import Principal, User
from registry.accounts.register import register, require_open
from registry.db.engine import Database
from registry.errors import Forbidden, InvalidInput, Unauthorized, UserExists
from registry.setting_parts import AccountSettings

from .conftest import PASSWORD


async def test_a_new_user_is_active_and_has_the_role_user(ada: User):
    assert (ada.username, ada.email, ada.role, ada.is_active) == ("Ada", "ada@example.com", "user", True)
    assert ada.created_at.utcoffset() is not None


@pytest.mark.parametrize("email", [None, ""])
async def test_several_users_may_have_no_address(email: str | None, db: Database, settings: AccountSettings):
    for name in ("one", "two"):
        assert (await register(db, settings, name, PASSWORD, email)).email is None


async def test_one_error_names_all_wrong_fields(db: Database, settings: AccountSettings):
    with pytest.raises(InvalidInput) as raised:
        await register(db, settings, "-x", "short", "nobody")
    assert [error["field"] for error in raised.value.errors] == ["username", "password", "email"]


@pytest.mark.parametrize(
    "username", ["", "ab", "_ab", "ab-", "a" * 51, "a b", "a\nb", "abc\n", "ada\0", "\ud800ab", "Ådá", "a@b.c"]
)
async def test_invalid_usernames_are_refused(username: str, db: Database, settings: AccountSettings):
    with pytest.raises(InvalidInput) as raised:
        await register(db, settings, username, PASSWORD)
    assert [error["field"] for error in raised.value.errors] == ["username"]


@pytest.mark.parametrize(
    "email",
    [
        "ada",
        "@example.com",
        "ada@",
        "ada@localhost",
        "ada@exa mple.com",
        "ada@example..com",
        "ada@-example.com",
        "a@b@example.com",
        "ada\0@example.com",
        "ada\ud800@example.com",
        "ada\u202e@example.com",
        "ada@example.com\r\nBcc: eve@example.com",
        "Ada <ada@example.com>",
        "a" * 65 + "@example.com",
        "ada@" + "a" * 60 + ("." + "a" * 60) * 4,
    ],
)
async def test_invalid_addresses_are_refused(email: str, db: Database, settings: AccountSettings):
    with pytest.raises(InvalidInput) as raised:
        await register(db, settings, "ada", PASSWORD, email)
    assert [error["field"] for error in raised.value.errors] == ["email"]


@pytest.mark.parametrize("email", ["a@b.co", "ada+x.y_z%1@mail.example.com", "дарья@пример.рф", "ada@münchen.de"])
async def test_valid_addresses_are_accepted(email: str, db: Database, settings: AccountSettings):
    assert (await register(db, settings, "A-1_b", PASSWORD, email)).email == email


@pytest.mark.parametrize(
    ("username", "email", "field"), [("aDA", None, "username"), ("eve", "ADA@example.COM", "email")]
)
async def test_names_and_addresses_are_unique_ignoring_case(
    username: str, email: str | None, field: str, ada: User, db: Database, settings: AccountSettings
):
    with pytest.raises(UserExists) as raised:
        await register(db, settings, username, PASSWORD, email)
    assert [error["field"] for error in raised.value.errors] == [field]


async def test_one_of_three_concurrent_registrations_succeeds(db: Database, settings: AccountSettings):
    results = await asyncio.gather(
        *(register(db, settings, name, PASSWORD) for name in ("Ada", "ada", "ADA")), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["User", "UserExists", "UserExists"]


async def test_an_unknown_role_is_refused(db: Database, settings: AccountSettings):
    with pytest.raises(InvalidInput, match="role"):
        await register(db, settings, "ada", PASSWORD, role="root")


def test_only_admins_may_register_users_while_registration_is_closed(settings: AccountSettings):
    closed = replace(settings, registration="closed")
    admin = Principal(user_id=1, username="root", role="admin", credentials_version=1, jti="x")
    require_open(settings, None)
    require_open(closed, admin)
    with pytest.raises(Unauthorized):
        require_open(closed, None)
    with pytest.raises(Forbidden):
        require_open(closed, replace(admin, role="user"))
    with pytest.raises(Forbidden):
        require_open(closed, replace(admin, scopes=frozenset({"publish"}), token_id=1))
