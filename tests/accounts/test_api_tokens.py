import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from registry.accounts import administer, store
from registry.accounts.api_tokens import MAX_TOKENS, create_api_token, delete_api_token, list_api_tokens
from registry.accounts.identity import Principal
from registry.accounts.login import change_password, login
from registry.accounts.register import register
from registry.db.engine import Database, statement
from registry.db.tables import api_tokens
from registry.errors import Conflict, Forbidden, InvalidInput, NotFound, Unauthorized
from registry.setting_parts import AccountSettings
from tests.accounts.authenticating import authenticate

from .conftest import PASSWORD


async def test_a_token_is_created_listed_and_deleted(ada_login: Principal, db: Database):
    kept, text = await create_api_token(db, ada_login, " ci ", ["read", "publish", "read"], ["b", "a", "b"])
    assert (kept.name, kept.scopes, kept.packages) == ("ci", ("publish", "read"), ("a", "b"))
    assert (kept.expires_at, kept.last_used_at) == (None, None)
    assert await list_api_tokens(db, ada_login) == [kept]
    async with db.read() as conn:
        (row,) = await conn.all(statement(api_tokens.select()))
    assert text not in str(row)
    await delete_api_token(db, ada_login, kept.id)
    assert await list_api_tokens(db, ada_login) == []


async def test_an_expiry_is_given_in_days_or_as_a_time(ada_login: Principal, db: Database):
    now = datetime.now(UTC)
    by_days, _ = await create_api_token(db, ada_login, "a", ["read"], expires_in_days=3650)
    assert by_days.expires_at is not None
    assert timedelta(days=3650) <= by_days.expires_at - now < timedelta(days=3650, minutes=1)
    by_time, _ = await create_api_token(db, ada_login, "b", ["read"], expires_at=now + timedelta(hours=1))
    assert by_time.expires_at == now + timedelta(hours=1)


SOON = datetime.now(UTC) + timedelta(hours=1)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "  "}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"name": "a\ud800b"}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["publish", "root"]}, "scopes"),
        ({"scopes": ["admin"]}, "scopes"),
        ({"packages": []}, "packages"),
        ({"packages": ["a\0"]}, "packages"),
        ({"packages": ["Bad"]}, "packages"),
        ({"packages": ["p"] * 101}, "packages"),
        ({"expires_in_days": 0}, "expires_in_days"),
        ({"expires_in_days": 3651}, "expires_in_days"),
        ({"expires_in_days": 10**30}, "expires_in_days"),
        ({"expires_at": datetime.now(UTC) - timedelta(seconds=1)}, "expires_at"),
        ({"expires_at": datetime.now(UTC) + timedelta(days=3651)}, "expires_at"),
        ({"expires_at": SOON.replace(tzinfo=None)}, "expires_at"),
        ({"expires_at": SOON, "expires_in_days": 1}, "expires_at"),
    ],
)
async def test_an_error_names_the_wrong_field(wrong: dict[str, object], field: str, ada_login: Principal, db: Database):
    with pytest.raises(InvalidInput) as raised:
        await create_api_token(db, ada_login, **{"name": "ci", "scopes": ["read"], **wrong})
    assert [error["field"] for error in raised.value.errors] == [field]


async def test_one_error_names_all_wrong_fields(ada_login: Principal, db: Database):
    with pytest.raises(InvalidInput) as raised:
        await create_api_token(db, ada_login, "", [], [""], 0)
    assert [error["field"] for error in raised.value.errors] == ["name", "scopes", "packages", "expires_in_days"]


async def test_an_admin_token_is_not_bound_to_packages(ada_token: str, db: Database, settings: AccountSettings):
    await administer.set_role(db, "ada", "admin")
    admin = await authenticate(db, settings, ada_token)
    assert admin is not None
    _, text = await create_api_token(db, admin, "ops", ["admin"])
    principal = await authenticate(db, settings, text)
    assert principal.is_admin
    with pytest.raises(InvalidInput, match="packages"):
        await create_api_token(db, admin, "ops", ["admin"], ["p"])


async def test_an_api_token_cannot_manage_tokens(ada_login: Principal, db: Database, settings: AccountSettings):
    kept, text = await create_api_token(db, ada_login, "ci", ["publish", "yank", "read"])
    principal = await authenticate(db, settings, text)
    with pytest.raises(Forbidden):
        await create_api_token(db, principal, "more", ["read"])
    with pytest.raises(Forbidden):
        await list_api_tokens(db, principal)
    with pytest.raises(Forbidden):
        await delete_api_token(db, principal, kept.id)


async def test_users_cannot_see_or_delete_tokens_of_others(
    ada_login: Principal, db: Database, settings: AccountSettings
):
    kept, _ = await create_api_token(db, ada_login, "ci", ["read"])
    await register(db, settings, "eve", PASSWORD)
    eve = await authenticate(db, settings, (await login(db, settings, "eve", PASSWORD))[1])
    assert eve is not None
    assert await list_api_tokens(db, eve) == []
    for token_id in (kept.id, 0, -1, 2**63, 10**30):
        with pytest.raises(NotFound):
            await delete_api_token(db, eve, token_id)
    assert await list_api_tokens(db, ada_login) == [kept]


async def test_concurrent_requests_cannot_exceed_the_maximum_of_tokens(ada_login: Principal, db: Database):
    for number in range(MAX_TOKENS - 2):
        await create_api_token(db, ada_login, f"t{number}", ["read"])
    results = await asyncio.gather(
        *(create_api_token(db, ada_login, f"more{number}", ["read"]) for number in range(6)), return_exceptions=True
    )
    assert sum(isinstance(result, Conflict) for result in results) == 4
    assert len(await list_api_tokens(db, ada_login)) == MAX_TOKENS


async def test_a_login_from_before_a_password_change_cannot_create_a_token(
    ada_login: Principal, db: Database, settings: AccountSettings
):
    await change_password(db, settings, ada_login, PASSWORD, "Battery-Staple-43")
    with pytest.raises(Unauthorized):
        await create_api_token(db, ada_login, "ci", ["read"])


async def test_no_token_is_created_during_a_password_change(ada_login: Principal, db: Database):
    async with db.read() as conn:
        found = await store.user_by_id(conn, ada_login.user_id)
    assert found is not None
    async with db.transaction() as conn:
        await store.change_password(conn, ada_login.user_id, seen=found[1], fresh="another")
        making = asyncio.create_task(create_api_token(db, ada_login, "ci", ["read"]))
        await asyncio.wait([making], timeout=0.5)
    with pytest.raises(Unauthorized):
        await making
    assert await list_api_tokens(db, ada_login) == []
