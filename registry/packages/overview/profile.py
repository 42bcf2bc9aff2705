"""A user as others see one: since when, and the packages in which the user has a role."""

from dataclasses import dataclass
from datetime import datetime

from registry.db.engine import Database
from registry.errors import NotFound
from registry.packages.overview import store

PAGE = 50
MAX_SHOWN_NAME = 50


@dataclass(frozen=True, slots=True)
class PackageOfUser:
    """A package with its latest version. `downloads` is the number of all downloads."""

    name: str
    version: str
    description: str
    license: str
    deprecated: str | None
    downloads: int
    yanked: bool
    published_at: datetime
    role: str


@dataclass(frozen=True, slots=True)
class Profile:
    """A user and a page of the user's packages, the most downloaded first. `total` counts the packages of all pages."""

    username: str
    created_at: datetime
    packages: list[PackageOfUser]
    total: int


async def profile(db: Database, username: str, number: int = 1) -> Profile:
    """A user with page `number` of PAGE packages; the first page is 1. Raises NotFound, also for an ended account."""
    async with db.read(snapshot=True) as conn:
        user = await store.user(conn, username)
        if user is None:
            raise NotFound(f"There is no user {username[:MAX_SHOWN_NAME]}.")
        rows = await store.packages_of(conn, user.id, PAGE, (number - 1) * PAGE)
        total = await store.count_packages(conn, user.id)
    return Profile(user.username, user.created_at, [PackageOfUser(**row._asdict()) for row in rows], total)
