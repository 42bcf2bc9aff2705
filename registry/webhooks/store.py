"""The SQL of webhooks. Every function runs on the caller's connection and commits nothing."""

from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql import bindparam as p

from registry.db.engine import Connection, Row, statement
from registry.db.tables import package_owners, packages, users, webhooks

PACKAGE, OWNED, ALL = "package", "owner", "all"

_c = webhooks.c
_now = sa.func.now()
_IS_ADMIN = sa.exists().where(users.c.id == _c.user_id, users.c.role == "admin")
_HAS_ROLE = sa.exists().where(package_owners.c.package_id == _c.package_id, package_owners.c.user_id == _c.user_id)
# Whether the maker still has the right that the webhook needs. Its changes are not sent otherwise.
_MAY_SEND = sa.case((_c.scope == ALL, _IS_ADMIN), (_c.scope == PACKAGE, _HAS_ROLE), else_=sa.true())
_SHOWN = (
    sa.select(*webhooks.c, packages.c.name.label("package"), _MAY_SEND.label("may_send"))
    .select_from(webhooks.outerjoin(packages, packages.c.id == _c.package_id))
    .where(_c.deleted_at.is_(None))
)
_NEW = (
    "user_id", "url", "host", "scope", "package_id", "events", "description", "secret", "since_seq",
)  # fmt: skip
_ADD = statement(
    sa.insert(webhooks)
    .values({name: p(name, type_=ARRAY(sa.Text)) if name == "events" else p(name) for name in _NEW})
    .returning(_c.id)
)
_COUNT = statement(
    sa.select(sa.func.count()).select_from(webhooks).where(_c.user_id == p("of_user"), _c.deleted_at.is_(None))
)
_NAMES = p("names", type_=ARRAY(sa.Text))
_LIST = statement(
    _SHOWN.where(
        _c.user_id == p("of_user"),
        _c.id > p("after"),
        sa.or_(sa.cast(_NAMES, ARRAY(sa.Text)).is_(None), packages.c.name == sa.any_(sa.cast(_NAMES, ARRAY(sa.Text)))),
    )
    .order_by(_c.id)
    .limit(p("count"))
)
_FIND = statement(_SHOWN.where(_c.user_id == p("of_user"), _c.id == p("webhook")))
_LOCK = statement(_SHOWN.where(_c.user_id == p("of_user"), _c.id == p("webhook")).with_for_update(of=webhooks))
_one = sa.update(webhooks).where(_c.id == p("webhook"))
_CHANGE = statement(
    _one.values(
        url=p("to_url"), host=p("to_host"), events=p("to_events", type_=ARRAY(sa.Text)),
        description=p("to_description"), updated_at=_now,
    )
)  # fmt: skip
_ENABLE = statement(
    _one.values(
        disabled_at=None,
        disabled_reason="",
        failing_since=None,
        is_slow=sa.false(),
        since_seq=p("to_since_seq"),
        updated_at=_now,
    )
)
_DISABLE = statement(
    _one.where(_c.disabled_at.is_(None)).values(disabled_at=_now, disabled_reason=p("reason"), updated_at=_now)
)
_DELETE = statement(_one.values(deleted_at=_now))
_END_OF_USER = statement(
    sa.update(webhooks).where(_c.user_id == p("of_user"), _c.deleted_at.is_(None)).values(deleted_at=_now)
)
_ROTATE = statement(
    _one.values(
        old_secret=_c.secret,
        old_secret_until=_now + p("overlap", type_=sa.Interval),
        secret=p("to_secret"),
        updated_at=_now,
    ).returning(_c.old_secret_until)
)
_UPDATE_ROLES = statement(
    sa.update(webhooks)
    .where(_c.scope == PACKAGE, _c.package_id == sa.any_(p("packages", type_=ARRAY(sa.BigInteger))))
    .values(has_role=_HAS_ROLE)
)
# `results` has one object for each webhook. A success that changes nothing is not written.
_SAVE_RESULTS = statement(
    sa.text("""
    UPDATE webhooks AS h
    SET is_slow = r.is_slow,
        failing_since = CASE
            WHEN r.succeeds THEN NULL WHEN r.any_success THEN now() ELSE coalesce(h.failing_since, now())
        END
    FROM jsonb_to_recordset(CAST(:results AS jsonb))
        AS r (id bigint, succeeds boolean, any_success boolean, is_slow boolean)
    WHERE h.id = r.id AND NOT (r.succeeds AND h.failing_since IS NULL AND h.is_slow = r.is_slow)
    RETURNING h.id, h.user_id, h.host, h.package_id, h.disabled_at,
        coalesce(h.failing_since <= now() - CAST(:patience AS interval), false) AS failed_long
    """)
)
_SECRETS = statement(
    sa.select(_c.id, _c.secret, _c.old_secret)
    .where(_c.deleted_at.is_(None), _c.id > p("after"))
    .order_by(_c.id)
    .limit(p("count"))
)
_RESEAL = statement(
    sa.update(webhooks)
    .where(_c.id == p("webhook"), _c.secret == p("seen"))
    .values(secret=p("to_secret"), old_secret=p("to_old_secret"))
)
_ANY = statement(sa.select(sa.exists().where(_c.deleted_at.is_(None))))
_ENDED = statement(sa.select(_c.id).where(_c.deleted_at.is_not(None)).order_by(_c.id).limit(p("count")))
_REMOVE = statement(sa.delete(webhooks).where(_c.id == p("webhook")))
_STATES = statement(
    sa.text("""
    SELECT count(*) FILTER (WHERE disabled_at IS NULL AND failing_since IS NULL) AS working,
        count(*) FILTER (WHERE disabled_at IS NULL AND failing_since IS NOT NULL) AS failing,
        count(*) FILTER (WHERE disabled_at IS NOT NULL) AS disabled
    FROM webhooks WHERE deleted_at IS NULL
    """)
)


async def add(conn: Connection, **values: Any) -> int:
    """Adds a webhook and returns its id."""
    return int(await conn.value(_ADD, **values))


async def count(conn: Connection, user_id: int) -> int:
    """The number of a user's webhooks."""
    return int(await conn.value(_COUNT, of_user=user_id))


async def of_user(conn: Connection, user_id: int, names: list[str] | None, after: int, count: int) -> list[Row]:
    """Up to `count` webhooks of a user with ids above `after`, as `find` returns them.

    With `names`, only those of the packages with these names.
    """
    return await conn.all(_LIST, of_user=user_id, names=names, after=after, count=count)


async def find(conn: Connection, user_id: int, webhook: int, *, lock: bool = False) -> Row | None:
    """A webhook of the user: its columns, the name of its package, and `may_send`."""
    return await conn.one(_LOCK if lock else _FIND, of_user=user_id, webhook=webhook)


async def change(conn: Connection, webhook: int, url: str, host: str, events: list[str], description: str) -> None:
    await conn.run(_CHANGE, webhook=webhook, to_url=url, to_host=host, to_events=events, to_description=description)


async def enable(conn: Connection, webhook: int, since_seq: int) -> None:
    """Enables a webhook for changes after `since_seq`."""
    await conn.run(_ENABLE, webhook=webhook, to_since_seq=since_seq)


async def disable(conn: Connection, webhook: int, reason: str) -> bool:
    """Returns False if the webhook was disabled already."""
    return bool(await conn.run(_DISABLE, webhook=webhook, reason=reason))


async def delete(conn: Connection, webhook: int) -> None:
    """Ends a webhook. `ended` finds it from then on."""
    await conn.run(_DELETE, webhook=webhook)


async def are_any(conn: Connection) -> bool:
    """Whether there is a webhook that has not ended."""
    return bool(await conn.value(_ANY))


async def end_of_account(conn: Connection, user_id: int) -> None:
    """Ends all webhooks of a user. `ended` finds them from then on."""
    await conn.run(_END_OF_USER, of_user=user_id)


async def rotate(conn: Connection, webhook: int, sealed: str, overlap: timedelta) -> Any:
    """Sets a new encrypted secret. Returns until when the old one signs as well."""
    return await conn.value(_ROTATE, webhook=webhook, to_secret=sealed, overlap=overlap)


async def update_roles(conn: Connection, package_ids: list[int]) -> None:
    """Notes which makers of webhooks of these packages have a role in them now."""
    await conn.run(_UPDATE_ROLES, packages=package_ids)


async def save_results(conn: Connection, results: Any, patience: timedelta) -> list[Row]:
    """Saves how webhooks do, from `results` as JSON: objects with id, succeeds, any_success, is_slow.

    Returns (id, user_id, host, package_id, disabled_at, failed_long) of those that changed or fail. `failed_long` says
    whether they have failed for longer than `patience`.
    """
    return await conn.all(_SAVE_RESULTS, results=results, patience=patience)


async def secrets(conn: Connection, after: int, count: int) -> list[Row]:
    """(id, secret, old_secret) of up to `count` webhooks with ids above `after`. The secrets are encrypted."""
    return await conn.all(_SECRETS, after=after, count=count)


async def reseal(conn: Connection, webhook: int, *, seen: str, secret: str, old_secret: str | None) -> bool:
    """Replaces the encrypted secrets, unless the secret is not `seen` any more. Returns whether it did."""
    return await conn.run(_RESEAL, webhook=webhook, seen=seen, to_secret=secret, to_old_secret=old_secret) > 0


async def ended(conn: Connection, count: int) -> list[int]:
    """Ids of webhooks that were deleted, or that ended with the account of their maker."""
    return [row.id for row in await conn.all(_ENDED, count=count)]


async def remove(conn: Connection, webhook: int) -> None:
    """Removes the row of an ended webhook that has no deliveries."""
    await conn.run(_REMOVE, webhook=webhook)


async def states(conn: Connection) -> dict[str, int]:
    """How many webhooks are "working", "failing" (the last attempt failed) and "disabled"."""
    row = await conn.one(_STATES)
    return {"working": row.working, "failing": row.failing, "disabled": row.disabled} if row else {}
