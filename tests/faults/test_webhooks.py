"""Every living receiver gets every change while workers are killed and half of the receivers are dead."""

import asyncio
import random
from pathlib import Path
from typing import Any

import aiohttp
from ephemeral_port_reserve import reserve
from standardwebhooks.webhooks import Webhook

from registry.accounts.administer import set_role
from registry.db.engine import Database, Statement
from tests.changes.events import append
from tests.client import API, PASSWORD
from tests.faults import ALL
from tests.faults.fleet import Fleet
from tests.until import until
from tests.webhooks.receiver import LOCAL, Receiver, answering, hanging, receiving

EVENTS, HOOKS, KILLS = (10_000, 100, 3) if ALL else (60, 8, 1)
BATCH = 20
SECONDS = 7200.0 if ALL else 120.0


async def admin(url: str, session: aiohttp.ClientSession, db: Database) -> dict[str, str]:
    body = {"username": "root", "password": PASSWORD}
    async with session.post(f"{url}{API}/auth/register", json=body) as made:
        assert made.status == 201
    await set_role(db, "root", "admin")
    async with session.post(f"{url}{API}/auth/login", json=body) as answer:
        return {"Authorization": f"Bearer {(await answer.json())['token']}"}


async def make_hooks(fleet: Fleet, db: Database, receiver: Receiver) -> tuple[dict[str, str], list[int]]:
    """(secrets of living webhooks by path, ids of dead ones). The dead refuse connections, fail or never answer."""
    url = fleet.members[0].service.url
    living: dict[str, str] = {}
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
            async with session.post(
                f"{url}{API}/webhooks", headers=headers, json={"url": target, "scope": "all"}
            ) as answer:
                assert answer.status == 201, await answer.text()
                made = await answer.json()
            if number % 2:
                dead.append(made["id"])
            else:
                living[path] = made["secret"]
    return living, dead


async def test_living_receivers_get_every_change_once_by_id(environ: dict[str, str], db: Database, tmp_path: Path):
    chance = random.Random(11)
    async with receiving() as receiver, Fleet(tmp_path, 2, {**environ, **LOCAL}) as fleet:
        living, dead = await make_hooks(fleet, db, receiver)

        def arrived() -> int:
            return sum(len(receiver.ids(path)) for path in living)

        async def kill() -> None:
            for number in range(1, KILLS + 1):
                await until(
                    lambda share=number: arrived() >= EVENTS * len(living) * share // (KILLS + 1), seconds=SECONDS
                )
                member = chance.choice(fleet.members)
                await member.kill()
                await member.start()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(kill())
            for _ in range(0, EVENTS, BATCH):
                await append(db, BATCH)
        await until(lambda: arrived() >= EVENTS * len(living), seconds=SECONDS)
        for path, secret in living.items():
            seqs = {each.id: each.json["data"]["seq"] for each in receiver.of(path)}
            assert sorted(seqs.values()) == list(range(1, EVENTS + 1)), path
            verified: Any = receiver.of(path)[-1]
            Webhook(secret).verify(verified.body, verified.headers)
        async with db.read() as conn:
            text = "SELECT count(*) FROM webhook_deliveries WHERE webhook_id = ANY(%(dead)s) AND state = 'delivered'"
            assert await conn.value(Statement(text, {}), dead=dead) == 0
