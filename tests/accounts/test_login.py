import asyncio
import base64
import hashlib
from dataclasses import replace

import pytest

from registry.accounts import administer, store
from registry.accounts.api_tokens import create_api_token, list_api_tokens
from registry.accounts.identity import Principal, User
from registry.accounts.login import change_password, login, logout
from registry.accounts.register import register
from registry.db.engine import Database, statement
from registry.db.tables import users
from registry.errors import Conflict, Forbidden, InvalidInput, Unauthorized
from registry.setting_parts import AccountSettings
from tests.accounts.authenticating import authenticate, verify

from .conftest import PASSWORD

NEW = "Battery-Staple-43"
COMPOSED = "Caf\u00e9-Horse-42"
DECOMPOSED = "Cafe\u0301-Horse-42"


def record_hashes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """(algorithm, iterations) of each PBKDF2 run from now on."""
    runs: list[tuple[str, int]] = []
    compute = hashlib.pbkdf2_hmac

    def recorded(name: str, secret: bytes, salt: bytes, iterations: int) -> bytes:
        runs.append((name, iterations))
        return compute(name, secret, salt, iterations)

    monkeypatch.setattr(hashlib, "pbkdf2_hmac", recorded)
    return runs


@pytest.mark.parametrize("name", ["Ada", "ada", "ADA", "ada@example.com", "Ada@Example.com"])
async def test_login_by_name_or_address(name: str, ada: User, db: Database, settings: AccountSettings):
    user, token, expires_at = await login(db, settings, name, PASSWORD)
    assert user == ada
    principal = await authenticate(db, settings, token)
    assert (principal.user_id, principal.username, principal.expires_at) == (ada.id, "Ada", expires_at)


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("ada", "wrong-password"),
        ("ada", ""),
        ("ada", "\ud800"),
        ("nobody", PASSWORD),
        ("nobody@example.com", PASSWORD),
        ("ada\0", PASSWORD),
        ("\udcff", PASSWORD),
        ("", PASSWORD),
        ("%", PASSWORD),
        ("gone", PASSWORD),
    ],
)
async def test_every_failed_login_hashes_as_much_and_has_the_same_text(
    name: str, password: str, ada: User, db: Database, settings: AccountSettings, monkeypatch: pytest.MonkeyPatch
):
    await register_inactive(db, settings)
    runs = record_hashes(monkeypatch)
    with pytest.raises(Unauthorized) as raised:
        await login(db, settings, name, password)
    assert raised.value.detail == "The user name or the password is wrong."
    assert runs == [("sha256", settings.pbkdf2_iterations)]


async def register_inactive(db: Database, settings: AccountSettings) -> None:
    await register(db, settings, "gone", PASSWORD)
    await administer.deactivate(db, "gone")


async def test_a_login_raises_the_iterations_of_the_hash(ada: User, db: Database, settings: AccountSettings):
    raised = replace(settings, pbkdf2_iterations=120_000)
    before = await stored_hash(db)
    await login(db, raised, "ada", PASSWORD)
    after = await stored_hash(db)
    assert before.startswith("pbkdf2_sha256$100000$")
    assert after.startswith("pbkdf2_sha256$120000$")
    await login(db, settings, "ada", PASSWORD)
    assert await stored_hash(db) == after


async def test_a_hash_from_before_normalization_is_replaced_at_login(
    ada: User, db: Database, settings: AccountSettings
):
    raw = hashlib.pbkdf2_hmac("sha256", DECOMPOSED.encode(), b"NaClNaClNaCl", settings.pbkdf2_iterations)
    stored = f"pbkdf2_sha256${settings.pbkdf2_iterations}$NaClNaClNaCl${base64.b64encode(raw).decode()}"
    async with db.transaction() as conn:
        await store.rehash(conn, ada.id, seen=await stored_hash(db), fresh=stored)
    with pytest.raises(Unauthorized):
        await login(db, settings, "ada", COMPOSED)
    assert (await login(db, settings, "ada", DECOMPOSED))[0] == ada
    assert await stored_hash(db) != stored
    assert (await login(db, settings, "ada", COMPOSED))[0] == ada


@pytest.mark.parametrize("name", ["ada", "nobody"])
async def test_a_password_of_two_forms_costs_the_same_for_unknown_users(
    name: str, ada: User, db: Database, settings: AccountSettings, monkeypatch: pytest.MonkeyPatch
):
    runs = record_hashes(monkeypatch)
    with pytest.raises(Unauthorized):
        await login(db, settings, name, DECOMPOSED)
    assert runs == [("sha256", settings.pbkdf2_iterations)] * 2


async def stored_hash(db: Database) -> str:
    async with db.read() as conn:
        return await conn.value(statement(users.select().with_only_columns(users.c.password_hash)))


async def test_logout_ends_only_this_login(ada: User, db: Database, settings: AccountSettings):
    _, first, _ = await login(db, settings, "ada", PASSWORD)
    _, second, _ = await login(db, settings, "ada", PASSWORD)
    principal = await authenticate(db, settings, first)
    await logout(db, principal)
    await logout(db, principal)
    with pytest.raises(Unauthorized, match="revoked"):
        await authenticate(db, settings, first)
    assert await verify(db, settings, first) is None
    assert await verify(db, settings, second) == ada


async def test_logout_of_an_api_token_deletes_it(ada_login: Principal, db: Database, settings: AccountSettings):
    _, text = await create_api_token(db, ada_login, "ci", ["read"])
    principal = await authenticate(db, settings, text)
    await logout(db, principal)
    assert await list_api_tokens(db, ada_login) == []
    with pytest.raises(Unauthorized):
        await authenticate(db, settings, text)


async def test_a_password_change_ends_every_token_but_the_new_one(
    ada_token: str, ada_login: Principal, db: Database, settings: AccountSettings
):
    _, api_token = await create_api_token(db, ada_login, "ci", ["publish"])
    user, fresh, _ = await change_password(db, settings, ada_login, PASSWORD, NEW)
    for ended in (ada_token, api_token):
        with pytest.raises(Unauthorized):
            await authenticate(db, settings, ended)
    assert await verify(db, settings, fresh) == user
    with pytest.raises(Unauthorized):
        await login(db, settings, "ada", PASSWORD)
    assert (await login(db, settings, "ada", NEW))[0] == user


@pytest.mark.parametrize(
    ("current", "new", "fields"),
    [
        ("wrong", NEW, ["current_password"]),
        (PASSWORD, "short", ["new_password"]),
        ("wrong", "Ada@Example.com", ["current_password", "new_password"]),
    ],
)
async def test_a_refused_password_change_changes_nothing(
    current: str, new: str, fields: list[str], ada_login: Principal, db: Database, settings: AccountSettings
):
    with pytest.raises(InvalidInput) as raised:
        await change_password(db, settings, ada_login, current, new)
    assert [error["field"] for error in raised.value.errors] == fields
    await login(db, settings, "ada", PASSWORD)


async def test_one_of_two_concurrent_password_changes_succeeds(
    ada_login: Principal, db: Database, settings: AccountSettings
):
    results = await asyncio.gather(
        *(change_password(db, settings, ada_login, PASSWORD, new) for new in (NEW, NEW + "x")), return_exceptions=True
    )
    # The later request finds the new password either when it checks the current one or when it stores the new hash.
    assert sorted(isinstance(result, Conflict | InvalidInput) for result in results) == [False, True]


async def test_an_api_token_may_not_change_the_password(ada_login: Principal, db: Database, settings: AccountSettings):
    _, text = await create_api_token(db, ada_login, "ci", ["publish", "yank", "read"])
    principal = await authenticate(db, settings, text)
    with pytest.raises(Forbidden):
        await change_password(db, settings, principal, PASSWORD, NEW)


@pytest.mark.parametrize("name", ["ada", "nobody"])
async def test_a_hash_of_fewer_iterations_does_not_reveal_its_user(
    name: str, ada: User, db: Database, settings: AccountSettings, monkeypatch: pytest.MonkeyPatch
):
    runs = record_hashes(monkeypatch)
    with pytest.raises(Unauthorized):
        await login(db, replace(settings, pbkdf2_iterations=150_000), name, "wrong-password")
    assert sum(iterations for _, iterations in runs) == 150_000


@pytest.mark.parametrize("name", ["\u0130da", "ad\u00e5", "\u212atz", "\u0130da@example.com", "\u212atz@example.com"])
async def test_letters_of_other_scripts_do_not_match_a_name(name: str, db: Database, settings: AccountSettings):
    for username in ("ida", "ada", "ktz"):
        await register(db, settings, username, PASSWORD, f"{username}@example.com")
    with pytest.raises(Unauthorized):
        await login(db, settings, name, PASSWORD)
