"""What the registry needs to know to send mail, from its settings."""

from dataclasses import dataclass, field
from email.utils import parseaddr
from urllib.parse import unquote, urlsplit

from registry.errors import MailNotConfigured
from registry.setting_types import is_loopback
from registry.settings import Settings

AUTO, REQUIRED, OFF = "auto", "required", "off"
SMTP_PORT, SUBMISSIONS_PORT = 587, 465


@dataclass(frozen=True)
class Configuration:
    """The mail server, the sender, and the address of the registry that links begin with.

    `is_tls`: the connection begins with TLS. `starttls` is AUTO, REQUIRED or OFF. AUTO uses STARTTLS if the server
    offers it.
    """

    host: str
    port: int
    is_tls: bool
    starttls: str
    user: str
    password: str = field(repr=False)
    ca: str
    sender_name: str
    sender: str
    public_url: str

    @property
    def registry(self) -> str:
        """The host name of the registry, as it is shown to people."""
        return urlsplit(self.public_url).hostname or ""


def configuration(settings: Settings) -> Configuration | None:
    """None without a mail server, or without a public address for links."""
    public_url = settings.public_url
    if not settings.mail.smtp_url or public_url is None:
        return None
    parts = urlsplit(settings.mail.smtp_url)
    host, is_tls = parts.hostname or "", parts.scheme == "smtps"
    starttls = parts.query.partition("=")[2] or AUTO
    if parts.username and starttls == AUTO and not is_loopback(host):
        starttls = REQUIRED  # a password never leaves the machine unencrypted, unless the operator wants it
    name, sender = parseaddr(settings.mail.sender)
    return Configuration(
        host=host,
        port=parts.port or (SUBMISSIONS_PORT if is_tls else SMTP_PORT),
        is_tls=is_tls,
        starttls=OFF if is_tls else starttls,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        ca=settings.mail.smtp_ca,
        sender_name=name or "Synapse Registry",
        sender=sender or f"no-reply@{urlsplit(public_url).hostname}",
        public_url=public_url,
    )


def require(settings: Settings) -> Configuration:
    """Raises MailNotConfigured."""
    found = configuration(settings)
    if found is None:
        raise MailNotConfigured(
            "This registry sends no mail. Its operator must set REGISTRY_SMTP_URL, and REGISTRY_PUBLIC_URL for links."
        )
    return found
