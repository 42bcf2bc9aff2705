"""A task that uses the database ends when it is cancelled."""

import asyncio
import random

from registry.db.engine import Database, Statement
from tests.background import in_background

ONE = Statement("SELECT 1", {})


async def test_a_cancellation_is_never_lost(db: Database):
    async def ask_forever() -> None:
        while True:
            async with db.read() as conn:
                await conn.value(ONE)

    for _ in range(500):
        async with in_background(ask_forever()) as task:
            await asyncio.sleep(random.random() * 0.003)
            task.cancel()
            await asyncio.wait([task], timeout=5)
            assert task.cancelled()
