"""A process that holds a lock until it is killed: `python -m tests.events.holder DATABASE_URL`."""

import asyncio
import sys

from registry.db.engine import open_database
from registry.events import locks
from registry.settings import Settings

CLASS, KEY = 4299, 1


async def hold(url: str) -> None:
    async with open_database(Settings.read({"REGISTRY_DB_URL": url}).database) as db, locks.held(db, CLASS, KEY):
        sys.stdout.write("held\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(hold(sys.argv[1]))
