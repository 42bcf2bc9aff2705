"""Keeps the findings of the doctor's last runs, so that admins can read them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from registry.accounts.identity import Principal
from registry.db.engine import Database
from registry.doctor.runs import store

MAX_EXAMPLE = 500


@dataclass(frozen=True, slots=True)
class Run:
    """A run. `report` is that of `Report.as_json()`, with examples of at most MAX_EXAMPLE characters."""

    id: int
    finished_at: datetime
    seconds: float
    is_deep: bool
    report: Mapping[str, Any]

    @property
    def left(self) -> int:
        """The number of faults that were left."""
        return sum(check["left"] for check in self.report["checks"])


async def save(db: Database, report: Mapping[str, Any], *, seconds: float, is_deep: bool) -> None:
    """Saves the report of a run. Only the last 20 are kept. Raises DatabaseUnavailable."""
    checks = [
        {**check, "examples": [_storable(example) for example in check["examples"]]} for check in report["checks"]
    ]
    async with db.transaction() as conn:
        await store.add(conn, {**report, "checks": checks}, seconds=seconds, is_deep=is_deep)


async def last_runs(db: Database, who: Principal, count: int = store.KEPT) -> list[Run]:
    """The last `count` runs, newest first. Raises Forbidden unless `who` is an admin."""
    who.require("admin")
    async with db.read() as conn:
        rows = await store.last(conn, count)
    return [Run(row.id, row.finished_at, row.seconds, row.is_deep, row.report) for row in rows]


def _storable(example: str) -> str:
    """The example, shortened, and without the one character that PostgreSQL can't store."""
    example = example.replace("\0", "\ufffd")
    return example if len(example) <= MAX_EXAMPLE else f"{example[:MAX_EXAMPLE]}…"
