"""How PostgreSQL runs the statements of the hot paths, as Markdown.

Calls the same store functions as the service, inside one transaction that is rolled back, and runs EXPLAIN for every
statement first. The figure is met when no statement scans a whole table of more than 100 pages.
"""

import asyncio
import json
import re
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiopg
import orjson

from registry.accounts import store as accounts
from registry.accounts.delays import store as delays
from registry.db.connecting import dsn
from registry.db.engine import Connection, Statement
from registry.downloads import store as downloads
from registry.downloads.statistics import store as statistics
from registry.events import log as event_log
from registry.package_format import manifest
from registry.packages import store
from registry.packages.idempotency import store as idempotency
from registry.packages.listing import page
from registry.packages.listing import store as listing
from registry.packages.publication import store as publication
from registry.packages.rights import OWNER
from registry.packages.totals import store as totals
from registry.search import store as search
from registry.search.fallback import store as fallback
from registry.settings import Settings
from tests.bench.stack import Stack

# PostgreSQL is right to scan a table of a few pages, even when an index exists.
SMALL = Statement("SELECT relname FROM pg_class WHERE relkind = 'r' AND pg_relation_size(oid) <= 100 * 8192", {})
_SCAN = re.compile(r"Seq Scan on (\w+)")
A_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Plan:
    """The plan of one statement: the lines of EXPLAIN, and which tables are too small to matter."""

    path: str
    lines: list[str]
    small: frozenset[str]

    @property
    def scans(self) -> set[str]:
        scanned = {found[1] for line in self.lines if "never executed" not in line and (found := _SCAN.search(line))}
        return scanned - self.small


class Explaining(Connection):
    """A connection that runs EXPLAIN for each statement before the statement itself."""

    def __init__(self, raw: aiopg.Connection) -> None:
        super().__init__(raw)
        self.path = ""
        self.small: frozenset[str] = frozenset()
        self.plans: list[Plan] = []

    async def _execute(self, cursor: Any, stmt: Statement, values: dict[str, Any]) -> None:
        await self.command("SAVEPOINT explained")
        for part in stmt.parts:
            if part.sql.startswith(("CREATE TABLE", "SET LOCAL")):
                continue  # it has no plan
            sql = f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) {part.sql}"
            await super()._execute(cursor, Statement(sql, part.defaults, prepares=part.prepares), values)
            self.plans.append(Plan(self.path, [line for (line,) in await cursor.fetchall()], self.small))
        await self.command("ROLLBACK TO explained")
        await super()._execute(cursor, stmt, values)


async def explain_all(settings: Settings) -> list[Plan]:
    async with aiopg.connect(dsn(settings.database), enable_hstore=False, enable_uuid=False) as raw:
        conn = Explaining(raw)
        await conn.command("BEGIN")
        paths = await hot_paths(conn)
        conn.small = frozenset([row.relname for row in await Connection(raw).all(SMALL)])
        conn.plans.clear()
        for conn.path, run in paths.items():
            await run()
        await conn.command("ROLLBACK")
        return conn.plans


async def hot_paths(conn: Connection) -> dict[str, Callable[[], Awaitable[Any]]]:
    """The store calls of each kind of request, for a package from the middle of the table."""
    some = await conn.one(
        Statement("SELECT * FROM packages WHERE id >= (SELECT max(id) / 2 FROM packages) LIMIT 1", {})
    )
    name, day = some.name, datetime.now(UTC).date()
    version = await store.version(conn, name, None)
    fields = {"name": "growth-plan", "version": "9.9.9", "description": "A plan"}
    meta = manifest.merge({}, manifest.Manifest(fields, json.dumps(fields)))
    fields["version"] = "9.9.10"
    second = manifest.merge({}, manifest.Manifest(fields, json.dumps(fields)))
    arrived = downloads.Download(
        datetime.now(UTC), version.id, some.id, None, None, None, "plan", "", 200, 1, "unknown", "Other", "", "", ""
    )
    now = datetime.now(UTC)

    async def publish() -> None:
        found = await publication.read(conn, meta.name, meta.version.canonical, some.owner_id, wants_id=True)
        own = {"checksum": "", "size": 1, "user_id": some.owner_id}
        await publication.add(conn, meta, found.new_id, None, key="first", **own)
        await publication.add(conn, second, found.new_id, OWNER, key="second", **own)
        await idempotency.remember_key(conn, some.owner_id, "plan", "")

    async def listed() -> None:
        for sort in listing.SORTS:
            rows, _ = await listing.listed(conn, sort, 21, 0, None)
            after = page.decode_cursor(page.encode_cursor(sort, rows[-1]), sort)
            await listing.listed(conn, sort, 21, 0, after)
            middle = page.decode_cursor(page.encode_cursor(sort, some), sort)
            await listing.listed(conn, sort, 21, 0, middle)

    async def follow() -> None:
        last = await event_log.last_seq(conn)
        await event_log.position(conn, "search")
        await event_log.read_after(conn, last - 500, 500)
        await event_log.lags(conn)
        await search.packages_named(conn, [name])
        await search.versions_named(conn, [(name, version.version)])
        await search.save_outcome(conn, succeeded=[f"packages:{name}"], failed=[])

    async def sign_in() -> None:
        await accounts.user_by_login(conn, "catalogue-7")
        await accounts.login(conn, some.owner_id, "unknown")
        await accounts.api_token_by_hash(conn, "unknown")
        await accounts.mark_used(conn, 1, now=now, before=now - A_DAY)
        await delays.delayed(conn, ["unknown"])

    async def count() -> None:
        downloads.add(conn, uuid.uuid4(), orjson.loads(orjson.dumps([arrived])))
        for stmt in conn._deferred:
            await conn.run(stmt, **conn._deferred_values)
        await downloads.read_after(conn, 0, 500)
        await downloads.lag(conn, "analytics")

    return {
        "A package's page": lambda: store.package(conn, name),
        "Its versions": lambda: store.versions(conn, some.id),
        "Names of its versions": lambda: store.version_names(conn, name),
        "One version": lambda: store.version(conn, name, version.canonical),
        "The latest version": lambda: store.version(conn, name, None),
        "A tarball": lambda: store.blob(conn, name, version.canonical),
        "The latest tarball": lambda: store.blob(conn, name, None),
        "Publishing": publish,
        "An idempotency key": lambda: store.answer_of(conn, some.owner_id, "unknown"),
        "Who is asking": sign_in,
        "Counting downloads": count,
        "Following the log": follow,
        "A page of a rebuild": lambda: search.packages_after(conn, some.id, 500),
        "A page of versions of a rebuild": lambda: search.versions_after(conn, version.id, 500),
        "Listing packages": listed,
        "Totals": lambda: totals.totals(conn),
        "A package's downloads over time": lambda: statistics.series(conn, [name], day - 30 * A_DAY, day, "day", None),
        "Why a package isn't found": lambda: search.standing(conn, some.similarity_key),
        "Completing without Elasticsearch": lambda: fallback.suggest(conn, name[:4], 10),
    }


def markdown(plans: list[Plan]) -> str:
    parts = []
    before = ""
    for plan in plans:
        heading = f"### {plan.path}\n\n" if plan.path != before else ""
        before = plan.path
        flag = f"**Scans all of {', '.join(sorted(plan.scans))}.**\n\n" if plan.scans else ""
        parts.append(f"{heading}{flag}```\n" + "\n".join(plan.lines) + "\n```\n")
    return "\n".join(parts)


async def plans(stack: Stack) -> None:
    """Explains the statements, writes their plans to the stack's data folder and prints one line about them."""
    explained = await explain_all(stack.settings)
    file = stack.data / "plans.md"
    await asyncio.to_thread(file.write_text, markdown(explained), "utf-8")
    scanned = sorted(set().union(*(plan.scans for plan in explained)))
    line = {"figure": "plans", "statements": len(explained), "scanned tables": scanned, "met": not scanned}
    print(json.dumps({**line, "file": str(file)}), flush=True)
