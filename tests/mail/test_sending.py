"""One mail reaches the server at most once, whatever the server and the worker do."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from registry.db.engine import Database, Statement
from registry.doctor.check import Registry
from registry.doctor.mail import CHECKS
from registry.errors import MailUnavailable
from registry.events.notices import KIND
from registry.jobs import queue, store
from registry.jobs.queue import Job
from registry.mail import smtp
from registry.mail.configuration import configuration
from registry.mail.send import Mailer
from registry.settings import Settings
from tests.background import in_background
from tests.mail.server import PASSWORD, USER, Mailbox, mail_server

TO = "ada@example.com"
NOTICE = {"action": "password.change", "to": TO, "name": "ada"}


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    async with mail_server() as box:
        yield box


def mailer(db: Database, url: str, **variables: str) -> Mailer:
    return Mailer(db, configuration(Settings.read({"REGISTRY_SMTP_URL": url, **variables})))


async def lease(db: Database) -> Job | None:
    """Leases the queued mail as a worker does, even if it is not due yet or its worker has died."""
    async with db.transaction() as conn:
        await conn.run(Statement("UPDATE jobs SET run_at = now() - interval '1 second'", {}))
        rows = await store.lease(conn, {KIND: 1}, 1, "test", timedelta(seconds=30))
    return Job(rows[0].id, KIND, rows[0].payload, rows[0].attempts) if rows else None


async def queued(db: Database, payload: dict[str, Any] = NOTICE) -> Job:
    """Queues and leases a mail. It replaces the one before, which no runner has removed."""
    async with db.transaction() as conn:
        await conn.run(Statement("DELETE FROM jobs", {}))
        await queue.enqueue(conn, KIND, payload)
    job = await lease(db)
    assert job is not None
    return job


async def test_a_deferred_mail_is_sent_later_and_once(db: Database, mailbox: Mailbox):
    sender, job = mailer(db, mailbox.url), await queued(db)
    mailbox.rcpt, mailbox.data = ["450 try later"], ["451 try later"]
    for _ in range(2):
        with pytest.raises(MailUnavailable, match="try later"):
            await sender.run(job)
        job = await lease(db)
        assert job is not None
        assert not job.has_begun
    await sender.run(job)
    assert mailbox.recipients == [TO]


@pytest.mark.parametrize("step", ["rcpt", "data"])
async def test_a_refused_mail_is_given_up(db: Database, mailbox: Mailbox, step: str):
    getattr(mailbox, step).append("550 no such user")
    await mailer(db, mailbox.url).run(await queued(db))
    assert mailbox.recipients == []


async def test_a_server_that_is_away_keeps_the_mail_waiting(db: Database):
    with pytest.raises(MailUnavailable):
        await mailer(db, "smtp://127.0.0.1:9").run(await queued(db))
    job = await lease(db)
    assert job is not None
    assert not job.has_begun


async def test_a_mail_without_an_answer_is_not_sent_again(db: Database, mailbox: Mailbox):
    """The server may have accepted it before the connection broke."""
    mailbox.drops = True
    sender = mailer(db, mailbox.url)
    await sender.run(await queued(db))
    job = await lease(db)
    assert job is not None
    mailbox.drops = False
    await sender.run(job)
    assert mailbox.attempts == 1


async def test_a_worker_that_dies_after_the_handover_does_not_send_twice(db: Database, mailbox: Mailbox):
    mailbox.may_answer.clear()
    sender = mailer(db, mailbox.url)
    async with in_background(sender.run(await queued(db))):
        async with asyncio.timeout(20):
            while not mailbox.attempts:
                await asyncio.sleep(0.01)
    mailbox.may_answer.set()
    job = await lease(db)
    assert job is not None
    await sender.run(job)
    assert mailbox.attempts == 1


async def test_two_workers_with_one_job_send_it_once(db: Database, mailbox: Mailbox):
    sender, job = mailer(db, mailbox.url), await queued(db)
    await asyncio.gather(sender.run(job), sender.run(job))
    assert (mailbox.attempts, mailbox.recipients) == (1, [TO])


async def test_a_slow_server_is_given_up_in_time(db: Database, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(smtp, "ANSWER_SECONDS", 2.0)
    mailbox.may_answer.clear()
    await mailer(db, mailbox.url).run(await queued(db))
    job = await lease(db)
    assert job is not None
    assert job.has_begun


async def test_an_address_of_another_script_is_sent_by_smtputf8(db: Database, mailbox: Mailbox):
    for address in ("дарья@почта.example", "ada@bücher.example"):
        await mailer(db, mailbox.url).run(await queued(db, {**NOTICE, "to": address}))
    assert mailbox.recipients == ["дарья@xn--80a1acny.example", "ada@xn--bcher-kva.example"]


def certificates(folder: Path) -> tuple[ssl.SSLContext, str]:
    """(the context of a server on 127.0.0.1, the path of its CA file)."""
    import ipaddress

    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    ca, both = folder / "ca.pem", folder / "server.pem"
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    ca.write_bytes(pem)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    both.write_bytes(private + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return context, str(ca)


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
async def test_the_connection_is_encrypted_and_signed_in(db: Database, tmp_path: Path, scheme: str):
    context, ca = certificates(tmp_path)
    async with mail_server(tls=context, is_tls_from_start=scheme == "smtps", wants_login=True) as mailbox:
        login = f"{USER}:{quote(PASSWORD, safe='')}"
        url = f"{scheme}://{login}@127.0.0.1:{mailbox.port}"
        await mailer(db, url, REGISTRY_SMTP_CA=ca).run(await queued(db))
        assert (mailbox.recipients, mailbox.encrypted, mailbox.logins) == ([TO], [True], [USER])
        for wrong, variables in (
            (url, {}),  # the certificate is of an unknown CA
            (url.replace(login, "registry:wrong"), {"REGISTRY_SMTP_CA": ca}),
        ):
            with pytest.raises(MailUnavailable):
                await mailer(db, wrong, **variables).run(await queued(db))
        assert len(mailbox.recipients) == 1


async def test_starttls_that_is_required_and_not_offered_sends_nothing(db: Database, mailbox: Mailbox):
    with pytest.raises(MailUnavailable, match="STARTTLS"):
        await mailer(db, f"{mailbox.url}?starttls=required").run(await queued(db))
    assert mailbox.attempts == 0


async def test_the_doctor_names_a_mail_server_that_can_not_be_used(db: Database, mailbox: Mailbox):
    async def found(url: str) -> int:
        settings = Settings.read({"REGISTRY_SMTP_URL": url})
        registry = Registry(settings, db, storage=None, index=None, dashboards=None, progress=print)
        return (await CHECKS[0].find(registry)).count

    assert await found(mailbox.url) == 0
    assert await found("smtp://127.0.0.1:9") == 1
    assert mailbox.attempts == 0


def test_a_password_is_not_sent_unencrypted_to_another_machine():
    def starttls(url: str) -> str:
        found = configuration(Settings.read({"REGISTRY_SMTP_URL": url}))
        assert found is not None
        return found.starttls

    assert starttls("smtp://u:p@mail.example") == "required"
    assert starttls("smtp://mail.example") == "auto"
    assert starttls("smtp://u:p@localhost") == "auto"
    assert starttls("smtp://u:p@mail.example?starttls=off") == "off"
