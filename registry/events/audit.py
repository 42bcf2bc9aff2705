"""The audit log: who did what, by which credentials, and from where.

An entry is written in the transaction of the act, so it exists if and only if the act took place. Entries contain ids
instead of names, which are looked up when an entry is read. They never contain passwords or tokens. A trigger in the
database refuses to change or delete them (migration 0013).

The mail about an act is queued in the same transaction; see registry/events/notices.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from prometheus_client import Counter
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql import bindparam as p

from registry.db.engine import Connection, Statement, json, prepared, statement
from registry.db.tables import audit_entries
from registry.events import notices

ENTRIES = Counter("registry_audit_entries_total", "Acts that the audit log records, by action", ["action"])
for _action in ("login.succeed", "login.fail"):
    ENTRIES.labels(_action)  # creates the series at 0, so that alerts see the first one as an increase

MAX_USER_AGENT = 512


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request came from. `address` is already as precise as REGISTRY_DOWNLOAD_IP allows; None if unknown."""

    address: str | None = None
    user_agent: str = ""


UNKNOWN_ORIGIN = Origin()


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts. `user_id` is None for an operator's command and for a login of an unknown user.

    `token_id` and `token_name` describe the API token of the request, if it had one. `publisher` describes the pipeline
    for which the token was made, if there is one.
    """

    user_id: int | None = None
    token_id: int | None = None
    token_name: str = ""
    publisher: Mapping[str, Any] | None = None
    origin: Origin = UNKNOWN_ORIGIN


OPERATOR = Actor()
"""Whoever runs a command on the server."""

_COLUMNS = (
    "action", "actor_id", "token_id", "token_name", "publisher", "ip", "user_agent", "account_id", "package_id",
    "version", "details",
)  # fmt: skip
_WRITE = prepared(
    "write_audit",
    statement(sa.insert(audit_entries).values({name: p(f"audit_{name}") for name in _COLUMNS})),
)
_VERSIONS = (
    sa.func.unnest(p("audit_versions", type_=ARRAY(sa.Text)))
    .table_valued("version", with_ordinality="number")
    .render_derived()
)
_WRITE_VERSIONS = statement(
    sa.insert(audit_entries).from_select(
        list(_COLUMNS),
        sa.select(
            *(
                _VERSIONS.c.version
                if name == "version"
                else sa.cast(p(f"audit_{name}"), audit_entries.c[name].type).label(name)
                for name in _COLUMNS
            )
        ).order_by(_VERSIONS.c.number),
    )
)


async def write(conn: Connection, action: str, actor: Actor, **subject: Any) -> None:
    """Adds an entry in the transaction of `conn`. `subject` is that of `write_with_commit`."""
    address = subject.pop("tell", None)
    ENTRIES.labels(action).inc()
    await conn.run(_WRITE, **_values(action, actor, **subject))
    await notices.tell(conn, _mail(action, actor, address, **subject))


async def write_versions(
    conn: Connection, action: str, actor: Actor, versions: Sequence[str], *, package_id: int
) -> None:
    """Adds an entry about each of `versions` of a package. Nobody gets a mail about them."""
    ENTRIES.labels(action).inc(len(versions))
    values = _values(action, actor, package_id=package_id)
    del values["audit_version"]
    await conn.run(_WRITE_VERSIONS, audit_versions=list(versions), **values)


def write_with_commit(conn: Connection, action: str, actor: Actor, **subject: Any) -> None:
    """Adds an entry together with the commit, which costs no round trip. At most one per transaction.

    `action` is dotted, such as `version.publish`. `subject` has any of: `account_id`, the user whom the act is about
    (the actor unless it is given); `package_id`; `version`; `details`, an object in which users are ids; `tell`, an
    e-mail address that also gets a mail about the act. The entry doesn't contain it.
    """
    address = subject.pop("tell", None)
    ENTRIES.labels(action).inc()
    conn.defer(_WRITE, **_values(action, actor, **subject))
    mail = _mail(action, actor, address, **subject)
    if mail is not None:
        conn.defer(mail[0], **mail[1])


def _mail(
    action: str,
    actor: Actor,
    address: str | None,
    *,
    account_id: int | None = None,
    package_id: int | None = None,
    version: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> tuple[Statement, dict[str, Any]] | None:
    """The statement that queues the mail about the act, with its values."""
    return notices.about(
        action,
        account_id=actor.user_id if account_id is None else account_id,
        package_id=package_id,
        token_id=actor.token_id,
        is_exchanged=actor.publisher is not None,
        details=details or {},
        address=address,
        facts={
            "actor_id": actor.user_id,
            "token_name": actor.token_name,
            "package_id": package_id,
            "version": version,
            "details": dict(details or {}),
        },
    )


def _values(
    action: str,
    actor: Actor,
    *,
    account_id: int | None = None,
    package_id: int | None = None,
    version: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "audit_action": action,
        "audit_actor_id": actor.user_id,
        "audit_token_id": actor.token_id,
        "audit_token_name": actor.token_name,
        "audit_publisher": None if actor.publisher is None else json(dict(actor.publisher)),
        "audit_ip": actor.origin.address,
        "audit_user_agent": actor.origin.user_agent[:MAX_USER_AGENT],
        "audit_account_id": actor.user_id if account_id is None else account_id,
        "audit_package_id": package_id,
        "audit_version": version,
        "audit_details": json(dict(details or {})),
    }
