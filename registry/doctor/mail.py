"""Connects to the mail server and signs in, without sending anything. Runs only where mail is configured."""

from registry.doctor.check import Check, Found, Registry
from registry.errors import MailUnavailable
from registry.mail.configuration import require
from registry.mail.smtp import connected


async def _find(registry: Registry) -> Found:
    found, configured = Found(), require(registry.settings)
    try:
        async with connected(configured):
            pass
    except MailUnavailable as error:
        found.add(error.detail)
    return found


CHECKS = (
    Check(
        "mail server",
        "the server of REGISTRY_SMTP_URL accepts a connection, and the login",
        "check REGISTRY_SMTP_URL and REGISTRY_SMTP_CA; mails wait in the queue until the server can be used",
        _find,
    ),
)
