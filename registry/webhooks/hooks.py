"""Webhooks of users: making, reading, changing and ending them. A webhook is seen only by the user who made it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NotRequired

from typing_extensions import TypedDict

from registry.accounts.identity import Principal
from registry.accounts.sessions.manage import lock_user
from registry.changes.chain import TYPES
from registry.db.engine import Connection, Database, Row
from registry.errors import Conflict, Forbidden, InvalidInput, NotFound
from registry.events import audit
from registry.events import log as event_log
from registry.packages import store as packages
from registry.packages.read import no_package
from registry.packages.rights import Action, authorize
from registry.sealing import Sealer
from registry.webhooks import signing, store
from registry.webhooks.guard import Guard, host_of

PURPOSE = "webhook secret"
MAX_HOOKS = 250
# How long after a rotation the old secret signs as well.
OVERLAP = timedelta(hours=24)
OWNER_REASON = "Disabled by its owner."
NO_WEBHOOK = "You have no webhook with this id. The list of your webhooks has all."

EVENTS = frozenset({"*", *TYPES, *(f"{each.partition('.')[0]}.*" for each in TYPES)})
"""What a webhook may subscribe to: types of changes, all types of a family such as `version.*`, or `*`."""


class Webhook(TypedDict):
    """`scope` is {"package": name}, {"owner": "me"} or "all".

    `silent`: the maker has lost the right that the webhook needs, so that nothing is sent. `failing_since` is None
    unless the last attempt failed. `secret` is shown only when it is made.
    """

    id: int
    url: str
    scope: Any
    events: list[str]
    description: str
    enabled: bool
    disabled_at: datetime | None
    disabled_reason: str | None
    silent: bool
    failing_since: datetime | None
    created_at: datetime
    updated_at: datetime
    secret: NotRequired[str]


class Rotated(TypedDict):
    """The new secret. The old one signs as well until `old_secret_until`."""

    id: int
    secret: str
    old_secret_until: datetime


@dataclass(frozen=True)
class Wanted:
    """A new webhook. `scope` is one of those in the store; `package` is a name in lower case if it is a package."""

    url: str
    scope: str
    package: str | None
    events: Sequence[str]
    description: str


@dataclass(frozen=True)
class Change:
    """The new values of a webhook; None keeps a value."""

    url: str | None
    events: Sequence[str] | None
    description: str | None
    enabled: bool | None


async def create(db: Database, sealer: Sealer, guard: Guard, who: Principal, wanted: Wanted) -> Webhook:
    """Makes a webhook. Raises InvalidInput, NotFound, Forbidden, Conflict."""
    who.require("manage")
    host = await _check_url(guard, wanted.url)
    secret = signing.new_secret()
    async with db.transaction() as conn:
        package_id = await _authorized_package(conn, who, wanted)
        # Without the lock, concurrent requests could exceed MAX_HOOKS, and the end of the account could miss this hook.
        await lock_user(conn, who)
        if await store.count(conn, who.user_id) >= MAX_HOOKS:
            raise Conflict(f"You have {MAX_HOOKS} webhooks, which is the limit. Delete one first.")
        made = await store.add(
            conn,
            user_id=who.user_id,
            url=wanted.url,
            host=host,
            scope=wanted.scope,
            package_id=package_id,
            events=list(dict.fromkeys(wanted.events)),
            description=wanted.description,
            secret=sealer.seal(secret.encode()),
            since_seq=await event_log.last_seq(conn),
        )
        details = {"webhook": made, "host": host, "scope": wanted.scope}
        await audit.write(conn, "webhook.create", who.actor, package_id=package_id, details=details)
        return {**shown(await _find(conn, who, made)), "secret": secret}


async def list_hooks(db: Database, who: Principal, after: int, count: int) -> list[Webhook]:
    """Up to `count` webhooks of the user with ids above `after`, without those that the token must not see."""
    who.require("manage")
    async with db.read() as conn:
        names = None if who.packages is None else sorted(who.packages)
        return [shown(row) for row in await store.of_user(conn, who.user_id, names, after, count)]


async def list_of_package(db: Database, who: Principal, name: str) -> list[Webhook]:
    """All webhooks of the user for one package. Raises Forbidden."""
    who.require("manage", name)
    async with db.read() as conn:
        return [shown(row) for row in await store.of_user(conn, who.user_id, [name], 0, MAX_HOOKS)]


async def get(db: Database, who: Principal, webhook: int) -> Webhook:
    """Raises NotFound, Forbidden."""
    async with db.read() as conn:
        return shown(await _find(conn, who, webhook))


async def change(db: Database, guard: Guard, who: Principal, webhook: int, wanted: Change) -> Webhook:
    """Changes what is not None. Raises InvalidInput, NotFound, Forbidden."""
    who.require("manage")
    new_host = None if wanted.url is None else await _check_url(guard, wanted.url)
    async with db.transaction() as conn:
        row = await _find(conn, who, webhook, lock=True)
        url = row.url if wanted.url is None else wanted.url
        events = row.events if wanted.events is None else list(dict.fromkeys(wanted.events))
        description = row.description if wanted.description is None else wanted.description
        host = row.host if new_host is None else new_host
        await store.change(conn, webhook, url, host, events, description)
        if wanted.enabled is True and row.disabled_at is not None:
            await store.enable(conn, webhook, await event_log.last_seq(conn))
        elif wanted.enabled is False:
            await store.disable(conn, webhook, OWNER_REASON)
        await _audit(conn, "webhook.update", who, row, {"enabled": wanted.enabled, "host": host})
        return shown(await _find(conn, who, webhook))


async def delete(db: Database, who: Principal, webhook: int) -> None:
    """Ends a webhook at once. A job deletes its deliveries later. Raises NotFound, Forbidden."""
    async with db.transaction() as conn:
        row = await _find(conn, who, webhook, lock=True)
        await store.delete(conn, webhook)
        await _audit(conn, "webhook.delete", who, row, {})


async def rotate(db: Database, sealer: Sealer, who: Principal, webhook: int) -> Rotated:
    """Makes a new secret. Raises NotFound, Forbidden."""
    secret = signing.new_secret()
    async with db.transaction() as conn:
        row = await _find(conn, who, webhook, lock=True)
        until = await store.rotate(conn, webhook, sealer.seal(secret.encode()), OVERLAP)
        await _audit(conn, "webhook.rotate", who, row, {})
    return {"id": webhook, "secret": secret, "old_secret_until": until}


async def find_sending(conn: Connection, who: Principal, webhook: int) -> Row:
    """A webhook that may send now. Raises NotFound, Forbidden, Conflict."""
    row = await _find(conn, who, webhook)
    if not row.may_send:
        raise Forbidden("This webhook sends nothing, because you no longer have the role that it needs.")
    if row.disabled_at is not None:
        raise Conflict("This webhook is disabled. Enable it first.")
    return row


async def find(db: Database, who: Principal, webhook: int) -> Row:
    """Raises NotFound, Forbidden."""
    async with db.read() as conn:
        return await _find(conn, who, webhook)


async def _find(conn: Connection, who: Principal, webhook: int, *, lock: bool = False) -> Row:
    who.require("manage")
    row = await store.find(conn, who.user_id, webhook, lock=lock)
    if row is None or not _is_visible(who, row):
        raise NotFound(NO_WEBHOOK)
    return row


def _is_visible(who: Principal, row: Row) -> bool:
    """A token that is bound to packages must not reach webhooks that get changes of others."""
    return who.packages is None or (row.package is not None and row.package in who.packages)


async def _check_url(guard: Guard, text: str) -> str:
    """The host of the URL. Raises InvalidInput unless webhooks may be sent to it."""
    try:
        url = guard.check_url(text)
        await guard.check_name(url)
    except ValueError as problem:
        raise InvalidInput.field("url", str(problem)) from None
    return host_of(url)


async def _authorized_package(conn: Connection, who: Principal, wanted: Wanted) -> int | None:
    """The id of the package of the scope, if it is a package. Raises NotFound or Forbidden."""
    if wanted.package is not None:
        row = await packages.find(conn, wanted.package, who.user_id)
        if row is None or row.name != wanted.package or (row.latest_version_id is None and row.role is None):
            raise no_package(wanted.package)
        authorize(who, Action.WEBHOOK, row.name, row.role)
        return int(row.id)
    if wanted.scope == store.ALL:
        who.require("admin")
    elif who.packages is not None:
        raise Forbidden("This API token is bound to packages, so it may only make webhooks of these packages.")
    return None


async def _audit(conn: Connection, action: str, who: Principal, row: Row, details: dict[str, Any]) -> None:
    details = {"webhook": row.id, **{name: value for name, value in details.items() if value is not None}}
    await audit.write(conn, action, who.actor, package_id=row.package_id, details=details)


def shown(row: Row) -> Webhook:
    scope: Any = {"package": row.package} if row.scope == store.PACKAGE else {"owner": "me"}
    return {
        "id": row.id,
        "url": row.url,
        "scope": store.ALL if row.scope == store.ALL else scope,
        "events": row.events,
        "description": row.description,
        "enabled": row.disabled_at is None,
        "disabled_at": row.disabled_at,
        "disabled_reason": row.disabled_reason or None,
        "silent": not row.may_send,
        "failing_since": row.failing_since,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }
