"""Makes the message of a mail from its text: plain text and HTML."""

from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from registry.mail.configuration import Configuration
from registry.mail.texts import Text

# RFC 5322, 2.1.1
LONGEST_LINE = 998


def compose(configuration: Configuration, recipient: str, name: str, text: Text) -> EmailMessage:
    """The message to `recipient`, whose user name is `name` or ""."""
    values = {"name": name, "text": text, "registry": configuration.registry}
    message = EmailMessage()
    message["From"] = Address(configuration.sender_name, addr_spec=configuration.sender)
    message["To"] = recipient
    message["Subject"] = text.subject
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = make_msgid(domain=configuration.sender.rpartition("@")[2])
    # Keeps other machines from answering (RFC 3834).
    message["Auto-Submitted"] = "auto-generated"
    text_part, html_part = (templates().get_template(f"mail.{kind}").render(values) for kind in ("txt", "html"))
    message.set_content(text_part, cte=_encoding(text_part))
    message.add_alternative(html_part, subtype="html", cte=_encoding(html_part))
    return message


def _encoding(part: str) -> str:
    """Plain ASCII is sent as it is, since other encodings break links into several lines."""
    is_plain = part.isascii() and all(len(line) <= LONGEST_LINE for line in part.splitlines())
    return "7bit" if is_plain else "quoted-printable"


@cache
def templates() -> Environment:
    """The templates of mails and of the pages that they lead to."""
    return Environment(
        loader=PackageLoader("registry.mail"),
        autoescape=select_autoescape(("html",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
