"""Runs all checks, repairs if asked to, and then repeats the checks whose faults were repaired."""

import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import Any

from registry.analytics.index import open_analytics
from registry.db.engine import open_database
from registry.doctor import (
    blobs,
    changes,
    dashboards,
    factors,
    jobs,
    mail,
    rows,
    schema,
    search,
    spool,
    webhooks,
    words,
)
from registry.doctor.accounts import checks as accounts
from registry.doctor.check import Check, Progress, Registry
from registry.doctor.counts import checks as counts
from registry.doctor.dependents import checks as dependents
from registry.doctor.events import checks as events
from registry.doctor.runs import keep
from registry.errors import Unavailable
from registry.mail.configuration import configuration
from registry.search.index import open_search
from registry.settings import Settings
from registry.storage.opened import open_storage

log = logging.getLogger(__name__)

CLEAN, WRONG, INCOMPLETE = 0, 1, 2
# Statements that read whole tables take longer than those of requests.
STATEMENT_TIMEOUT = timedelta(hours=1)
SEARCH_TIMEOUT = timedelta(seconds=30)


@dataclass
class Result:
    """The result of one check: the number of faults that were `found`, and that are `left` after the repair.

    `problem` is None, or says why the check could not run.
    """

    name: str
    law: str
    remedy: str
    mendable: bool
    found: int = 0
    left: int = 0
    examples: list[str] = field(default_factory=list)
    problem: str | None = None
    seconds: float = 0.0


@dataclass
class Report:
    """The results of all checks, in the order they ran."""

    repaired: bool
    results: list[Result]

    @property
    def status(self) -> int:
        """The exit status. 0: no fault is left. 1: faults are left. 2: some check could not run."""
        if any(result.problem for result in self.results):
            return INCOMPLETE
        return WRONG if any(result.left for result in self.results) else CLEAN

    def as_json(self) -> dict[str, Any]:
        return {"status": self.status, "repaired": self.repaired, "checks": [asdict(result) for result in self.results]}


def all_checks(registry: Registry, *, deep: bool) -> list[Check]:
    """All checks, in the order in which repairs must run: rows before the counters and indices that depend on them.

    With `deep`, one check reads all tarballs.
    """
    checks = [*schema.CHECKS, *blobs.CHECKS, *(blobs.DEEP if deep else ()), *accounts.CHECKS, *rows.CHECKS]
    checks += [*dependents.CHECKS, *words.CHECKS]
    checks += [*events.CHECKS, *changes.CHECKS, *spool.CHECKS, *counts.CHECKS, *jobs.CHECKS]
    checks += [*factors.CHECKS, *webhooks.CHECKS]
    if configuration(registry.settings) is not None:
        checks += mail.CHECKS
    if registry.index.is_configured:
        checks += search.CHECKS
    if registry.dashboards is not None:
        checks += dashboards.CHECKS
    return checks


async def doctor(settings: Settings, progress: Progress, *, repair: bool, deep: bool) -> Report:
    """Examines the registry of `settings`, which may be in use, and keeps the findings for admins.

    Raises StackError, StorageUnavailable.
    """
    async with opened(settings, progress) as registry:
        began = time.monotonic()
        report = await examine(registry, all_checks(registry, deep=deep), repair=repair)
        await _save(registry, report, round(time.monotonic() - began, 3), deep)
        return report


async def _save(registry: Registry, report: Report, seconds: float, deep: bool) -> None:
    """Saves the findings, unless the schema does not fit."""
    about_schema = {check.name for check in schema.CHECKS}
    if any(result.left or result.problem for result in report.results if result.name in about_schema):
        return
    try:
        await keep.save(registry.db, report.as_json(), seconds=seconds, is_deep=deep)
    except Unavailable as error:
        log.warning("the findings of the doctor can't be saved", extra={"reason": error.detail})


@asynccontextmanager
async def opened(settings: Settings, progress: Progress) -> AsyncIterator[Registry]:
    """The resources of `settings`, with longer timeouts than those of requests."""
    database = replace(settings.database, statement_timeout=STATEMENT_TIMEOUT)
    engine = replace(settings.search, timeout=max(settings.search.timeout, SEARCH_TIMEOUT))
    async with (
        open_database(database) as db,
        open_storage(settings.storage) as storage,
        open_search(engine) as index,
        open_analytics(engine) as documents,
    ):
        yield Registry(settings, db, storage, index, documents, progress)


async def examine(registry: Registry, checks: Sequence[Check], *, repair: bool) -> Report:
    """Runs `checks` one after the other. After all repairs, repeats each check whose faults were repaired."""
    results: list[Result] = []
    for check in checks:
        registry.progress(check.name)
        result = Result(check.name, check.law, check.remedy, check.repair is not None)
        results.append(result)
        await _make(registry, check, result, repair=repair)
        if check.vital and (result.found or result.problem):
            break
    if repair:
        for check, result in zip(checks, results, strict=False):
            if result.found and result.mendable and not result.problem:
                registry.progress(f"{check.name}: checking again")
                await _make(registry, check, result, again=True)
    return Report(repair, results)


async def _make(registry: Registry, check: Check, result: Result, *, repair: bool = False, again: bool = False) -> None:
    began = time.monotonic()
    try:
        found = await check.find(registry)
        result.left = found.count
        if not again:
            result.found, result.examples = found.count, found.examples
        if found.count and repair and check.repair is not None:
            registry.progress(f"{check.name}: repairing {found.count}")
            await check.repair(registry)
    except Unavailable as error:
        result.problem = error.detail
    result.seconds = round(result.seconds + time.monotonic() - began, 3)
