"""The SQL of trusted publishers. Every function runs on the caller's connection and commits nothing."""

from collections.abc import Collection, Mapping
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql import bindparam as p

from registry.accounts.credential_cache import announce_change
from registry.db.engine import Connection, Row, json, statement
from registry.db.tables import api_tokens, package_owners, packages, publishers, used_id_tokens, users
from registry.package_format.names import similarity_key
from registry.packages.rights import OWNER
from registry.publishers.matching import Publisher

_c = publishers.c
_IS_ACTIVE = sa.and_(users.c.is_active, users.c.deleted_at.is_(None))
_OF_PACKAGE = _c.package_id == p("of_package")
_OF_USER = sa.and_(_c.user_id == p("of_user"), _c.package_id.is_(None))
_PAGE = sa.select(publishers).where(_c.id > p("after")).order_by(_c.id).limit(p("count"))

_ADD = statement(
    sa.insert(publishers)
    .values(
        package_id=p("package_id"),
        pending_name=p("pending_name"),
        user_id=p("user_id"),
        kind=p("kind"),
        issuer=p("issuer"),
        wanted=p("wanted"),
    )
    .returning(publishers)
)
_LIST_OF_PACKAGE = statement(_PAGE.where(_OF_PACKAGE))
_within = sa.cast(p("within"), sa.ARRAY(sa.Text))
_LIST_OF_USER = statement(_PAGE.where(_OF_USER, sa.or_(_within.is_(None), _c.pending_name == sa.any_(_within))))
_FIND_OF_USER = statement(sa.select(publishers).where(_c.id == p("publisher"), _OF_USER))
# The users for whom the publisher has tokens. Its foreign key deletes them.
_HOLDERS = sa.func.array(
    sa.select(api_tokens.c.user_id).where(api_tokens.c.publisher_id == _c.id).correlate(publishers).scalar_subquery()
).label("holders")
_END = sa.delete(publishers).where(_c.id == p("publisher")).returning(publishers, _HOLDERS)
_END_OF_PACKAGE = statement(_END.where(_OF_PACKAGE))
_END_OF_USER = statement(_END.where(_OF_USER))
_END_PENDING_OF_USER = statement(sa.delete(publishers).where(_OF_USER))
_NAMED = statement(
    sa.select(packages.c.id, packages.c.name).where(packages.c.similarity_key == p("key")),
)
_PENDING = statement(
    sa.select(publishers)
    .join(users, users.c.id == _c.user_id)
    .where(_c.pending_name == p("wanted_name"), _IS_ACTIVE)
    .order_by(_c.id)
    .limit(p("count"))
)
_LOCK = statement(sa.select(publishers).where(_c.id == p("publisher")).with_for_update())
_USE = statement(
    sa.update(publishers)
    .where(_c.id == p("publisher"))
    .values(
        repository_id=sa.func.coalesce(_c.repository_id, p("to_repository", type_=sa.Text)),
        repository_owner_id=sa.func.coalesce(_c.repository_owner_id, p("to_owner", type_=sa.Text)),
        last_used_at=sa.func.now(),
    )
)
_ACTING_USER = statement(
    sa.select(package_owners.c.user_id)
    .join(users, users.c.id == package_owners.c.user_id)
    .where(package_owners.c.package_id == p("of_package"), _IS_ACTIVE)
    .order_by(
        (package_owners.c.user_id == p("preferred")).desc(),
        (package_owners.c.role == OWNER).desc(),
        package_owners.c.since,
        package_owners.c.user_id,
    )
    .limit(1)
)
_USE_ID_TOKEN = statement(
    insert(used_id_tokens).values(key=p("key"), expires_at=p("expires_at")).on_conflict_do_nothing()
)
_PURGE_ID_TOKENS = statement(sa.delete(used_id_tokens).where(used_id_tokens.c.expires_at < sa.func.now()))
_PURGE_API_TOKENS = statement(
    sa.delete(api_tokens).where(api_tokens.c.publisher_id.is_not(None), api_tokens.c.expires_at < sa.func.now())
)


async def add(
    conn: Connection,
    user_id: int,
    *,
    kind: str,
    issuer: str,
    wanted: Mapping[str, str],
    package_id: int | None = None,
    pending_name: str | None = None,
) -> Row:
    """Adds a publisher of a package, or a pending one. Returns its row."""
    return await conn.one(
        _ADD,
        user_id=user_id,
        kind=kind,
        issuer=issuer,
        wanted=json(dict(wanted)),
        package_id=package_id,
        pending_name=pending_name,
    )


async def of_package(conn: Connection, package_id: int, after: int, count: int) -> list[Row]:
    """Up to `count` publishers of a package with ids above `after`."""
    return await conn.all(_LIST_OF_PACKAGE, of_package=package_id, after=after, count=count)


async def pending_of(
    conn: Connection, user_id: int, after: int, count: int, *, within: Collection[str] | None = None
) -> list[Row]:
    """Up to `count` pending publishers of a user with ids above `after`. With `within`, only those for these names."""
    names = None if within is None else list(within)
    return await conn.all(_LIST_OF_USER, of_user=user_id, after=after, count=count, within=names)


async def find_pending(conn: Connection, user_id: int, publisher: int) -> Row | None:
    """A pending publisher of a user."""
    return await conn.one(_FIND_OF_USER, of_user=user_id, publisher=publisher)


async def end_of_package(conn: Connection, package_id: int, publisher: int) -> Row | None:
    """Removes a publisher of a package, and with it its tokens. Returns its row, None if there is no such one."""
    return _announced(conn, await conn.one(_END_OF_PACKAGE, of_package=package_id, publisher=publisher))


async def end_pending(conn: Connection, user_id: int, publisher: int) -> Row | None:
    """Removes a pending publisher of a user, and with it its tokens. Returns its row."""
    return _announced(conn, await conn.one(_END_OF_USER, of_user=user_id, publisher=publisher))


async def end_of_account(conn: Connection, user_id: int) -> None:
    """Deletes the pending publishers of a user. Those of packages stay."""
    await conn.run(_END_PENDING_OF_USER, of_user=user_id)


async def package_like(conn: Connection, name: str) -> Row | None:
    """(id, name) of the package with this name or a look-alike, whether it has a version or not."""
    return await conn.one(_NAMED, key=similarity_key(name))


async def pending_for(conn: Connection, name: str, count: int) -> list[Row]:
    """Up to `count` pending publishers for a name, of all users whose accounts are active."""
    return await conn.all(_PENDING, wanted_name=name, count=count)


async def lock(conn: Connection, publisher: int) -> Row | None:
    """The publisher, which nobody else changes or removes until the transaction ends."""
    return await conn.one(_LOCK, publisher=publisher)


async def use(conn: Connection, publisher: int, ids: tuple[str, str] | None) -> None:
    """Records a use. The first one binds the numbers of repository and owner."""
    repository, owner = ids or (None, None)
    await conn.run(_USE, publisher=publisher, to_repository=repository, to_owner=owner)


async def acting_user(conn: Connection, package_id: int, preferred: int) -> int | None:
    """The user for whom a publisher publishes: `preferred`, or the first owner if that user has no role any more."""
    found: int | None = await conn.value(_ACTING_USER, of_package=package_id, preferred=preferred)
    return found


async def use_id_token(conn: Connection, key: str, expires_at: datetime) -> bool:
    """Whether the ID token with this key was not used before. Waits for a concurrent use of the same one."""
    return await conn.run(_USE_ID_TOKEN, key=key, expires_at=expires_at) > 0


async def purge(conn: Connection) -> int:
    """Deletes expired API tokens of publishers, and used ID tokens that have expired. Returns how many."""
    return await conn.run(_PURGE_ID_TOKENS) + await conn.run(_PURGE_API_TOKENS)


def _announced(conn: Connection, ended: Row | None) -> Row | None:
    for user in set(ended.holders) if ended is not None else ():
        announce_change(conn, user)
    return ended


def publisher_of(row: Row) -> Publisher:
    return Publisher(
        id=row.id,
        package_id=row.package_id,
        user_id=row.user_id,
        kind=row.kind,
        issuer=row.issuer,
        wanted=row.wanted,
        ids=None if row.repository_id is None else (row.repository_id, row.repository_owner_id),
    )
