"""The doctor finds what deleted accounts left, invitations of former owners, reports nobody read, and lost keys."""

import re
from collections.abc import Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from registry.db.engine import statement
from registry.doctor import factors, webhooks
from registry.doctor.accounts import checks as accounts
from registry.doctor.check import Check, Registry
from registry.doctor.examine import Result, examine

ENDED = (
    "INSERT INTO users (username, password_hash, role, is_active, deleted_at) "
    "VALUES ('grace', '', 'user', false, now()) RETURNING id"
)
LEFT = {
    "roles in packages": (
        "INSERT INTO package_owners (package_id, user_id, role) SELECT id, :user, 'maintainer' FROM packages"
    ),
    "invitations": (
        "INSERT INTO invitations (package_id, user_id, role, is_transfer, inviter_id, expires_at) "
        "SELECT o.package_id, :user, 'owner', false, o.user_id, now() + interval '1 day' FROM package_owners o "
        "WHERE o.role = 'owner' LIMIT 1"
    ),
    "pending publishers": (
        "INSERT INTO publishers (pending_name, user_id, kind, issuer, wanted) "
        "VALUES ('new-name', :user, 'github', 'https://issuer.example', '{}')"
    ),
    "webhooks": (
        "INSERT INTO webhooks (user_id, url, host, scope, events, secret, since_seq) "
        "VALUES (:user, 'https://ci.example/', 'ci.example:443', 'owner', '{*}', 'x', 0)"
    ),
    "API tokens": "INSERT INTO api_tokens (user_id, name, hash, scopes) VALUES (:user, 'ci', 'x', '{read}')",
    "authenticator apps": "INSERT INTO totp_secrets (user_id, sealed) VALUES (:user, 'x')",
    "passkeys": (
        "INSERT INTO passkeys (user_id, credential_id, public_key, sign_count, transports, name) "
        "VALUES (:user, 'x', 'x', 0, '{}', 'key')"
    ),
    "recovery codes": "INSERT INTO recovery_codes (user_id, hash) VALUES (:user, 'x')",
}  # fmt: skip


async def value(registry: Registry, text: str, **values: Any) -> Any:
    async with registry.db.transaction() as conn:
        return await conn.value(statement(sa.text(text)), **values)


async def run(registry: Registry, text: str, **values: Any) -> None:
    async with registry.db.transaction() as conn:
        assert await conn.run(statement(sa.text(text)), **values) > 0, text


async def look(registry: Registry, checks: Sequence[Check], *, repair: bool = False) -> dict[str, Result]:
    return {result.name: result for result in (await examine(registry, checks, repair=repair)).results}


async def test_a_used_registry_has_none_of_these_faults(resting: Registry):
    checks = (*accounts.CHECKS, *factors.CHECKS, *webhooks.CHECKS)
    assert [result.found for result in (await look(resting, checks)).values()] == [0] * len(checks)


async def test_what_a_deleted_account_left_is_named_and_ended(resting: Registry):
    user = await value(resting, ENDED)
    for text in LEFT.values():
        await run(resting, text, user=user)
    before = await value(resting, "SELECT max(seq) FROM events")
    found = (await look(resting, accounts.CHECKS))["deleted accounts"]
    assert found.found == len(LEFT)
    assert set(re.findall(r"still has ([\w ]+): ", " ".join(found.examples))) <= set(LEFT)
    repaired = (await look(resting, accounts.CHECKS, repair=True))["deleted accounts"]
    assert (repaired.found, repaired.left) == (len(LEFT), 0)
    told = "SELECT count(*) FROM events WHERE type = 'package.owners_changed' AND seq > :before"
    assert await value(resting, told, before=before) == 3


async def test_all_deleted_accounts_are_found_and_repaired_page_by_page(
    resting: Registry, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(accounts, "PAGE", 2)
    for name in ("grace", "heidi", "ivan", "judy", "karl"):
        user = await value(resting, ENDED.replace("grace", name))
        for kind in ("invitations", "webhooks"):
            await run(resting, LEFT[kind], user=user)
    repaired = (await look(resting, accounts.CHECKS, repair=True))["deleted accounts"]
    assert (repaired.found, repaired.left) == (10, 0)


@pytest.mark.parametrize("kind", LEFT)
async def test_each_kind_of_thing_that_a_deleted_account_left_is_named(resting: Registry, kind: str):
    await run(resting, LEFT[kind], user=await value(resting, ENDED))
    found = (await look(resting, accounts.CHECKS))["deleted accounts"]
    assert [re.sub(r".* still has (.+): \d+$", r"\1", example) for example in found.examples] == [kind]


async def test_an_invitation_of_a_former_owner_is_found_and_deleted(resting: Registry):
    user = await value(resting, ENDED.replace("false, now()", "true, NULL"))
    for inviter in ("(SELECT id FROM users WHERE username = 'ada')", ":user"):
        await run(
            resting,
            "INSERT INTO invitations (package_id, email, role, is_transfer, inviter_id, expires_at) "
            f"SELECT id, 'x@team.example', 'owner', false, {inviter}, now() + interval '1 day' FROM packages "
            "WHERE name = 'alpha'",
            **({"user": user} if inviter == ":user" else {}),
        )
    repaired = (await look(resting, accounts.CHECKS, repair=True))["invitations"]
    assert (repaired.found, repaired.left) == (1, 0)
    assert "to alpha by grace" in repaired.examples[0]
    assert await value(resting, "SELECT count(*) FROM invitations") == 1


async def test_reports_that_nobody_closed_for_a_week_are_found(resting: Registry):
    for age, closed in (("8 days", "NULL"), ("6 days", "NULL"), ("9 days", "now()")):
        await run(
            resting,
            "INSERT INTO reports (package_id, user_id, kind, text, created_at, closed_at) "
            f"SELECT p.id, u.id, 'malware', 'It mines coins.', now() - interval '{age}', {closed} "
            "FROM packages p, users u WHERE p.name = 'gamma' AND u.username = 'ada'",
        )
    found = (await look(resting, accounts.CHECKS))["reports"]
    assert found.found == 1
    assert "(malware) of gamma" in found.examples[0]


async def test_secrets_that_no_key_decrypts_are_found(resting: Registry):
    for text in (LEFT["authenticator apps"], LEFT["webhooks"]):
        await run(resting, text.replace(":user", "(SELECT id FROM users WHERE username = 'ada')"))
    found = await look(resting, (*factors.CHECKS, *webhooks.CHECKS))
    assert [(name, result.found) for name, result in found.items()] == [
        ("second factors", 1),
        ("webhook secrets", 1),
        ("late deliveries", 0),
    ]


async def test_a_delivery_that_nobody_sends_is_found(resting: Registry):
    await run(resting, LEFT["webhooks"].replace(":user", "(SELECT id FROM users WHERE username = 'ada')"))
    for late in ("59 minutes", "2 hours"):
        await run(
            resting,
            f"INSERT INTO webhook_deliveries (webhook_id, type, due_at) SELECT id, 'ping', now() - interval '{late}' "
            "FROM webhooks",
        )
    found = (await look(resting, webhooks.CHECKS))["late deliveries"]
    assert found.found == 1
    assert "to ci.example:443 has a delivery that is due since" in found.examples[0]
