"""The jobs that deliver. Each works in slices of a few seconds, so that all hosts have their turn.

A host has at most two jobs: one of the kind FAST, and one of the kind SLOW for receivers that fail or are slow, so that
these do not delay others. Together they have at most four requests at the same time in the whole registry. A receiver
that hangs for the first time occupies one of them; the others go on meanwhile.

A delivery that was sent, but whose result could not be saved, is sent again with the same id.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from prometheus_client import Counter, Histogram

from registry.changes.chain import timestamp
from registry.changes.log import change_of
from registry.db.engine import Connection, Database, Row, json
from registry.errors import SecretUnreadable
from registry.events import audit
from registry.jobs.queue import Job, Kind
from registry.sealing import Sealer
from registry.web.responses import dump
from registry.webhooks import signing
from registry.webhooks import store as webhooks
from registry.webhooks.deliveries import store
from registry.webhooks.deliveries.fanout import FAST, SLOW
from registry.webhooks.deliveries.turns import Turns
from registry.webhooks.sender import Outcome, Sender

log = logging.getLogger(__name__)

ATTEMPTS = Counter("registry_webhook_attempts_total", "Attempts to deliver to webhooks", ["outcome"])
SECONDS = Histogram(
    "registry_webhook_seconds", "How long attempts took", buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15)
)
DISABLED = Counter("registry_webhooks_disabled_total", "Webhooks that were disabled because they failed")
for _outcome in (store.DELIVERED, store.PENDING, store.FAILED):
    ATTEMPTS.labels(_outcome)

DELAYS = tuple(timedelta(seconds=each) for each in (10, 60, 300, 1800, 7200, 18000, 36000))
# Delays are up to this fraction shorter or longer, so that deliveries that failed together are not retried together.
JITTER = 0.1
PATIENCE = timedelta(days=5)
SLICE_SECONDS = 10.0
# The pause of a host whose receiver failed. Otherwise a long backlog would keep the workers busy.
PAUSE = timedelta(seconds=1)
# Requests to one host at the same time, by kind of job. Together four.
PARALLEL = {FAST: 3, SLOW: 1}
# Jobs of a kind that run at the same time in the whole registry.
JOBS = {FAST: 16, SLOW: 8}
BATCH = 200
BATCH_OF_WEBHOOK = 30
# A receiver that takes longer is slow.
SLOW_MS = 2000
# How often new deliveries are looked for while attempts run and another one could start.
POLL_SECONDS = 0.25
# Results are saved at least this often.
SAVE_SECONDS = 1.0
GONE = 410
GONE_REASON = "The receiver answered 410 Gone."
PATIENCE_REASON = "No delivery succeeded for 5 days."
ROLE_ENDED = "Not sent: the user who made the webhook no longer has the role that it needs."


def message_id(row: Row) -> str:
    """The id of a delivery, as the receiver and the API show it."""
    return f"msg_{str(row.message_id).replace('-', '')}"


@dataclass
class _Result:
    """One attempt. `state` is the delivery's new state; it is due again after `delay` seconds if that is pending."""

    row: Row
    outcome: Outcome
    state: str
    delay: float
    at: datetime

    @property
    def has_trouble(self) -> bool:
        """Whether the receiver failed or was slow. A delivery that must not be sent says nothing about it."""
        return self.row.allowed and (self.outcome.error is not None or self.outcome.ms > SLOW_MS)


@dataclass
class _Health:
    """What the attempts of a batch say about a webhook."""

    succeeds: bool = False
    any_success: bool = False
    is_slow: bool = False
    is_gone: bool = False


@dataclass
class Deliverer:
    """Delivers with `sender`. `sealer` decrypts secrets. `chance` gives numbers from 0 to 1.

    `clock` gives seconds and never goes backwards. `now` is the time of day.
    """

    db: Database
    sender: Sender
    sealer: Sealer
    chance: Callable[[], float] = random.random
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    def kinds(self) -> list[Kind]:
        return [Kind(kind, self.run, concurrency=JOBS[kind]) for kind in (FAST, SLOW)]

    async def run(self, job: Job) -> timedelta | None:
        """Delivers what is due to the host of the job. Returns when the job must run again; None if nothing is due.

        A slice ends after SLICE_SECONDS, so that other hosts have their turn.
        """
        deadline = self.clock() + SLICE_SECONDS
        has_failed = await self._deliver(str(job.payload["host"]), job.kind, deadline)
        if job.kind == SLOW and has_failed:
            return PAUSE
        return timedelta(0) if self.clock() >= deadline else None

    async def _deliver(self, host: str, kind: str, deadline: float) -> bool:
        """Begins attempts until `deadline`, or until nothing is due. Returns whether any of them failed."""
        turns, unsaved, has_failed, saved_at = Turns(), list[_Result](), False, self.clock()
        running: set[asyncio.Task[_Result]] = set()
        try:
            while True:
                is_loaded = False
                while len(running) < PARALLEL[kind] and self.clock() < deadline:
                    row = turns.next()
                    if row is not None:
                        running.add(asyncio.create_task(self._attempt(row)))
                    elif is_loaded:
                        break
                    else:
                        # Results are saved first, because what was delivered must not be loaded again.
                        await self._save(unsaved)
                        unsaved, saved_at = [], self.clock()
                        turns.load(await self._due(host, kind == SLOW))
                        is_loaded = True
                if not running:
                    break
                done, running = await asyncio.wait(running, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                for result in map(asyncio.Task.result, done):
                    unsaved.append(result)
                    turns.finish(result.row, has_trouble=result.has_trouble)
                    has_failed |= result.outcome.error is not None
                if self.clock() - saved_at >= SAVE_SECONDS:
                    await self._save(unsaved)
                    unsaved, saved_at = [], self.clock()
        finally:
            # A TaskGroup would hide that PostgreSQL is unavailable in an ExceptionGroup.
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        await self._save(unsaved)
        return has_failed

    async def _due(self, host: str, is_slow: bool) -> list[Row]:
        async with self.db.read() as conn:
            return await store.due(conn, host, is_slow, BATCH_OF_WEBHOOK, BATCH)

    async def _attempt(self, row: Row) -> _Result:
        at = self.now()
        if not row.allowed:
            return _Result(row, Outcome(None, 0, ROLE_ENDED, None), store.FAILED, 0, at)
        try:
            secrets = self._secrets(row)
        except SecretUnreadable as error:
            outcome = Outcome(None, 0, error.detail, None)
        else:
            body = _body(row)
            headers = signing.headers(message_id(row), int(at.timestamp()), body, secrets)
            outcome = await self.sender.send(row.url, body, headers)
            SECONDS.observe(outcome.ms / 1000)
        state, delay = self._next(row.tries + 1, outcome)
        ATTEMPTS.labels(state).inc()
        return _Result(row, outcome, state, delay, at)

    def _secrets(self, row: Row) -> list[str]:
        """The secrets that sign. Raises SecretUnreadable. An old secret that can't be decrypted is left out."""
        secrets = [self.sealer.open(row.secret).decode()]
        if row.old_secret is not None:
            with suppress(SecretUnreadable):
                secrets.append(self.sealer.open(row.old_secret).decode())
        return secrets

    def _next(self, attempt: int, outcome: Outcome) -> tuple[str, float]:
        """(state, seconds until the next attempt) after the attempt of this number, which counts from 1."""
        if outcome.error is None:
            return store.DELIVERED, 0
        if attempt > len(DELAYS) or outcome.status == GONE:
            return store.FAILED, 0
        return store.PENDING, DELAYS[attempt - 1].total_seconds() * (1 + JITTER * (2 * self.chance() - 1))

    async def _save(self, results: Sequence[_Result]) -> None:
        if not results:
            return
        health: dict[int, _Health] = {}
        for result in results:
            if not result.row.allowed:
                continue
            seen = health.setdefault(result.row.webhook_id, _Health())
            seen.succeeds = result.outcome.error is None
            seen.any_success |= seen.succeeds
            seen.is_slow = result.has_trouble
            seen.is_gone |= result.outcome.status == GONE
        async with self.db.transaction() as conn:
            await store.save(conn, json([_saved(result) for result in results]))
            states = [
                {"id": id_, "succeeds": each.succeeds, "any_success": each.any_success, "is_slow": each.is_slow}
                for id_, each in health.items()
            ]
            for row in await webhooks.save_results(conn, json(states), PATIENCE):
                if health[row.id].is_gone:
                    await _disable(conn, row, GONE_REASON)
                elif row.failed_long:
                    await _disable(conn, row, PATIENCE_REASON)


async def _disable(conn: Connection, webhook: Row, reason: str) -> None:
    if not await webhooks.disable(conn, webhook.id, reason):
        return
    DISABLED.inc()
    log.warning("webhook disabled", extra={"webhook": webhook.id, "reason": reason})
    await audit.write(
        conn,
        "webhook.disable",
        audit.OPERATOR,
        account_id=webhook.user_id,
        package_id=webhook.package_id,
        details={"webhook": webhook.id, "host": webhook.host, "reason": reason},
    )


def _body(row: Row) -> bytes:
    if row.seq is None:
        return dump({"type": row.delivery_type, "timestamp": timestamp(row.queued_at), "data": {}})
    # A change lacks its hash only if somebody removed it from the chain.
    change = change_of(row, with_hash=row.hash is not None)
    return dump({"type": change["type"], "timestamp": change["at"], "data": change})


def _saved(result: _Result) -> dict[str, Any]:
    outcome = result.outcome
    attempt = {
        "at": timestamp(result.at), "status": outcome.status, "ms": outcome.ms,
        "error": outcome.error, "response": outcome.response,
    }  # fmt: skip
    return {"id": result.row.id, "state": result.state, "delay": result.delay, "attempt": attempt}
