"""Reads what the script of the pages got from a passkey."""

from typing import Any

from registry.errors import InvalidInput
from registry.pages.forms import Form
from registry.web.parsing import parse_object

CREDENTIAL = "credential"


def credential_in(form: Form) -> dict[str, Any]:
    """WebAuthn's credential in the field that the script fills in. Raises InvalidInput."""
    if not form[CREDENTIAL]:
        raise InvalidInput("Passkeys need JavaScript and a browser that knows them.")
    return parse_object(form[CREDENTIAL].encode("utf-8", "replace"))
