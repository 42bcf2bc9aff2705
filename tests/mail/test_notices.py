"""Who is told of which act, and that everyone is told once."""

from collections.abc import AsyncIterator

import pytest

from registry.db.engine import Statement
from registry.events import audit
from registry.events.audit import Actor
from registry.keys import DB
from tests.accounts.test_access_http import token_of as api_token_of
from tests.client import PASSWORD, Registry, User
from tests.conftest import MakeRegistry
from tests.factors.conftest import add_app
from tests.mail.server import Mailbox, html_of, mail_server, text_of
from tests.mail.test_mail_http import jobs_done


def address(user: User | str) -> str:
    return f"{user if isinstance(user, str) else user.username}@example.com"


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    async with mail_server() as box:
        yield box


@pytest.fixture
async def registry(make_registry: MakeRegistry, mailbox: Mailbox) -> Registry:
    return await make_registry(REGISTRY_SMTP_URL=mailbox.url)


async def users(registry: Registry, *names: str) -> list[User]:
    return [await registry.user(name, email=address(name)) for name in names]


async def told(registry: Registry, mailbox: Mailbox, subject: str) -> list[str]:
    """Who got a mail with `subject`, once all mail is sent."""
    await jobs_done(registry)
    return sorted(mail["To"].partition("@")[0] for mail in mailbox.mails if subject in mail["Subject"])


async def test_a_new_token_its_first_publish_and_a_changed_password_are_told_once(registry: Registry, mailbox: Mailbox):
    [ada] = await users(registry, "ada")
    robot = await api_token_of(ada, name="<b>robot</b>", scopes=["publish"])
    assert await told(registry, mailbox, "token was created") == ["ada"]
    for version in ("1.0.0", "1.0.1"):
        assert (await robot.put("demo", version)).status == 201
    await ada.publish("demo", "1.0.2")
    assert await told(registry, mailbox, "published for the first time") == ["ada"]
    [mail] = mailbox.to(address(ada), "published for the first time")
    assert "“<b>robot</b>” published for the first time: demo 1.0.0." in text_of(mail)
    assert "&lt;b&gt;robot" in html_of(mail)
    assert "<b>" not in html_of(mail)
    body = {"current_password": PASSWORD, "new_password": "Another-Horse-43"}
    assert (await ada.call("POST", "/auth/password", json=body)).status == 200
    assert await told(registry, mailbox, "password was changed") == ["ada"]
    assert robot.token not in "".join(map(str, mailbox.mails))


async def test_invitations_are_sent_together_and_changes_of_owners_go_to_owners_before_and_after(
    registry: Registry, mailbox: Mailbox
):
    ada, bob, eve = await users(registry, "ada", "bob", "eve")
    await ada.publish("demo")
    await ada.publish("other")
    sent = {}
    for package in ("demo", "other"):
        invited = await ada.call("POST", f"/packages/{package}/invitations", json={"username": "bob", "role": "owner"})
        sent[package] = invited.json["id"]
    by_mail = {"email": "new@example.com", "role": "maintainer"}
    assert (await ada.call("POST", "/packages/demo/invitations", json=by_mail)).status == 201
    assert await told(registry, mailbox, "invit") == ["bob", "new"]
    [mail] = mailbox.to(address(bob), "2 invitations")
    assert "ada invites you to become an owner of demo." in text_of(mail)
    assert "ada invites you to become an owner of other." in text_of(mail)
    assert f"synapse-registry owners accept {sent['demo']} --url http" in text_of(mail)
    assert "Register with this e-mail address" in text_of(mailbox.to("new@example.com")[0])

    assert (await bob.call("POST", f"/auth/invitations/{sent['demo']}/accept")).status == 200
    assert await told(registry, mailbox, "owners of demo changed") == ["ada", "bob"]
    assert (await ada.call("DELETE", "/packages/demo/owners/bob")).status == 204
    assert await told(registry, mailbox, "owners of demo changed") == ["ada", "ada", "bob", "bob"]
    assert "ada removed bob from the owners of demo." in text_of(mailbox.to(address(ada), "owners of demo")[-1])
    mailbox.mails.clear()
    given = await ada.call("POST", "/packages/demo/transfer", json={"username": "eve"})
    assert (await eve.call("POST", f"/auth/invitations/{given.json['id']}/accept")).status == 200
    assert await told(registry, mailbox, "owners of demo changed") == ["ada", "eve"]


async def test_an_address_that_the_act_removes_is_told_of_it(registry: Registry, mailbox: Mailbox):
    [ada] = await users(registry, "ada")
    async with registry.app[DB].transaction() as conn:
        audit.write_with_commit(conn, "account.delete", Actor(ada.id), tell="gone@example.com")
    await mailbox.wait_for("gone@example.com", "account")
    async with registry.app[DB].transaction() as conn:
        await audit.write(conn, "factor.add", Actor(ada.id), details={"factor": "totp"})
        await audit.write(conn, "publisher.create", Actor(ada.id), details={"package": "new", "kind": "github"})
    assert await told(registry, mailbox, "A second factor was added") == ["ada"]
    assert await told(registry, mailbox, "trusted publishers") == ["ada"]


async def test_an_act_that_is_rolled_back_is_not_told(registry: Registry, mailbox: Mailbox):
    [ada] = await users(registry, "ada")
    with pytest.raises(ZeroDivisionError):
        async with registry.app[DB].transaction() as conn:
            await audit.write(conn, "factor.add", Actor(ada.id), details={"factor": "totp"})
            raise ZeroDivisionError
    assert await told(registry, mailbox, "second factor") == []


async def test_the_end_of_an_account_is_told_to_its_address_and_to_the_other_owners(
    registry: Registry, mailbox: Mailbox
):
    ada, bob = await users(registry, "ada", "bob")
    await ada.publish("demo")
    invited = await ada.call("POST", "/packages/demo/invitations", json={"username": "bob", "role": "owner"})
    assert (await bob.call("POST", f"/auth/invitations/{invited.json['id']}/accept")).status == 200
    assert await told(registry, mailbox, "owners of demo changed") == ["ada", "bob"]
    mailbox.mails.clear()
    assert (await ada.call("DELETE", "/auth/me", json={"password": PASSWORD})).status == 204
    assert await told(registry, mailbox, "was deleted") == ["ada"]
    assert await told(registry, mailbox, "owners of demo changed") == ["bob"]
    assert "One of the owners of demo deleted their account" in text_of(mailbox.to(address(bob), "owners of demo")[0])
    assert len(mailbox.mails) == 2


async def test_a_member_who_leaves_is_named_once(registry: Registry, mailbox: Mailbox):
    ada, bob = await users(registry, "ada", "bob")
    await ada.publish("demo")
    invited = await ada.call("POST", "/packages/demo/invitations", json={"username": "bob", "role": "maintainer"})
    assert (await bob.call("POST", f"/auth/invitations/{invited.json['id']}/accept")).status == 200
    assert await told(registry, mailbox, "owners of demo changed") == ["ada", "bob"]
    mailbox.mails.clear()
    assert (await bob.call("DELETE", "/packages/demo/owners/bob")).status == 204
    assert await told(registry, mailbox, "owners of demo changed") == ["ada", "bob"]
    assert "bob is no longer one of the maintainers of demo." in text_of(mailbox.to(address(ada), "owners of demo")[-1])


async def test_factors_are_told_of_when_they_are_added_and_removed(registry: Registry, mailbox: Mailbox):
    [ada] = await users(registry, "ada")
    app, _ = await add_app(ada)
    assert await told(registry, mailbox, "A second factor was added") == ["ada"]
    assert (await ada.call("DELETE", "/auth/totp", json={"code": app.code()})).status == 204
    assert await told(registry, mailbox, "A second factor was removed") == ["ada"]


async def test_publishers_are_told_to_all_owners(registry: Registry, mailbox: Mailbox):
    ada, bob = await users(registry, "ada", "bob")
    await ada.publish("demo")
    invited = await ada.call("POST", "/packages/demo/invitations", json={"username": "bob", "role": "owner"})
    assert (await bob.call("POST", f"/auth/invitations/{invited.json['id']}/accept")).status == 200
    publisher = {"kind": "github", "repository": "org/repo", "workflow": "release.yml"}
    added = await ada.call("POST", "/packages/demo/publishers", json=publisher)
    assert added.status == 201, added.body
    assert await told(registry, mailbox, "trusted publishers of demo changed") == ["ada", "bob"]
    assert (await bob.call("DELETE", f"/packages/demo/publishers/{added.json['id']}")).status == 204
    assert await told(registry, mailbox, "trusted publishers of demo changed") == ["ada", "ada", "bob", "bob"]


async def test_the_first_publish_by_a_token_of_a_ci_job_is_not_told(registry: Registry, mailbox: Mailbox):
    [ada] = await users(registry, "ada")
    robot = await api_token_of(ada, name="robot", scopes=["publish"])
    row = Statement("SELECT id FROM api_tokens", {})
    async with registry.app[DB].transaction() as conn:
        actor = Actor(ada.id, await conn.value(row), "robot", {"id": 1, "kind": "github"})
        await audit.write(conn, "version.publish", actor, version="1.0.0")
    assert await told(registry, mailbox, "published for the first time") == []
    assert (await robot.put("demo", "1.0.0")).status == 201
    assert await told(registry, mailbox, "published for the first time") == ["ada"]
