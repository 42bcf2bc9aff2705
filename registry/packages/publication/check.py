"""The rules of a publish that depend on the database. `store.read()` returns what they need as one row."""

from registry.accounts.identity import Principal
from registry.accounts.tokens import NOT_VALID
from registry.db.engine import Row
from registry.errors import NameClosed, NameTooSimilar, Unauthorized, VersionBurned, VersionExists
from registry.package_format.versions import Version
from registry.packages import rights
from registry.packages.reserved.reserve import refuse_reserved
from registry.packages.rights import Action


def check(who: Principal, name: str, version: Version, found: Row) -> None:
    """Checks the name, the user's rights and the version.

    Raises Unauthorized, Forbidden, NameReserved, NameTooSimilar, Quarantined, NameClosed, VersionExists, VersionBurned.
    """
    rights.check_credentials(who, Action.PUBLISH, name)
    if not found.is_active:
        raise Unauthorized(NOT_VALID)
    check_name(who, name, found)
    if found.id is None:
        return
    rights.authorize(who, Action.PUBLISH, name, found.role)
    if found.deleted_at is not None:
        raise VersionBurned(
            f"{name} {version} was deleted. A deleted version can't be published again. Use another version number."
        )
    if found.existing is not None:
        raise VersionExists(
            f"{name} {found.existing} exists. Published versions never change. Use another version number."
        )


def check_name(who: Principal, name: str, found: Row) -> None:
    """Whether a version of `name` could be published at all. `found` has a package or none.

    Raises NameReserved, NameTooSimilar, Quarantined, NameClosed.
    """
    if found.id is None:
        refuse_reserved(who, name, is_reserved=found.is_reserved)
        return
    if found.name != name:
        raise NameTooSimilar(f"{name} is too similar to the package {found.name}. Choose another name.")
    if found.quarantine_reason is not None:
        raise rights.quarantined(name, found.quarantine_reason)
    if found.is_closed:
        raise NameClosed(
            f"{name} has neither owners nor versions, so its name is closed. Ask an admin to set its owners."
        )
