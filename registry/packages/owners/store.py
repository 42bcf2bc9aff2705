"""SQL expressions for package owners. Statements that read packages include them, so roles need no extra round trip."""

from typing import Any

import sqlalchemy as sa

from registry.db.tables import package_owners, packages, users
from registry.packages.rights import OWNER

_OWNER_NAMES = (
    sa.select(users.c.username)
    .join(package_owners, package_owners.c.user_id == users.c.id)
    .where(package_owners.c.package_id == packages.c.id, package_owners.c.role == OWNER)
    .order_by(package_owners.c.since, users.c.username)
    .correlate(packages)
)

OWNERS: sa.ColumnElement[Any] = sa.func.array(_OWNER_NAMES.scalar_subquery())
"""Usernames of the owners of the enclosing query's package, the first owner first."""

FIRST_OWNER: sa.ColumnElement[Any] = _OWNER_NAMES.limit(1).scalar_subquery()
"""Username of the user who has owned the package for the longest time; NULL when it has no owner."""


def role_of(user_id: sa.ColumnElement[int]) -> sa.ColumnElement[Any]:
    """The role of a user in the package of the enclosing query; NULL when the user has none."""
    return (
        sa.select(package_owners.c.role)
        .where(package_owners.c.package_id == packages.c.id, package_owners.c.user_id == user_id)
        .correlate(packages)
        .scalar_subquery()
    )
