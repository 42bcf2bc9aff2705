"""Users report packages to the admins. Only admins see reports: owners don't learn who reported their package."""

from datetime import datetime
from typing import Literal

from typing_extensions import TypedDict

from registry.accounts.identity import Principal
from registry.db.engine import Database, Row
from registry.errors import NotFound
from registry.events import audit
from registry.packages import store as packages
from registry.packages.read import check_name, no_package
from registry.reports import store

Kind = Literal["malware", "spam", "other"]
NO_REPORT = "There is no report with this id. GET /api/v1/admin/reports lists all."


class Received(TypedDict):
    """The answer to whoever reports."""

    success: bool
    id: int
    package: str
    kind: str
    at: datetime


class Report(TypedDict):
    """A report. `username` is who reported; `closed_at` is None while `closed` is false."""

    id: int
    at: datetime
    package: str
    kind: str
    text: str
    username: str
    closed: bool
    closed_at: datetime | None


async def report_package(db: Database, who: Principal, name: str, kind: Kind, text: str) -> Received:
    """Adds a report of a package, which may be in quarantine. Raises NotFound, OtherSpelling."""
    async with db.transaction() as conn:
        package = check_name(await packages.find(conn, name, who.user_id), name)
        if package.latest_version_id is None and package.quarantine_reason is None:
            raise no_package(name)
        added = await store.add(conn, package.id, who.user_id, kind, text)
        # Without the package: its owners can read entries about it.
        await audit.write(conn, "report.create", who.actor, details={"report": added.id})
    return {"success": True, "id": added.id, "package": package.name, "kind": kind, "at": added.created_at}


async def list_reports(db: Database, who: Principal, closed: bool | None, before: int, count: int) -> list[Report]:
    """Up to `count` reports with ids below `before`, newest first. `closed` None means open and closed ones.

    Raises Forbidden unless `who` is an admin.
    """
    who.require("admin")
    async with db.read() as conn:
        return [_report(row) for row in await store.page(conn, closed, before, count)]


async def close_report(db: Database, who: Principal, report: int, closed: bool) -> Report:
    """Closes a report, or opens it again. Raises NotFound, and Forbidden unless `who` is an admin."""
    who.require("admin")
    async with db.transaction() as conn:
        found = await store.find(conn, report)
        if found is None:
            raise NotFound(NO_REPORT)
        if (found.closed_at is not None) == closed:
            return _report(found)
        closed_at = await store.close(conn, report, closed)
        action = "report.close" if closed else "report.open"
        await audit.write(conn, action, who.actor, details={"report": report})
    return {**_report(found), "closed": closed, "closed_at": closed_at}


def _report(row: Row) -> Report:
    return {
        "id": row.id,
        "at": row.created_at,
        "package": row.package,
        "kind": row.kind,
        "text": row.text,
        "username": row.username,
        "closed": row.closed_at is not None,
        "closed_at": row.closed_at,
    }
