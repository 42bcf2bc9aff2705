"""Connects to the mail server and signs in, without sending anything."""

from registry.doctor.check import Check, Found, Registry
from registry.errors import MailUnavailable
from registry.mail.configuration import configuration
from registry.mail.smtp import connected


async def _find(registry: Registry) -> Found:
    found, configured = Found(), configuration(registry.settings)
    if configured is None:
        found.note("mail is not configured")
        return found
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
