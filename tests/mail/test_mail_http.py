"""Addresses and forgotten passwords over HTTP, with a real mail server."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from registry.db.engine import Statement
from registry.keys import DB
from registry.mail import reset
from tests.accounts.test_access_http import token_of as api_token_of
from tests.client import PASSWORD, Answer, Registry, User
from tests.conftest import MakeRegistry
from tests.factors.conftest import add_app
from tests.mail.server import Mailbox, html_of, mail_server, text_of, token_of
from tests.web.shape import check_error

ADA, NEW = "ada@example.com", "ada@new.example"
FRESH = "Another-Horse-43"


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    async with mail_server() as box:
        yield box


@pytest.fixture
async def registry(make_registry: MakeRegistry, mailbox: Mailbox) -> Registry:
    return await make_registry(REGISTRY_SMTP_URL=mailbox.url, REGISTRY_PUBLIC_URL="https://registry.example")


async def post(registry: Registry, path: str, **body: str) -> Answer:
    return await registry.call("POST", path, json=body)


async def is_verified(registry: Registry, user: User) -> bool:
    async with registry.app[DB].read() as conn:
        stmt = Statement("SELECT email_verified_at IS NOT NULL FROM users WHERE id = %(id)s", {})
        return bool(await conn.value(stmt, id=user.id))


async def change_email(user: User, email: str) -> Answer:
    return await user.call("POST", "/auth/email", json={"email": email, "password": PASSWORD})


async def jobs_done(registry: Registry) -> None:
    """Returns when no mail is queued."""
    async with asyncio.timeout(30):
        while True:
            async with registry.app[DB].read() as conn:
                if not await conn.value(Statement("SELECT count(*) FROM jobs WHERE kind = 'mail'", {})):
                    return
            await asyncio.sleep(0.02)


async def test_a_registered_address_is_verified_by_the_link_once(registry: Registry, mailbox: Mailbox):
    ada = await registry.user("ada", email=ADA)
    mail = await mailbox.wait_for(ADA, "Verify your e-mail address")
    assert mail["From"] == "Synapse Registry <no-reply@registry.example>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Message-ID"]
    assert b"https://registry.example/account/verify?token=" + token_of(mail).encode() in mail.as_bytes()
    assert "https://registry.example/account/verify?token=" in text_of(mail)
    assert '<a href="https://registry.example/account/verify?token=' in html_of(mail)
    token = token_of(mail)
    check_error(await post(registry, "/auth/email/verify", token=token[:-1]), 400)
    assert not await is_verified(registry, ada)
    assert (await post(registry, "/auth/email/verify", token=token)).status == 200
    assert await is_verified(registry, ada)
    again = await post(registry, "/auth/email/verify", token=token)
    check_error(again, 400)
    assert again.json["code"] == "invalid_link"
    check_error(await ada.call("POST", "/auth/email/resend"), 409)


async def test_the_database_has_no_token_that_is_in_a_mail(registry: Registry, mailbox: Mailbox):
    await registry.user("ada", email=ADA)
    token = token_of(await mailbox.wait_for(ADA))
    async with registry.app[DB].read() as conn:
        for table in ("mail_tokens", "jobs", "audit_entries"):
            rows = await conn.all(Statement(f"SELECT t::text AS row FROM {table} t", {}))
            assert not any(token in row.row for row in rows), table


async def test_the_link_is_sent_again_at_most_three_times_an_hour(registry: Registry, mailbox: Mailbox):
    ada, bob = await registry.user("ada", email=ADA), await registry.user("bob")
    for count in (1, 2, 3):
        await mailbox.wait_for(ADA, "Verify", count)
        await jobs_done(registry)
        if count < 3:
            assert (await ada.call("POST", "/auth/email/resend")).status == 202
    check_error(await ada.call("POST", "/auth/email/resend"), 429)
    check_error(await bob.call("POST", "/auth/email/resend"), 400)
    check_error(await registry.call("POST", "/auth/email/resend"), 401)


async def test_a_new_address_needs_a_confirmation_and_the_old_one_is_told(registry: Registry, mailbox: Mailbox):
    ada = await registry.user("ada", email=ADA)
    old_link = token_of(await mailbox.wait_for(ADA, "Verify"))
    for body in ({"email": NEW}, {"email": NEW, "password": "wrong-password"}):
        refused = await ada.call("POST", "/auth/email", json=body)
        check_error(refused, 403)
        assert refused.json["code"] == "confirmation_required"
    robot = await api_token_of(ada, name="robot", scopes=["manage"])
    check_error(await robot.call("POST", "/auth/email", json={"email": NEW, "password": PASSWORD}), 403)
    changed = await change_email(ada, NEW)
    assert (changed.status, changed.json["user"]["email"], changed.json["email_verified"]) == (200, NEW, False)
    told = await mailbox.wait_for(ADA, "address at registry.example was changed")
    assert "token=" not in text_of(told)
    assert NEW not in text_of(told)
    check_error(await post(registry, "/auth/email/verify", token=old_link), 400)
    new_link = token_of(await mailbox.wait_for(NEW, "Verify"))
    assert (await post(registry, "/auth/email/verify", token=new_link)).status == 200
    assert await is_verified(registry, ada)
    await registry.user("bob", email="bob@example.com")
    check_error(await change_email(ada, "BOB@example.com"), 409)


async def reset_link(registry: Registry, mailbox: Mailbox, count: int = 1) -> str:
    assert (await post(registry, "/auth/password/reset", email=ADA)).status == 202
    return token_of(await mailbox.wait_for(ADA, "Reset your password", count))


async def test_a_reset_ends_sessions_tokens_and_other_links_and_verifies_the_address(
    registry: Registry, mailbox: Mailbox
):
    ada = await registry.user("ada", email=ADA)
    robot = await api_token_of(ada, name="robot", scopes=["read"])
    first, second = await reset_link(registry, mailbox), await reset_link(registry, mailbox, 2)
    weak = await post(registry, "/auth/password/reset/confirm", token=first, password="password")
    check_error(weak, 400)
    done = await post(registry, "/auth/password/reset/confirm", token=first, password=FRESH)
    assert done.status == 200, done.body
    for link in (first, second):
        check_error(await post(registry, "/auth/password/reset/confirm", token=link, password="Third-Horse-44"), 400)
    for user in (ada, robot):
        assert (await user.call("GET", "/auth/me")).status == 401
    check_error(await post(registry, "/auth/login", username="ada", password=PASSWORD), 401)
    assert (await post(registry, "/auth/login", username="ada", password=FRESH)).status == 200
    assert await is_verified(registry, ada)
    await mailbox.wait_for(ADA, "Your password was changed")
    await jobs_done(registry)
    assert len(mailbox.to(ADA, "Your password was changed")) == 1


async def test_an_expired_reset_link_is_refused(registry: Registry, mailbox: Mailbox):
    await registry.user("ada", email=ADA)
    link = await reset_link(registry, mailbox)
    async with registry.app[DB].transaction() as conn:
        valid = Statement("SELECT expires_at - created_at = '30 minutes' FROM mail_tokens WHERE purpose = 'reset'", {})
        assert await conn.value(valid)
        await conn.run(Statement("UPDATE mail_tokens SET expires_at = now()", {}))
    check_error(await post(registry, "/auth/password/reset/confirm", token=link, password=FRESH), 400)


async def test_a_reset_answers_the_same_for_every_address_and_sends_three_mails_an_hour(
    registry: Registry, mailbox: Mailbox
):
    await registry.user("ada", email=ADA)
    answers = [await post(registry, "/auth/password/reset", email=email) for email in [ADA, "nobody@example.com"] * 5]
    assert {(answer.status, answer.body) for answer in answers} == {(202, answers[0].body)}
    await jobs_done(registry)
    assert len(mailbox.to(ADA, "Reset your password")) == 3
    assert "nobody@example.com" not in mailbox.recipients
    check_error(await post(registry, "/auth/password/reset", email="no address"), 400)


@pytest.mark.parametrize(
    "variables",
    [{}, {"REGISTRY_SMTP_URL": "smtp://127.0.0.1:9", "REGISTRY_HOST": "0.0.0.0"}],  # noqa: S104
    ids=["server", "address"],
)
async def test_without_mail_its_routes_say_so_and_nothing_waits(make_registry: MakeRegistry, variables: dict[str, str]):
    registry = await make_registry(**variables)
    ada = await registry.user("ada", email=ADA)
    for path, body in (
        ("/auth/email/verify", {"token": "x"}),
        ("/auth/email/resend", {}),
        ("/auth/email", {"email": NEW, "password": PASSWORD}),
        ("/auth/password/reset", {"email": ADA}),
        ("/auth/password/reset/confirm", {"token": "x", "password": FRESH}),
    ):
        answer = await ada.call("POST", path, json=body)
        check_error(answer, 501)
        assert answer.json["code"] == "mail_not_configured"
    await jobs_done(registry)


async def test_a_stolen_session_does_not_change_the_address(registry: Registry, mailbox: Mailbox):
    ada = await registry.user("ada", email=ADA)
    app, codes = await add_app(ada)
    for proof in ({}, {"password": "wrong-password"}, {"code": app.wrong()}, {"code": "no-such-code"}):
        refused = await ada.call("POST", "/auth/email", json={"email": NEW, **proof})
        assert (refused.status, refused.json["code"]) == (403, "confirmation_required"), proof
    robot = await api_token_of(ada, name="robot", scopes=["read", "manage"])
    check_error(await change_email(robot, NEW), 403)
    assert (await ada.call("GET", "/auth/me")).json["user"]["email"] == ADA
    for address, code in ((NEW, codes[0]), (ADA, app.code())):
        changed = await ada.call("POST", "/auth/email", json={"email": address, "code": code})
        assert (changed.status, changed.json["user"]["email"]) == (200, address)


async def test_a_reset_keeps_the_factors(registry: Registry, mailbox: Mailbox):
    ada = await registry.user("ada", email=ADA)
    app, _ = await add_app(ada)
    link = await reset_link(registry, mailbox)
    done = await post(registry, "/auth/password/reset/confirm", token=link, password=FRESH)
    assert done.status == 200, done.body
    asked = await post(registry, "/auth/login", username="ada", password=FRESH)
    assert (asked.status, asked.json["code"]) == (401, "second_factor_required")
    signed_in = await post(registry, "/auth/login", challenge=asked.json["challenge"], code=app.code())
    assert signed_in.status == 200, signed_in.body


async def test_of_two_resets_with_one_link_one_succeeds(registry: Registry, mailbox: Mailbox):
    await registry.user("ada", email=ADA)
    link = await reset_link(registry, mailbox)
    answers = await asyncio.gather(
        *(post(registry, "/auth/password/reset/confirm", token=link, password=f"{FRESH}{n}") for n in range(3))
    )
    assert sorted(each.status for each in answers) == [200, 400, 400]


async def test_a_link_goes_to_the_stored_address_and_not_to_a_look_alike(registry: Registry, mailbox: Mailbox):
    await registry.user("kim", email="kim@example.com")
    await mailbox.wait_for("kim@example.com", "Verify")
    for look_alike in ("\u212aim@example.com", "k\u0130m@example.com"):
        check_error(await post(registry, "/auth/password/reset", email=look_alike), 400)
        body = {"username": "mallory", "password": PASSWORD, "email": look_alike}
        check_error(await registry.call("POST", "/auth/register", json=body), 400)
    for typed in ("KIM@Example.com", "\u212aim@example.com"):  # the second as if an older release had queued it
        await reset.request(registry.app[DB], typed)
    await jobs_done(registry)
    assert set(mailbox.recipients) == {"kim@example.com"}
    assert len(mailbox.to("kim@example.com", "Reset your password")) >= 1
