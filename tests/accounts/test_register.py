import asyncio
from dataclasses import replace

import pytest

from registry.accounts.identity import Principal, User
from registry.accounts.register import register, require_open
from registry.db.engine import Database
from registry.errors import Forbidden, InvalidInput, Unauthorized, UserExists
from registry.settings import AccountSettings

from .conftest import PASSWORD


async def test_a_new_user(ada: User):
    assert (ada.username, ada.email, ada.role, ada.is_active) == ("Ada", "ada@example.com", "user", True)
    assert ada.created_at.utcoffset() is not None


@pytest.mark.parametrize("email", [None, ""])
async def test_many_users_can_be_without_an_address(email: str | None, db: Database, settings: AccountSettings):
    for name in ("one", "two"):
        assert (await register(db, settings, name, PASSWORD, email)).email is None


async def test_every_wrong_field_is_named_at_once(db: Database, settings: AccountSettings):
    with pytest.raises(InvalidInput) as raised:
        await register(db, settings, "-x", "short", "nobody")
    assert [error["field"] for error in raised.value.errors] == ["username", "password", "email"]


@pytest.mark.parametrize(
    "username", ["", "ab", "_ab", "ab-", "a" * 51, "a b", "a\nb", "abc\n", "ada\0", "\ud800ab", "Ådá", "a@b.c"]
)
async def test_bad_usernames(username: str, db: Database, settings: AccountSettings):
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
async def test_bad_addresses(email: str, db: Database, settings: AccountSettings):
    with pytest.raises(InvalidInput) as raised:
        await register(db, settings, "ada", PASSWORD, email)
    assert [error["field"] for error in raised.value.errors] == ["email"]


@pytest.mark.parametrize("email", ["a@b.co", "ada+x.y_z%1@mail.example.com", "дарья@пример.рф", "ada@münchen.de"])
async def test_good_addresses(email: str, db: Database, settings: AccountSettings):
    assert (await register(db, settings, "A-1_b", PASSWORD, email)).email == email


@pytest.mark.parametrize(
    ("username", "email", "field"), [("aDA", None, "username"), ("eve", "ADA@example.COM", "email")]
)
async def test_a_name_or_an_address_is_unique_in_any_case(
    username: str, email: str | None, field: str, ada: User, db: Database, settings: AccountSettings
):
    with pytest.raises(UserExists) as raised:
        await register(db, settings, username, PASSWORD, email)
    assert [error["field"] for error in raised.value.errors] == [field]


async def test_of_two_registrations_at_once_one_wins(db: Database, settings: AccountSettings):
    results = await asyncio.gather(
        *(register(db, settings, name, PASSWORD) for name in ("Ada", "ada", "ADA")), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["User", "UserExists", "UserExists"]


async def test_an_unknown_role_is_refused(db: Database, settings: AccountSettings):
    with pytest.raises(InvalidInput, match="role"):
        await register(db, settings, "ada", PASSWORD, role="root")


def test_closed_registration_is_for_admins(settings: AccountSettings):
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
