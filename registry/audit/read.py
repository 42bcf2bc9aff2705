"""Reads the audit log: pages of entries as the API shows them."""

import csv
import io
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

import orjson
from typing_extensions import TypedDict

from registry.accounts import store as accounts
from registry.accounts.identity import Principal
from registry.audit import store
from registry.audit.store import Filters
from registry.db.engine import Connection, Database, Row
from registry.events.details import users_in, with_names
from registry.packages import store as packages
from registry.packages.read import check_name
from registry.packages.rights import Action, authorize
from registry.web.cursor import encode

CSV_COLUMNS = ("at", "action", "actor", "token", "ip", "user_agent", "package", "version", "details")
# A spreadsheet runs a cell that begins with one of these as a formula.
FORMULA_MARKS = ("=", "+", "-", "@", "\t", "\r")


class AuditActor(TypedDict):
    """`username` is None for an operator and for an unknown user, and `deleted` for an ended account."""

    username: str | None


class AuditToken(TypedDict):
    id: int
    name: str


class AuditEntry(TypedDict):
    """`ip` and `user_agent` are None in entries about the acts of others, except for admins."""

    at: datetime
    action: str
    actor: AuditActor
    token: AuditToken | None
    publisher: dict[str, Any] | None
    ip: str | None
    user_agent: str | None
    package: str | None
    version: str | None
    details: dict[str, Any]


class AuditPage(TypedDict):
    entries: list[AuditEntry]
    next_cursor: str | None
    limit: int


Read = Callable[[Connection, int, int], Awaitable[list[Row]]]
"""Reads rows by (connection, id below which they are, number)."""


async def package_audit(
    db: Database, who: Principal, name: str, filters: Filters, before: int, limit: int
) -> AuditPage:
    """What happened to a package. Raises NotFound, OtherSpelling, Forbidden unless `who` is an owner or an admin."""
    async with db.read() as conn:
        package = check_name(await packages.find(conn, name, who.user_id), name)
        authorize(who, Action.AUDIT, package.name, package.role)
        return await _page(
            conn, who, before, limit, lambda c, before, count: store.of_package(c, package.id, filters, before, count)
        )


async def user_audit(db: Database, who: Principal, filters: Filters, before: int, limit: int) -> AuditPage:
    """What the user did, and what happened to the account. Raises Forbidden for an API token."""
    who.require_login()
    async with db.read() as conn:
        return await _page(
            conn, who, before, limit, lambda c, before, count: store.of_user(c, who.user_id, filters, before, count)
        )


async def registry_audit(db: Database, who: Principal, filters: Filters, before: int, limit: int) -> AuditPage:
    """Everything that happened. Raises Forbidden unless `who` is an admin."""
    who.require("admin")
    async with db.read() as conn:
        return await _page(
            conn, who, before, limit, lambda c, before, count: store.of_registry(c, filters, before, count)
        )


def as_csv(entries: Sequence[AuditEntry]) -> str:
    """The entries as CSV with a header, without cells that a spreadsheet would run as formulas."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(CSV_COLUMNS)
    for entry in entries:
        cells = (
            entry["at"].isoformat().replace("+00:00", "Z"),
            entry["action"],
            entry["actor"]["username"],
            entry["token"]["name"] if entry["token"] else None,
            entry["ip"],
            entry["user_agent"],
            entry["package"],
            entry["version"],
            orjson.dumps(entry["details"]).decode(),
        )
        writer.writerow([_harmless(cell or "") for cell in cells])
    return text.getvalue()


async def _page(conn: Connection, who: Principal, before: int, limit: int, read: Read) -> AuditPage:
    # One row more than the page has, to know whether there is a next page.
    rows = await read(conn, before, limit + 1)
    shown = rows[:limit]
    named = {found for row in shown for found in users_in(row.details)}
    names = await accounts.names(conn, named) if named else {}
    return {
        "entries": [_entry(row, who, names) for row in shown],
        "next_cursor": encode("audit", (shown[-1].id,)) if len(rows) > limit else None,
        "limit": limit,
    }


def _entry(row: Row, who: Principal, names: dict[int, str]) -> AuditEntry:
    is_whole = who.is_admin or row.actor_id == who.user_id
    return {
        "at": row.at,
        "action": row.action,
        "actor": {"username": row.actor},
        "token": None if row.token_id is None else {"id": row.token_id, "name": row.token_name},
        "publisher": row.publisher,
        "ip": row.ip if is_whole else None,
        "user_agent": row.user_agent if is_whole else None,
        "package": row.package,
        "version": row.version,
        "details": with_names(row.details, names),
    }


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(FORMULA_MARKS) else cell
