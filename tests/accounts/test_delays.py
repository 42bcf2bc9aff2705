"""Delays after wrong passwords: the first failures are free, then each attempt waits longer."""

import asyncio
import hashlib
import logging
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

import pytest

from registry.accounts import administer
from registry.accounts.delays import attempt, store
from registry.accounts.identity import Principal, User
from registry.accounts.login import change_password, login
from registry.db.engine import Database, Statement
from registry.errors import InvalidInput, TooManyFailures, Unauthorized
from registry.keys import DB
from registry.setting_parts import AccountSettings
from tests.client import Answer, Registry
from tests.conftest import MakeRegistry
from tests.web.shape import check_error

from .conftest import PASSWORD

NEW = "Battery-Staple-43"
FREE = attempt.FREE_OF_ACCOUNT


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The iterations of each call of PBKDF2. The calls take no time."""
    runs: list[int] = []

    def quick(name: str, secret: bytes, salt: bytes, iterations: int) -> bytes:
        runs.append(iterations)
        return hashlib.sha256(secret + salt).digest()

    monkeypatch.setattr(hashlib, "pbkdf2_hmac", quick)
    return runs


async def fail(db: Database, settings: AccountSettings, times: int, name: str = "ada", address: str = "") -> None:
    for _ in range(times):
        with pytest.raises(Unauthorized):
            await login(db, settings, name, "wrong-password", address)


async def let_wait_end(db: Database) -> None:
    async with db.transaction() as conn:
        await conn.run(Statement("UPDATE password_failures SET next_try_at = now() WHERE next_try_at IS NOT NULL", {}))


async def hold(db: Database) -> None:
    """Extends the current waits, so that none of them ends during the test."""
    async with db.transaction() as conn:
        await conn.run(
            Statement(
                "UPDATE password_failures SET next_try_at = now() + interval '14 min' WHERE next_try_at IS NOT NULL",
                {},
            )
        )


async def delay(db: Database, settings: AccountSettings, name: str = "ada", address: str = "") -> int:
    """Returns the seconds that the next login has to wait. Fails if a login is allowed before."""
    async with db.read() as conn:
        seconds = await conn.value(
            Statement("SELECT round(max(extract(epoch FROM next_try_at - failed_at))) FROM password_failures", {})
        )
    await hold(db)
    with pytest.raises(TooManyFailures) as refused:
        await login(db, settings, name, PASSWORD, address)
    assert refused.value.headers["Retry-After"] in refused.value.detail
    assert 600 < int(refused.value.headers["Retry-After"]) <= 900
    return int(seconds)


@pytest.mark.parametrize("name", ["ada", "ADA@example.com", "nobody", "nobody@example.com", "\ud800", "", "x" * 254])
async def test_each_failure_beyond_the_free_ones_doubles_the_wait_for_any_name(
    name: str, hashed: list[int], ada: User, db: Database, settings: AccountSettings
):
    await fail(db, settings, FREE, name)
    waits = [await delay(db, settings, name)]
    for _ in range(12):
        await let_wait_end(db)
        await fail(db, settings, 1, name)
        waits.append(await delay(db, settings, name))
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900]


async def test_a_delayed_attempt_costs_no_hashing(
    hashed: list[int], ada: User, db: Database, settings: AccountSettings
):
    await fail(db, settings, FREE)
    hashed.clear()
    await delay(db, settings)
    assert hashed == []


async def test_the_wait_can_be_computed_after_thousands_of_failures(
    hashed: list[int], ada: User, db: Database, settings: AccountSettings
):
    await fail(db, settings, 1)
    async with db.transaction() as conn:
        await conn.run(Statement("UPDATE password_failures SET failures = 100000", {}))
    with pytest.raises(TooManyFailures):
        await login(db, settings, "ada", "wrong-password")
    assert await delay(db, settings) == 900


async def test_the_right_password_after_the_wait_resets_the_account(
    hashed: list[int], ada: User, db: Database, settings: AccountSettings
):
    await fail(db, settings, FREE)
    await fail(db, settings, 1, "ada@example.com")
    await let_wait_end(db)
    assert (await login(db, settings, "Ada", PASSWORD))[0] == ada
    async with db.read() as conn:
        assert await conn.all(Statement("SELECT * FROM password_failures", {})) == []
    await fail(db, settings, FREE - 1)


async def test_a_clock_that_is_set_back_locks_nobody_out(
    hashed: list[int], ada: User, db: Database, settings: AccountSettings
):
    await fail(db, settings, FREE)
    async with db.transaction() as conn:
        await conn.run(Statement("UPDATE password_failures SET next_try_at = now() + interval '1 year'", {}))
    await login(db, settings, "ada", PASSWORD)


async def test_another_account_is_not_delayed(hashed: list[int], ada: User, db: Database, settings: AccountSettings):
    await fail(db, settings, FREE, "nobody")
    await delay(db, settings, "nobody")
    await login(db, settings, "ada", PASSWORD)


async def test_concurrent_guesses_get_no_more_answers_than_sequential_ones(db: Database, settings: AccountSettings):
    account = [attempt.of_account(settings, "ada")]
    begun = await asyncio.gather(*(attempt.begin(db, account) for _ in range(FREE + 20)))
    results = await asyncio.gather(*(each.failed() for each in begun), return_exceptions=True)
    assert sum(result is None for result in results) == FREE
    assert sum(isinstance(result, TooManyFailures) for result in results) == 20


async def test_a_late_right_guess_is_answered_like_a_wrong_one(ada: User, db: Database, settings: AccountSettings):
    late = await attempt.begin(db, [attempt.of_account(settings, "ada")])
    other = await attempt.begin(db, [attempt.of_account(settings, "ADA")])
    for _ in range(FREE):
        await other.failed()
    with pytest.raises(TooManyFailures) as right:
        await late.succeeded([attempt.of_account(settings, "ada")])
    with pytest.raises(TooManyFailures) as wrong:
        await late.failed()
    assert (right.value.detail, right.value.headers) == (wrong.value.detail, wrong.value.headers)
    await delay(db, settings)


async def test_one_of_many_concurrent_attempts_is_allowed_after_the_wait(
    hashed: list[int], ada: User, db: Database, settings: AccountSettings
):
    await fail(db, settings, FREE)
    async with db.transaction() as conn:
        await conn.run(Statement("UPDATE password_failures SET failures = 100", {}))
    await let_wait_end(db)
    results = await asyncio.gather(
        *(login(db, settings, "ada", "wrong-password") for _ in range(8)), return_exceptions=True
    )
    assert sum(isinstance(result, Unauthorized) for result in results) == 1
    assert sum(isinstance(result, TooManyFailures) for result in results) == 7


async def test_concurrent_logins_with_the_right_password_all_succeed(
    hashed: list[int], ada: User, db: Database, settings: AccountSettings
):
    results = await asyncio.gather(*(login(db, settings, "ada", PASSWORD, "203.0.113.7") for _ in range(60)))
    assert len(results) == 60


@pytest.mark.parametrize(("first", "second"), [("203.0.113.7", "::ffff:203.0.113.7"), ("2001:db8::1", "2001:db8::2")])
async def test_failures_of_an_address_are_counted_over_all_names(
    first: str, second: str, hashed: list[int], ada: User, db: Database, settings: AccountSettings
):
    for number in range(attempt.FREE_OF_ADDRESS):
        await fail(db, settings, 1, f"nobody-{number}", first)
    assert await delay(db, settings, "ada", second) == 1
    other = ip_address(second) + 2**64 if ":" in first else ip_address(first) + 1
    await login(db, settings, "ada", PASSWORD, str(other))


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "unknown", ""])
def test_loopback_and_unknown_addresses_have_no_counter(address: str, settings: AccountSettings):
    assert attempt.of_address(settings, address) == []


async def test_wrong_current_passwords_have_a_counter_of_their_own(
    hashed: list[int], ada_login: Principal, db: Database, settings: AccountSettings
):
    await fail(db, settings, FREE)
    for _ in range(FREE):
        with pytest.raises(InvalidInput):
            await change_password(db, settings, ada_login, "wrong-password", NEW)
    await hold(db)
    with pytest.raises(TooManyFailures):
        await change_password(db, settings, ada_login, PASSWORD, NEW)
    await let_wait_end(db)
    await change_password(db, settings, ada_login, PASSWORD, NEW)
    await login(db, settings, "ada", NEW)


async def test_counters_reveal_neither_names_nor_addresses(
    hashed: list[int], ada: User, db: Database, settings: AccountSettings
):
    await fail(db, settings, 1, "my-secret-password", "203.0.113.7")
    async with db.read() as conn:
        kept = str(await conn.all(Statement("SELECT * FROM password_failures", {})))
    assert "secret" not in kept
    assert "203.0" not in kept
    assert hashlib.sha256(b"account\0my-secret-password").hexdigest() not in kept


async def test_failures_are_deleted_after_a_day_without_failures(
    hashed: list[int], ada: User, db: Database, settings: AccountSettings
):
    await fail(db, settings, FREE)
    assert await attempt.purge(db) == 0
    async with db.transaction() as conn:
        assert await store.purge(conn, datetime.now(UTC) - attempt.REMEMBERED + timedelta(days=1, seconds=1)) == 1
    await login(db, settings, "ada", PASSWORD)


async def test_resetting_the_password_ends_the_delay(
    hashed: list[int], ada: User, db: Database, settings: AccountSettings
):
    await fail(db, settings, FREE)
    await administer.reset_password(db, settings, "ada", NEW)
    assert (await login(db, settings, "ada", NEW))[0].id == ada.id


HOME, NEXT_DOOR, STRANGER = "198.51.100.7", "198.51.100.99", "203.0.113.{}"


async def guess_from_everywhere(db: Database, settings: AccountSettings, name: str = "ada", times: int = 40) -> int:
    """Sends wrong guesses, each from another address. Returns how many were answered with 401."""
    answered = 0
    for number in range(times):
        try:
            await login(db, settings, name, "wrong-password", STRANGER.format(number))
        except Unauthorized:
            answered += 1
        except TooManyFailures:
            await hold(db)
    return answered


@pytest.mark.parametrize("name", ["ada", "ADA@example.com"])
@pytest.mark.parametrize(("home", "again"), [(HOME, NEXT_DOOR), ("2001:db8::1", "2001:db8::2")])
async def test_failures_of_strangers_do_not_delay_known_networks(
    home: str, again: str, name: str, hashed: list[int], ada: User, db: Database, settings: AccountSettings
):
    await login(db, settings, "ada", PASSWORD, home)
    assert await guess_from_everywhere(db, settings, name) == FREE
    assert (await login(db, settings, name, PASSWORD, again))[0] == ada
    with pytest.raises(TooManyFailures):
        await login(db, settings, name, PASSWORD, "192.0.2.1")


async def test_the_owners_logins_give_strangers_no_more_guesses(
    hashed: list[int], ada: User, db: Database, settings: AccountSettings
):
    await login(db, settings, "ada", PASSWORD, HOME)
    assert await guess_from_everywhere(db, settings) == FREE
    for name in ("ada", "ada@example.com"):
        await login(db, settings, name, PASSWORD, HOME)
    assert await guess_from_everywhere(db, settings) == 0


async def test_a_guesser_in_a_known_network_is_delayed(
    hashed: list[int], ada: User, db: Database, settings: AccountSettings
):
    await login(db, settings, "ada", PASSWORD, HOME)
    await fail(db, settings, FREE, "ada", NEXT_DOOR)
    assert await delay(db, settings, "ada", HOME) == 1
    await login(db, settings, "ada", PASSWORD, "192.0.2.1")


async def test_a_network_is_known_only_for_the_account_that_signed_in_from_it(
    hashed: list[int], ada: User, db: Database, settings: AccountSettings
):
    await login(db, settings, "ada", PASSWORD, HOME)
    for name in ("nobody", "bob", "ada\0", "\ud800"):
        assert not await attempt.is_known(db, settings, name, HOME)
    for address in ("192.0.2.1", "127.0.0.1", "unknown", ""):
        await login(db, settings, "ada", PASSWORD, address)
    assert await attempt.is_known(db, settings, "Ada", NEXT_DOOR)
    assert not await attempt.is_known(db, settings, "ada", "198.51.101.7")
    assert not await attempt.is_known(db, settings, "ada", "127.0.0.1")


async def test_a_failed_login_makes_no_network_known(
    hashed: list[int], ada: User, db: Database, settings: AccountSettings
):
    await fail(db, settings, 1, "ada", HOME)
    assert not await attempt.is_known(db, settings, "ada", HOME)


async def test_a_network_is_forgotten_after_thirty_days(
    hashed: list[int], ada: User, db: Database, settings: AccountSettings
):
    await login(db, settings, "ada", PASSWORD, HOME)
    await attempt.purge(db)
    assert await attempt.is_known(db, settings, "ada", HOME)
    async with db.transaction() as conn:
        await conn.run(Statement("UPDATE sign_in_networks SET signed_in_at = now() - interval '30 days 1 minute'", {}))
    assert not await attempt.is_known(db, settings, "ada", HOME)
    await attempt.purge(db)
    assert await networks(db) == []
    await login(db, settings, "ada", PASSWORD, HOME)
    async with db.transaction() as conn:
        await conn.run(Statement("UPDATE sign_in_networks SET signed_in_at = now() - interval '29 days'", {}))
    await login(db, settings, "ada", PASSWORD, HOME)  # starts the thirty days again
    async with db.transaction() as conn:
        assert await store.purge_networks(conn, datetime.now(UTC) - timedelta(days=28)) == 0


async def networks(db: Database) -> list[Any]:
    async with db.read() as conn:
        return await conn.all(Statement("SELECT * FROM sign_in_networks", {}))


async def test_a_new_password_makes_other_networks_unknown(
    hashed: list[int], ada: User, ada_login: Principal, db: Database, settings: AccountSettings
):
    await login(db, settings, "ada", PASSWORD, HOME)
    await change_password(db, settings, ada_login, PASSWORD, NEW, "192.0.2.1")
    assert not await attempt.is_known(db, settings, "ada", HOME)
    assert await attempt.is_known(db, settings, "ada", "192.0.2.1")
    await administer.reset_password(db, settings, "ada", PASSWORD)
    assert await networks(db) == []


async def test_the_known_networks_of_an_account_are_limited(
    hashed: list[int], ada: User, db: Database, settings: AccountSettings
):
    for number in range(attempt.MOST_NETWORKS + 2):
        await login(db, settings, "ada", PASSWORD, f"198.51.{number}.7")
    assert len(await networks(db)) == 2 * attempt.MOST_NETWORKS  # for the name and for the e-mail address
    assert not await attempt.is_known(db, settings, "ada", "198.51.1.7")
    assert await attempt.is_known(db, settings, "ada", "198.51.2.7")


async def test_known_networks_reveal_neither_names_nor_addresses(
    hashed: list[int], ada: User, db: Database, settings: AccountSettings
):
    await login(db, settings, "ada", PASSWORD, HOME)
    kept = str(await networks(db))
    assert "198.51" not in kept
    assert "ada" not in kept.lower().replace("datetime", "")
    assert hashlib.sha256(b"network\x00198.51.100.0/24\0ada").hexdigest() not in kept


async def test_over_http_an_owner_signs_in_while_strangers_guess(make_registry: MakeRegistry, hashed: list[int]):
    variables = {"REGISTRY_RATE_LIMITS": "off", "REGISTRY_TRUSTED_PROXIES": "127.0.0.1"}
    registry = await make_registry(**variables)
    await registry.user()
    assert (await attempt_login(registry, "ada", PASSWORD, HOME)).status == 200
    statuses = [
        (await attempt_login(registry, "ada", "wrong-password", STRANGER.format(number))).status for number in range(40)
    ]
    assert statuses[:FREE] == [401] * FREE
    await hold(registry.app[DB])
    refused = await attempt_login(registry, "ada", "wrong-password", STRANGER.format(41))
    assert (refused.status, "API token" in refused.json["detail"]) == (429, True)
    assert (await attempt_login(registry, "ada", PASSWORD, NEXT_DOOR)).status == 200


async def test_a_login_over_the_rate_limit_suggests_api_tokens(make_registry: MakeRegistry, hashed: list[int]):
    registry = await make_registry(REGISTRY_RATE_LIMITS="login=1/hour,read=1/hour")
    for path, body in (("/auth/login", {"username": "ada", "password": "x"}), ("/auth/verify", {"token": "x"})):
        answers = [await registry.call("POST", path, json=body) for _ in range(2)]
        assert answers[1].status == 429
        assert ("API token" in answers[1].json["detail"]) == (path == "/auth/login")


async def attempt_login(registry: Registry, username: str, password: str, address: str) -> Answer:
    body = {"username": username, "password": password}
    return await registry.call("POST", "/auth/login", json=body, headers={"X-Forwarded-For": address})


async def test_over_http_two_processes_share_the_count_with_limits_off(
    make_registry: MakeRegistry, hashed: list[int], caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    variables = {"REGISTRY_RATE_LIMITS": "off", "REGISTRY_TRUSTED_PROXIES": "127.0.0.1"}
    both = [await make_registry(**variables) for _ in range(2)]
    ada = await both[0].user()
    for number in range(FREE):
        check_error(await attempt_login(both[number % 2], "ada", "wrong-password", f"203.0.113.{number}"), 401)
    await hold(both[0].app[DB])
    refusals = [await attempt_login(registry, "Ada", PASSWORD, "198.51.100.1") for registry in both]
    for refused in refusals:
        check_error(refused, 429)
        assert refused.json["code"] == "too_many_failures"
    assert (await ada.call("GET", "/auth/me")).status == 200
    made = await ada.call("POST", "/auth/tokens", json={"name": "ci", "scopes": ["read"]})
    bearer = {"Authorization": f"Bearer {made.json['token']}"}
    assert (await both[1].get("/auth/me", headers=bearer)).status == 200
    logged = {record.message for record in caplog.records}
    assert {"login failed", "password attempt delayed", "api token created"} <= logged
    assert "wrong-password" not in caplog.text
    assert made.json["token"] not in str([vars(record) for record in caplog.records])
