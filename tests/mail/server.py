"""A real SMTP server that accepts, refuses, defers, waits, and offers STARTTLS and AUTH."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

ACCEPTED = "250 OK"
USER, PASSWORD = "registry", "p@ss/word"


@dataclass
class Mailbox:
    """The mails that the server accepted. `rcpt` and `data` are its next answers; without any, it accepts.

    `attempts` counts the mails that were handed over. The server answers each when `may_answer` is set. With `drops`
    it closes the connection instead of answering.
    """

    port: int = 0
    rcpt: list[str] = field(default_factory=list)
    data: list[str] = field(default_factory=list)
    mails: list[EmailMessage] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    attempts: int = 0
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    drops: bool = False
    encrypted: list[bool] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.may_answer.set()

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    async def handle_RCPT(  # noqa: N802 - the name is aiosmtpd's
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = self.rcpt.pop(0) if self.rcpt else ACCEPTED
        if answer == ACCEPTED:
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.attempts += 1
        await self.may_answer.wait()
        if self.drops:
            server.transport.abort()
            return ACCEPTED
        answer = self.data.pop(0) if self.data else ACCEPTED
        if answer == ACCEPTED:
            assert isinstance(envelope.content, bytes)
            message = message_from_bytes(envelope.content, policy=default)
            assert isinstance(message, EmailMessage)
            self.mails.append(message)
            self.recipients += envelope.rcpt_tos
            self.encrypted.append(server.transport.get_extra_info("sslcontext") is not None)
        return answer

    def to(self, address: str, subject: str = "") -> list[EmailMessage]:
        """The mails to an address whose subject contains `subject`, oldest first."""
        return [mail for mail in self.mails if mail["To"] == address and subject in mail["Subject"]]

    async def wait_for(self, address: str, subject: str = "", count: int = 1) -> EmailMessage:
        """The newest such mail, once there are `count`."""
        async with asyncio.timeout(30):
            while len(self.to(address, subject)) < count:
                await asyncio.sleep(0.02)
        return self.to(address, subject)[-1]


def text_of(mail: EmailMessage) -> str:
    body = mail.get_body(("plain",))
    assert body is not None
    return str(body.get_content())


def html_of(mail: EmailMessage) -> str:
    body = mail.get_body(("html",))
    assert body is not None
    return str(body.get_content())


def token_of(mail: EmailMessage) -> str:
    """The token of the link, which both parts have."""
    found = re.search(r"/account/(?:verify|reset)\?token=([A-Za-z0-9_-]+)", text_of(mail))
    assert found is not None
    assert found[0] in html_of(mail)
    return found[1]


@asynccontextmanager
async def mail_server(
    *,
    tls: ssl.SSLContext | None = None,
    is_tls_from_start: bool = False,
    wants_login: bool = False,
) -> AsyncIterator[Mailbox]:
    """With `tls` it offers STARTTLS, or begins with TLS. With `wants_login` it refuses mails of strangers."""
    mailbox = Mailbox()

    def authenticate(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        mailbox.logins.append(data.login.decode())
        right = (data.login.decode(), data.password.decode()) == (USER, PASSWORD)
        return AuthResult(success=right, handled=False)  # aiosmtpd sends the answer

    def protocol() -> SMTP:
        return SMTP(
            mailbox,
            loop=asyncio.get_running_loop(),
            hostname="mail.example",
            enable_SMTPUTF8=True,
            tls_context=None if is_tls_from_start else tls,
            authenticator=authenticate if wants_login else None,
            auth_required=wants_login,
            auth_require_tls=False,
        )

    server = await asyncio.get_running_loop().create_server(
        protocol, "127.0.0.1", 0, ssl=tls if is_tls_from_start else None
    )
    mailbox.port = server.sockets[0].getsockname()[1]
    try:
        yield mailbox
    finally:
        mailbox.may_answer.set()
        server.close()
