"""Every living receiver gets every change while workers are killed and half of the receivers are dead."""

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web
from ephemeral_port_reserve import reserve
from standardwebhooks.webhooks import Webhook

from registry.accounts.administer import set_role
from registry.db.engine import Database, Statement
from tests.changes.events import append
from tests.client import API, PASSWORD
from tests.faults import ALL
from tests.faults.fleet import Fleet, Member
from tests.until import until
from tests.webhooks.receiver import LOCAL, Received, Receiver, answering, hanging, receiving

EVENTS, HOOKS, KILLS = (10_000, 100, 3) if ALL else (60, 8, 1)
BATCH = 20
SECONDS = 7200.0 if ALL else 120.0


@dataclass
class Verifying(Receiver):
    """Verifies each request to a living webhook at once, and keeps only its id and seq.

    Answers these requests when `may_answer` is set. So a worker can be killed while it waits for an answer.
    """

    secrets: dict[str, Webhook] = field(default_factory=dict)
    seqs_by_id: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    arrived: int = 0
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    def record(self, received: Received) -> None:
        if (verifier := self.secrets.get(received.path)) is None:
            return
        verifier.verify(received.body, received.headers)
        known = self.seqs_by_id[received.path]
        self.arrived += received.id not in known
        assert known.setdefault(received.id, received.json["data"]["seq"]) == received.json["data"]["seq"]

    async def answer(self, _: web.Request) -> web.StreamResponse:
        await self.may_answer.wait()
        return web.Response()


async def admin(url: str, session: aiohttp.ClientSession, db: Database) -> dict[str, str]:
    body = {"username": "root", "password": PASSWORD}
    async with session.post(f"{url}{API}/auth/register", json=body) as made:
        assert made.status == 201
    await set_role(db, "root", "admin")
    async with session.post(f"{url}{API}/auth/login", json=body) as answer:
        return {"Authorization": f"Bearer {(await answer.json())['token']}"}


async def make_hooks(fleet: Fleet, db: Database, receiver: Verifying) -> list[int]:
    """Makes webhooks and returns the ids of the dead ones, which refuse connections, answer 500 or never answer."""
    url = fleet.members[0].service.url
    dead: list[int] = []
    async with aiohttp.ClientSession() as session:
        headers = await admin(url, session, db)
        for number in range(HOOKS):
            path = f"/{number}"
            target = receiver.url(path)
            if number % 2:
                if number % 8 == 1:
                    target = f"http://127.0.0.1:{reserve()}/"
                elif number % 8 == 3:
                    receiver.answers[path] = hanging
                else:
                    receiver.answers[path] = answering(500)
            body = {"url": target, "scope": "all"}
            async with session.post(f"{url}{API}/webhooks", headers=headers, json=body) as answer:
                assert answer.status == 201, await answer.text()
                made = await answer.json()
            if number % 2:
                dead.append(made["id"])
            else:
                receiver.secrets[path] = Webhook(made["secret"])
                receiver.answers[path] = receiver.answer
    return dead


async def delivering(fleet: Fleet, db: Database) -> Member:
    """The process that delivers to the living receivers now."""
    text = """
        SELECT leased_by FROM jobs WHERE kind = 'deliver webhooks' AND state = 'running'
        ORDER BY updated_at DESC LIMIT 1
    """
    found: list[Member] = []

    async def is_found() -> bool:
        async with db.read() as conn:
            worker = str(await conn.value(Statement(text, {})))
        found[:] = [each for each in fleet.members if worker.endswith(f":{each.service.process.pid}")]
        return bool(found)

    await until(is_found)
    return found[0]


async def test_living_receivers_get_every_change_once_by_id(environ: dict[str, str], db: Database, tmp_path: Path):
    """Each request is verified with the reference library. Each time, the process that delivers is killed."""
    async with receiving(Verifying(reserve())) as receiver, Fleet(tmp_path, 2, {**environ, **LOCAL}) as fleet:
        assert isinstance(receiver, Verifying)
        receiver.may_answer.set()
        dead = await make_hooks(fleet, db, receiver)
        expected = EVENTS * len(receiver.secrets)

        async def kill() -> None:
            for number in range(1, KILLS + 1):
                await until(lambda share=number: receiver.arrived >= expected * share // (KILLS + 1), seconds=SECONDS)
                receiver.may_answer.clear()
                member = await delivering(fleet, db)
                await member.kill()
                receiver.may_answer.set()
                await member.start()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(kill())
            for _ in range(0, EVENTS, BATCH):
                await append(db, BATCH)
        await until(lambda: receiver.arrived >= expected, seconds=SECONDS)
        for path in receiver.secrets:
            assert sorted(receiver.seqs_by_id[path].values()) == list(range(1, EVENTS + 1)), path
        async with db.read() as conn:
            text = "SELECT count(*) FROM webhook_deliveries WHERE webhook_id = ANY(%(dead)s) AND state = 'delivered'"
            assert await conn.value(Statement(text, {}), dead=dead) == 0
