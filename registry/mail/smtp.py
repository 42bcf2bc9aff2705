"""Speaks SMTP: one connection for each mail, in steps, so that a failure says whether the mail may have been sent."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from ipaddress import IPv6Address, ip_address

import aiosmtplib
from aiosmtplib import SMTPException, SMTPRecipientRefused, SMTPResponseException

from registry.errors import MailUnavailable
from registry.mail.configuration import OFF, REQUIRED, Configuration

# Each answer of the server may take this long, and everything together TOTAL_SECONDS.
ANSWER_SECONDS = 30.0
TOTAL_SECONDS = 120.0


class Refused(Exception):
    """The server refuses the mail for good (5yz). The text is its answer."""


class Unknown(Exception):
    """The connection ended after the mail was handed over, so it may have been sent."""


class Envelope:
    """A mail whose sender and recipient the server has accepted."""

    def __init__(self, client: aiosmtplib.SMTP, *, is_utf8: bool) -> None:
        self._client = client
        self._is_utf8 = is_utf8

    async def send(self, message: EmailMessage) -> None:
        """Hands over the mail. Raises Refused, MailUnavailable if it was not sent, and Unknown if it may have been."""
        data = message.as_bytes(policy=SMTPUTF8 if self._is_utf8 else SMTP)
        try:
            await self._client.data(data)
        except SMTPResponseException as error:
            raise _named(error) from error
        except (SMTPException, OSError) as error:
            raise Unknown(_text(error)) from error


@asynccontextmanager
async def opened(configuration: Configuration, recipient: str) -> AsyncIterator[Envelope]:
    """Connects, and announces a mail to `recipient`. Nothing is sent before `Envelope.send`.

    Raises Refused, MailUnavailable.
    """
    async with connected(configuration) as client:
        is_utf8 = not recipient.isascii()
        if is_utf8 and not client.supports_extension("smtputf8"):
            raise Refused("The mail server doesn't support addresses that are not ASCII (SMTPUTF8).")
        try:
            await client.mail(configuration.sender, options=["SMTPUTF8"] if is_utf8 else None)
            await client.rcpt(recipient, encoding="utf-8" if is_utf8 else "ascii")
        except SMTPRecipientRefused as error:
            raise _named(error) from error
        except (SMTPException, OSError) as error:
            # A refused sender is a mistake of the operator, not of the recipient: the mail is sent later.
            raise MailUnavailable(f"The mail server failed: {_text(error)}") from error
        yield Envelope(client, is_utf8=is_utf8)


@asynccontextmanager
async def connected(configuration: Configuration) -> AsyncIterator[aiosmtplib.SMTP]:
    """A connection, encrypted and signed in as the configuration wants. Raises MailUnavailable."""
    client = aiosmtplib.SMTP(
        hostname=configuration.host,
        port=configuration.port,
        use_tls=configuration.is_tls,
        start_tls=False,  # done below, where "not offered" is an error of its own
        tls_context=await asyncio.to_thread(_tls, configuration.ca),
        local_hostname=_greeting(configuration.registry),
        timeout=ANSWER_SECONDS,
    )
    try:
        try:
            await _connect(client, configuration)
        except (SMTPException, OSError, ValueError) as error:
            raise MailUnavailable(f"The mail server can't be used: {_text(error)}") from error
        yield client
    finally:
        # A server that doesn't answer QUIT must not turn a mail that was sent into a failure.
        client.close()


async def _connect(client: aiosmtplib.SMTP, configuration: Configuration) -> None:
    await client.connect()
    await client.ehlo()
    if configuration.starttls != OFF:
        if client.supports_extension("starttls"):
            await client.starttls()
        elif configuration.starttls == REQUIRED:
            raise SMTPException("it doesn't offer STARTTLS")
    if configuration.user:
        await client.login(configuration.user, configuration.password)


def ascii_domain(recipient: str) -> str:
    """The address with its domain in ASCII (IDNA), which every mail server accepts."""
    local, _, domain = recipient.rpartition("@")
    try:
        return f"{local}@{domain.encode('idna').decode('ascii')}"
    except UnicodeError:
        return recipient


def _tls(ca: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca or None)


def _greeting(host: str) -> str:
    """The name for EHLO; an IP address is written as a literal (RFC 5321, 4.1.3)."""
    try:
        address = ip_address(host)
    except ValueError:
        return host if host.isascii() else "localhost"
    return f"[IPv6:{address}]" if isinstance(address, IPv6Address) else f"[{address}]"


def _named(error: SMTPResponseException) -> Exception:
    if 500 <= error.code < 600:
        return Refused(_text(error))
    return MailUnavailable(f"The mail server defers the mail: {_text(error)}")


def _text(error: BaseException) -> str:
    if isinstance(error, SMTPResponseException):
        return f"{error.code} {error.message}"[:300]
    return (str(error) or type(error).__name__)[:300]
