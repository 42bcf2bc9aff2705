"""The SQL of a publish: one statement that reads what its rules need, and one message that writes everything.

Every function runs on the caller's connection.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import bindparam as p

from registry.db.engine import Connection, Row, json, prepared, statement, together
from registry.db.tables import package_owners, package_versions, packages, publishers, reserved_names, users
from registry.events import log as event_log
from registry.package_format.manifest import Metadata
from registry.package_format.names import similarity_key
from registry.packages.owners.store import role_of
from registry.packages.rights import OWNER
from registry.packages.status.store import NOT_QUARANTINED
from registry.packages.store import REFRESH, shown

v = package_versions
CHANGED = frozenset({
    "packages_name_key", "packages_similarity_key_key", "package_versions_canonical_key",
    "package_versions_package_id_fkey",
})  # fmt: skip
"""The constraints that refuse a publish if something has changed since `read()`."""

_KEY = p("key", type_=sa.Text)
_USER = p("user_id", type_=sa.BigInteger)
_IS_NAMED = packages.c.similarity_key == _KEY
_IS_ACTIVE = sa.exists().where(users.c.id == _USER, users.c.is_active).correlate(None)
_ROLE = role_of(_USER)
_IS_CLOSED = sa.and_(
    packages.c.latest_version_id.is_(None),
    ~sa.exists().where(package_owners.c.package_id == packages.c.id, package_owners.c.role == OWNER),
)
_one = sa.select(sa.literal_column("1")).subquery("one")
_new_id = sa.func.nextval(sa.func.pg_get_serial_sequence("packages", "id"))
# The wanted id is used up if the publish fails.
_NEW_ID = sa.case((sa.and_(packages.c.id.is_(None), p("wants_id", type_=sa.Boolean)), _new_id))
_READ = prepared(
    "read_before_publish",
    statement(
        sa.select(
            packages.c.id,
            packages.c.name,
            packages.c.quarantine_reason,
            _ROLE.label("role"),
            _IS_CLOSED.label("is_closed"),
            v.c.version.label("existing"),
            v.c.deleted_at,
            _IS_ACTIVE.label("is_active"),
            sa.and_(
                packages.c.id.is_(None), sa.exists().where(reserved_names.c.similarity_key == _KEY).correlate(None)
            ).label("is_reserved"),
            _NEW_ID.label("new_id"),
        )
        .select_from(_one)
        .outerjoin(packages, _IS_NAMED)
        .outerjoin(v, sa.and_(v.c.package_id == packages.c.id, v.c.canonical == p("canonical")))
    ),
)

_COLUMNS = (
    "version", "canonical", "sort_key", "is_prerelease", "description", "author", "license", "homepage", "repository",
    "readme", "manifest_text", "dependencies_json", "keywords_json", "checksum", "tarball_path", "tarball_size",
    "published_by", "provenance",
)  # fmt: skip
_SHOWN = ("id", "description", "author", "license", "homepage", "repository", "keywords_json")
_values = {name: p(name, type_=v.c[name].type) for name in _COLUMNS}
_package_id = p("of_package", type_=sa.BigInteger)

# Locks the user's row as foreign keys do. The account can't end before the transaction, and if it has just ended, the
# next statement sees that.
_LOCK_USER = prepared(
    "lock_publisher_of_package",
    statement(sa.select(users.c.id).where(users.c.id == _USER).with_for_update(read=True, key_share=True)),
)
# Inserts package and version in one statement, so that each index of `packages` is written once. If the user's account
# has ended, the package is not inserted, and the foreign key of the version refuses the version.
_chosen = (
    sa.insert(v).values(package_id=_package_id, **_values).returning(*(v.c[name] for name in _SHOWN)).cte("chosen")
)
_shown = shown(_chosen, name=p("name", type_=sa.Text), is_visible=sa.true())
_ADD_PACKAGE = prepared(
    "add_package",
    statement(
        sa.insert(packages).from_select(
            ["id", "name", "similarity_key", "owner_id", *_shown],
            sa.select(
                sa.cast(_package_id, sa.BigInteger),
                sa.cast(p("name", type_=sa.Text), sa.Text),
                sa.cast(_KEY, sa.Text),
                sa.cast(_USER, sa.BigInteger),
                *_shown.values(),
            )
            .select_from(_chosen)
            .where(_IS_ACTIVE),
        )
    ),
)
_LOCK_PACKAGE = prepared(
    "lock_package_of_publish",
    statement(sa.select(packages.c.id).where(packages.c.id == _package_id).with_for_update()),
)
# Without a row with the role that was read before, the foreign key refuses the version.
_AS_READ = (
    sa.select(packages.c.id)
    .where(
        packages.c.id == _package_id,
        p("role", type_=sa.Text) == _ROLE,
        NOT_QUARANTINED,
        ~_IS_CLOSED,
        _IS_ACTIVE,
    )
    .scalar_subquery()
)
_checked_id = sa.func.coalesce(_AS_READ, sa.literal_column("0"))
_ADD_VERSION = prepared("add_version", statement(sa.insert(v).inline().values(package_id=_checked_id, **_values)))
_ADOPT = statement(
    sa.update(publishers)
    .where(publishers.c.id == p("publisher"), publishers.c.package_id.is_(None))
    .values(package_id=_package_id, pending_name=None)
)
_FIRST = together(_LOCK_USER, _ADD_PACKAGE)
_FIRST_OF_PUBLISHER = together(_LOCK_USER, _ADD_PACKAGE, _ADOPT)
_NEXT = together(_LOCK_PACKAGE, _ADD_VERSION, REFRESH)


async def read(conn: Connection, name: str, canonical: str, user_id: int, *, wants_id: bool = False) -> Row:
    """What decides whether a user may publish a version. It is one row, whether the package exists or not.

    id (None without a package), name, quarantine_reason, is_closed and the user's `role` in it. `existing` and
    deleted_at are those of the version. `is_active` is about the user's account, `is_reserved` about a new name.
    `new_id` is the id for a new package, if `wants_id`.
    """
    return await conn.one(_READ, key=similarity_key(name), canonical=canonical, user_id=user_id, wants_id=wants_id)


async def add(
    conn: Connection,
    meta: Metadata,
    package_id: int,
    role: str | None,
    *,
    user_id: int,
    checksum: str,
    key: str,
    size: int,
    provenance: dict[str, Any] | None = None,
    publisher: int | None = None,
) -> Row:
    """Adds a version and its event, and commits. Returns the event's `seq` and `created_at`.

    `role` is what `read()` returned; None adds the package, too, and gives it the pending trusted `publisher`. Raises
    ConstraintViolated with one of CHANGED if another transaction has changed what `read()` returned.
    """
    own: dict[str, Any] = {"role": role}
    stmt = _NEXT
    if role is None:
        own = {"name": meta.name, "key": similarity_key(meta.name)}
        stmt = _FIRST
        if publisher is not None:
            own["publisher"], stmt = publisher, _FIRST_OF_PUBLISHER
    values = dict(
        own,
        of_package=package_id,
        user_id=user_id,
        version=meta.version.text,
        canonical=meta.version.canonical,
        sort_key=meta.version.sort_key,
        is_prerelease=meta.version.is_prerelease,
        description=meta.description,
        author=meta.author,
        license=meta.license,
        homepage=meta.homepage,
        repository=meta.repository,
        readme=meta.readme,
        manifest_text=meta.manifest,
        dependencies_json=json(meta.dependencies),
        keywords_json=json(list(meta.keywords)),
        checksum=checksum,
        tarball_path=key,
        tarball_size=size,
        published_by=user_id,
        provenance=provenance and json(provenance),
    )
    return await event_log.finish(
        conn,
        stmt,
        values,
        event_log.VERSION_PUBLISHED,
        is_first=role is None,
        package_id=package_id,
        package=meta.name,
        version=meta.version.text,
        actor_id=user_id,
        data={"checksum": checksum, "size": size},
    )
