"""What a user may see and change of a package: the facts that its settings begin with."""

from dataclasses import dataclass
from datetime import datetime

from registry.accounts.identity import Principal
from registry.db.engine import Database, Row
from registry.errors import Forbidden
from registry.owners import members
from registry.packages.owners import store as roles
from registry.packages.rights import OWNER
from registry.packages.status import store as status

MAX_VERSIONS = 100
MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class ListedVersion:
    """A live version. `yank_reason` is "" unless it is yanked for a reason."""

    version: str
    yank_reason: str
    published_at: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """A package and the role of a user in it; None for an admin without a role.

    `deprecated` is the text of the deprecation, or None. `quarantine_reason` is None unless the package is in
    quarantine. `current` and `yanked` are the newest MAX_VERSIONS versions that are not yanked, and that are.
    """

    name: str
    role: str | None
    deprecated: str | None
    successor: str | None
    quarantine_reason: str | None
    current: list[ListedVersion]
    yanked: list[ListedVersion]

    @property
    def is_owner(self) -> bool:
        return self.role == OWNER


async def standing(db: Database, who: Principal, name: str) -> Standing:
    """A package, for its owners, its maintainers and admins, also without versions.

    Raises NotFound, OtherSpelling, Quarantined for maintainers, and Forbidden with the names of some owners.
    """
    async with db.read() as conn:
        package = await members.find_package(conn, who, name)
        if package.role is None and not who.is_admin:
            rows = await roles.members(conn, package.id)
            raise Forbidden(_refusal(package.name, [row.username for row in rows if row.role == OWNER]))
        current = await status.newest(conn, package.id, MAX_VERSIONS, yanked=False)
        yanked = await status.newest(conn, package.id, MAX_VERSIONS, yanked=True)
    return Standing(
        package.name,
        package.role,
        package.deprecated,
        package.deprecation_successor,
        package.quarantine_reason,
        [_listed(row) for row in current],
        [_listed(row) for row in yanked],
    )


def _listed(row: Row) -> ListedVersion:
    return ListedVersion(row.version, row.yank_reason or "", row.published_at)


def _refusal(package: str, owners: list[str]) -> str:
    text = f"Only owners, maintainers and admins may change the settings of {package}."
    if not owners:
        return f"{text} It has no owner."
    more = f" and {len(owners) - MAX_NAMED} more" if len(owners) > MAX_NAMED else ""
    return f"{text} Ask {', '.join(owners[:MAX_NAMED])}{more}."
