"""The request bodies of changes to packages, and the rate limit of deletions, which the API and the pages share."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field, WithJsonSchema

from registry.errors import InvalidInput
from registry.package_format import fields, names
from registry.web.parsing import Body
from registry.web.route import Limit

DEFAULT_MESSAGE = "This package is deprecated."
MAX_REASON = 1000
DELETES = Limit("delete", "50/hour")


class Yank(Body):
    """Whether the version is yanked, and why."""

    yanked: bool
    reason: Annotated[str, Field(max_length=fields.MAX_LINE)] = ""


def _check_deprecated(value: object) -> object:
    if isinstance(value, str):
        if not 1 <= len(value) <= fields.MAX_LINE:
            raise ValueError(f"must have 1 to {fields.MAX_LINE} characters")
    elif value is not None and not isinstance(value, bool):
        raise ValueError("must be true, false, null or a text for the users of the package")
    return value


_DEPRECATED = {"type": ["boolean", "string", "null"], "minLength": 1, "maxLength": fields.MAX_LINE}


class PackageChange(Body):
    """Deprecates a package, or puts it in quarantine (admins). Either `deprecated` or `quarantined` is required.

    `deprecated` is true, a text that takes the place of `message`, or false or null to end the deprecation. `successor`
    is the package to use instead; it need not exist. `reason` is required to put a package in quarantine.
    """

    deprecated: Annotated[Any, AfterValidator(_check_deprecated), WithJsonSchema(_DEPRECATED)] = None
    message: Annotated[str, Field(max_length=fields.MAX_LINE)] | None = None
    successor: Annotated[str, Field(json_schema_extra={"pattern": f"^$|{names.PATTERN}"})] | None = None
    quarantined: bool | None = None
    reason: Annotated[str, Field(max_length=MAX_REASON)] | None = None


def message_of(body: PackageChange) -> str | None:
    """The text of the deprecation; None to end it."""
    if isinstance(body.deprecated, str):
        return body.deprecated
    return ((body.message or "").strip() or DEFAULT_MESSAGE) if body.deprecated else None


def reason_of(body: PackageChange) -> str | None:
    """The reason of the quarantine; None to end it. Raises InvalidInput."""
    if body.quarantined is None:
        raise InvalidInput.field("quarantined", "must be true or false")
    if not body.quarantined:
        return None
    reason = (body.reason or "").strip()
    if not reason:
        raise InvalidInput.field("reason", "is required to put a package in quarantine")
    return reason
