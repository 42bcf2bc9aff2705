"""The request bodies of addresses and forgotten passwords, for the API and for the pages."""

from typing import Annotated

from pydantic import AfterValidator, Field

from registry.accounts import bodies
from registry.accounts.register import MAX_EMAIL, check_email
from registry.factors.bodies import Confirmation
from registry.web.parsing import Body
from registry.web.route import Limit

MAIL = Limit("mail", "50/hour")
"""The rate limit of all routes that send or use mail."""

MAX_TOKEN = 128

Email = Annotated[str, Field(json_schema_extra={"maxLength": MAX_EMAIL}), AfterValidator(check_email)]
Token = Annotated[str, Field(min_length=1, max_length=MAX_TOKEN)]


class LinkToken(Body):
    """The token of the link in a mail."""

    token: Token


class EmailChange(Confirmation):
    """The new address, and the password or a code as a confirmation."""

    email: Email


class ResetRequest(Body):
    """The address of the account whose password was forgotten."""

    email: Email


class ResetConfirmation(Body):
    """The token of the link in a mail, and the new password."""

    token: Token
    password: bodies.NewPassword
