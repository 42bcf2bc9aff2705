"""How many requests run at once, and that receivers that fail or hang delay nobody else's."""

import asyncio
from typing import Any

import pytest
from aiohttp import web

from registry.db.engine import Database, Statement
from registry.errors import DatabaseUnavailable
from registry.jobs.queue import Job
from registry.keys import DB, SETTINGS
from registry.sealing import Sealer
from registry.webhooks.deliveries import deliver, fanout
from registry.webhooks.deliveries.deliver import Deliverer
from registry.webhooks.deliveries.purge import purge
from registry.webhooks.deliveries.store import due
from registry.webhooks.hooks import PURPOSE
from registry.webhooks.sender import Outcome
from tests.changes.events import append, sql, value
from tests.client import Registry
from tests.conftest import MakeRegistry
from tests.until import until
from tests.webhooks.receiver import LOCAL, Receiver, hanging, hook, receiving

EVENTS = 30


async def test_at_most_four_requests_run_at_once_to_a_host(sending: Registry, receiver: Receiver):
    """With several webhooks of the host, a retried one among them."""
    root = await sending.user("root", admin=True)

    async def slow(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.01)
        return web.Response()

    for number in range(6):
        await hook(root, receiver.url(f"/{number}"))
        receiver.answers[f"/{number}"] = slow
    await sql(sending.app[DB], "UPDATE webhooks SET is_slow = true WHERE id = (SELECT max(id) FROM webhooks)")
    await append(sending.app[DB], EVENTS)
    await until(lambda: len(receiver.received) >= 6 * EVENTS)
    assert 1 < receiver.most <= 4


async def test_a_dead_receiver_delays_nobody_elses(sending: Registry, receiver: Receiver):
    """Not even that of another webhook on the same host, and not even at its first attempt."""
    root = await sending.user("root", admin=True)
    receiver.answers["/hanging"] = hanging
    await hook(root, receiver.url("/hanging"))
    async with receiving() as other:
        await hook(root, receiver.url("/living"))
        await hook(root, other.url("/living"))
        await append(sending.app[DB], EVENTS)
        await until(lambda: min(len(each.of("/living")) for each in (receiver, other)) == EVENTS)
        assert receiver.now == 1
    assert len(receiver.of("/hanging")) == 1


async def test_webhooks_of_one_host_take_turns(make_registry: MakeRegistry):
    """The newest delivery of one does not wait for the backlog of the others."""
    registry = await make_registry(**LOCAL, with_background=False)
    db: Database = registry.app[DB]
    root = await registry.user("root", admin=True)
    made = [(await hook(root, "http://127.0.0.1:9/"))["id"] for _ in range(3)]
    backlog = "INSERT INTO webhook_deliveries (webhook_id, type, due_at) SELECT {}, 'ping', now() - interval '1 hour'"
    for webhook in made[:2]:
        await sql(db, f"{backlog.format(webhook)} FROM generate_series(1, 100)")
    await sql(db, f"INSERT INTO webhook_deliveries (webhook_id, type) VALUES ({made[2]}, 'ping')")
    async with db.read() as conn:
        rows = await due(conn, "127.0.0.1:9", False, 30, 60)
    assert sorted(row.webhook_id for row in rows[:3]) == made
    assert len(rows) == 60


class Scripted:
    """A sender that gives these outcomes, and keeps the headers that it was to send."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes)
        self.headers: list[Any] = []

    async def send(self, url: str, body: bytes, headers: Any) -> Outcome:
        self.headers.append(headers)
        return self.outcomes.pop(0)


def deliverer(registry: Registry, sender: Scripted) -> Deliverer:
    sealer = Sealer(registry.app[SETTINGS].accounts.secret_keys, PURPOSE)
    return Deliverer(registry.app[DB], sender, sealer, chance=lambda: 0.5)  # type: ignore[arg-type]


async def test_a_dead_host_rests_between_attempts(make_registry: MakeRegistry):
    """A backlog of deliveries to it must not keep a worker busy."""
    registry = await make_registry(**LOCAL, with_background=False)
    db: Database = registry.app[DB]
    root = await registry.user("root", admin=True)
    await hook(root, "http://127.0.0.1:9/")
    await sql(db, "UPDATE webhooks SET is_slow = true")
    backlog = "INSERT INTO webhook_deliveries (webhook_id, type) SELECT id, 'ping' FROM webhooks, generate_series(1, 9)"
    await sql(db, backlog)
    sender = Scripted(Outcome(None, 1, "refused", None), *[Outcome(200, 1, None, "")] * 9)
    job = Job(1, fanout.SLOW, {"host": "127.0.0.1:9"}, 1)
    assert await deliverer(registry, sender).run(job) == deliver.PAUSE
    assert len(sender.headers) == 1
    assert await deliverer(registry, sender).run(job) is None
    assert len(sender.headers) == 9


async def test_an_old_secret_that_can_not_be_decrypted_does_not_stop_deliveries(make_registry: MakeRegistry):
    registry = await make_registry(**LOCAL, with_background=False)
    db: Database = registry.app[DB]
    root = await registry.user("root", admin=True)
    made = await hook(root, "http://127.0.0.1:9/")
    await sql(db, "UPDATE webhooks SET secret = 'sealed by a lost key'")
    assert (await root.call("POST", f"/webhooks/{made['id']}/rotate")).status == 200
    await root.call("POST", f"/webhooks/{made['id']}/ping")
    sender = Scripted(Outcome(200, 1, None, ""))
    assert await deliverer(registry, sender).run(Job(1, fanout.FAST, {"host": "127.0.0.1:9"}, 1)) is None
    assert len(sender.headers[0]["webhook-signature"].split()) == 1


async def test_a_result_that_can_not_be_saved_is_an_outage_and_not_a_fault(
    make_registry: MakeRegistry, monkeypatch: pytest.MonkeyPatch
):
    registry = await make_registry(**LOCAL, with_background=False)
    root = await registry.user("root", admin=True)
    await hook(root, "http://127.0.0.1:9/")
    await sql(registry.app[DB], "INSERT INTO webhook_deliveries (webhook_id, type) SELECT id, 'ping' FROM webhooks")

    def transaction(*_: object) -> None:
        raise DatabaseUnavailable("PostgreSQL is away.")

    with monkeypatch.context() as patched, pytest.raises(DatabaseUnavailable):
        patched.setattr(registry.app[DB], "transaction", transaction)
        job = Job(1, fanout.FAST, {"host": "127.0.0.1:9"}, 1)
        await deliverer(registry, Scripted(Outcome(200, 1, None, ""))).run(job)


async def test_a_webhook_that_fails_moves_to_jobs_of_its_own_and_back(make_registry: MakeRegistry):
    registry = await make_registry(**LOCAL, with_background=False)
    db: Database = registry.app[DB]
    root = await registry.user("root", admin=True)
    await hook(root, "http://127.0.0.1:9/")
    sender = Scripted(Outcome(500, 1, "The receiver answered 500.", ""), Outcome(200, 1, None, ""))
    some = deliverer(registry, sender)
    await sql(db, "INSERT INTO webhook_deliveries (webhook_id, type) SELECT id, 'ping' FROM webhooks")
    job = Job(1, fanout.FAST, {"host": "127.0.0.1:9"}, 1)
    assert await some.run(job) is None
    assert await value(db, "SELECT is_slow FROM webhooks")
    seconds = await value(db, "SELECT extract(epoch FROM due_at - now()) FROM webhook_deliveries")
    assert 0 < seconds <= deliver.DELAYS[0].total_seconds()
    await sql(db, "UPDATE webhook_deliveries SET due_at = now()")
    assert await some.run(job) is None
    assert len(sender.outcomes) == 1
    assert await some.run(Job(2, fanout.SLOW, {"host": "127.0.0.1:9"}, 1)) is None
    assert not await value(db, "SELECT is_slow FROM webhooks")
    assert await value(db, "SELECT state FROM webhook_deliveries") == "delivered"


async def test_old_deliveries_and_ended_webhooks_are_purged(make_registry: MakeRegistry):
    registry = await make_registry(**LOCAL, with_background=False)
    db: Database = registry.app[DB]
    root = await registry.user("root", admin=True)
    made = [await hook(root, "http://127.0.0.1:9/") for _ in range(2)]
    await sql(db, "INSERT INTO webhook_deliveries (webhook_id, type) SELECT id, 'ping' FROM webhooks")
    await sql(
        db, "INSERT INTO webhook_deliveries (webhook_id, type, created_at) "
        "SELECT id, 'ping', now() - interval '31 days' FROM webhooks"
    )  # fmt: skip
    assert (await root.call("DELETE", f"/webhooks/{made[0]['id']}")).status == 204
    assert await purge(db, registry.app[SETTINGS].webhooks.retention) == 3
    assert await value(db, "SELECT count(*) FROM webhook_deliveries") == 1
    assert await value(db, "SELECT count(*) FROM webhooks") == 1


async def test_deliveries_are_made_once_however_often_a_batch_is_handled(sending: Registry, receiver: Receiver):
    root = await sending.user("root", admin=True)
    await hook(root, receiver.url())
    await append(sending.app[DB], EVENTS)
    await until(lambda: len(receiver.received) == EVENTS)
    await sql(sending.app[DB], "UPDATE consumers SET seq = 0 WHERE name = 'webhooks'")
    await append(sending.app[DB])
    await until(lambda: len(receiver.received) > EVENTS)
    assert len(receiver.received) == EVENTS + 1
    async with sending.app[DB].read() as conn:
        assert await conn.value(Statement("SELECT count(*) FROM webhook_deliveries", {})) == EVENTS + 1
