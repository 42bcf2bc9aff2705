"""The request bodies of owners and invitations, and their rate limit, which the API and the pages share."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from registry.accounts.register import MAX_EMAIL, check_email
from registry.owners import members
from registry.web.parsing import Body
from registry.web.route import Limit

MAX_REASON = 1000
INVITATIONS = Limit("invite", "50/hour")

Role = Literal["owner", "maintainer"]
Username = Annotated[str, Field(min_length=1, max_length=50)]


class InvitationRequest(Body):
    """Whom to invite: either `username` or `email`."""

    username: Username | None = None
    email: Annotated[str, Field(json_schema_extra={"maxLength": MAX_EMAIL}), AfterValidator(check_email)] | None = None
    role: Role


class TransferRequest(Body):
    """Who becomes the only owner."""

    username: Username


class RoleChange(Body):
    """The new role."""

    role: Role


class WantedOwner(Body):
    """A user and the role that the user gets."""

    username: Username
    role: Role


class OwnersChange(Body):
    """All owners and maintainers, and why an admin sets them."""

    owners: Annotated[list[WantedOwner], Field(min_length=1, max_length=members.MAX_MEMBERS)]
    reason: Annotated[str, Field(min_length=1, max_length=MAX_REASON)]
