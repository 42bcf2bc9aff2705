"""A process that runs jobs until it is killed: `python -m tests.jobs.worker DATABASE_URL`.

Each job sleeps, inserts a row into `done`, and sleeps again. So does the periodic job `tick`.
"""

import asyncio
import os
import sys
from datetime import timedelta

from registry.db.engine import Database, Statement, open_database
from registry.events.announcements import Announcements
from registry.jobs.queue import CHANNEL, Job, Kind
from registry.jobs.runner import Runner
from registry.settings import Settings
from registry.tasks import running

KIND, PERIODIC = "slow", "tick"
TABLE = "CREATE TABLE done (kind text NOT NULL, number integer, pid integer NOT NULL)"
_DONE = Statement("INSERT INTO done VALUES (%(kind)s, %(number)s, %(pid)s)", {})


def kinds(db: Database) -> list[Kind]:
    async def work(job: Job) -> None:
        await asyncio.sleep(0.05)
        async with db.transaction() as conn:
            await conn.run(_DONE, kind=job.kind, number=job.payload.get("number"), pid=os.getpid())
        await asyncio.sleep(0.05)

    return [Kind(KIND, work, concurrency=4), Kind(PERIODIC, work, every=timedelta(hours=1))]


async def main(url: str) -> None:
    async with open_database(Settings.read({"REGISTRY_DB_URL": url}).database) as db:
        hub = Announcements(db, [CHANNEL])
        runner = Runner(db, hub, kinds(db), lease=timedelta(seconds=1))
        async with running({"announcements": hub.listen, "jobs": runner.run}):
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
