"""The texts of mails."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from registry.app import ROUTES
from registry.mail import texts

SITE, URL = "registry.example", "https://registry.example"


def test_every_link_of_a_mail_leads_to_a_page_that_exists():
    details = {"username": "grace", "role": "owner", "factor": "totp", "webhook": 1}
    facts = texts.Facts(SITE, URL, "ada", "bob", "demo", "1.0.0", "ci", details)
    invitation: dict[str, Any] = {
        "id": 17, "package": "demo", "role": "owner", "inviter": "ada", "is_transfer": False,
        "expires_at": datetime.now(UTC),
    }  # fmt: skip
    written = [
        *(write(facts) for write in texts.NOTICES.values()),
        texts.verify(SITE, URL, "token", 24),
        texts.reset(SITE, URL, "token", 30),
        texts.invitations(SITE, URL, [invitation], has_account=True),
    ]
    links = {urlsplit(text.link).path.replace("/demo", "/{name}") for text in written if text.link}
    assert links <= {route.path for route in ROUTES if route.method == "GET"}
    assert links == {
        "/account/verify", "/account/reset", "/account/invitations", "/account/webhooks", "/packages/{name}",
    }  # fmt: skip
