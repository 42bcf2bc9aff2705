"""Service processes of one registry that are killed, stopped and started again, and when that was."""

import asyncio
import math
import random
import time
from pathlib import Path

import psutil
from ephemeral_port_reserve import reserve

from tests.conftest import ITERATIONS, SECRET
from tests.service import Service, start_service

# What follows an outage for a while: connections made anew, an index that catches up.
AFTERMATH_SECONDS = 30.0


def without_search(database_url: str) -> dict[str, str]:
    """The settings of the processes of one registry that has no Elasticsearch."""
    return {
        "REGISTRY_DB_URL": database_url,
        "REGISTRY_SECRET_KEY": SECRET,
        "REGISTRY_PBKDF2_ITERATIONS": ITERATIONS,
        "REGISTRY_RATE_LIMITS": "off",
        "REGISTRY_SHUTDOWN_GRACE": "1s",
    }


class Outages:
    """When something was away, on the clock of `time.monotonic()`."""

    def __init__(self) -> None:
        self._last_end = -math.inf

    def began(self) -> None:
        self._last_end = math.inf

    def ended(self) -> None:
        self._last_end = time.monotonic()

    def since(self, moment: float) -> bool:
        return self._last_end >= moment


class Member:
    """One process of the fleet, always on the same port; `lives` are its (pid, start) so far."""

    def __init__(self, folder: Path, number: int, environ: dict[str, str]) -> None:
        self.name = f"service-{number}"
        self.away = Outages()
        self.lives: list[tuple[int, float]] = []
        self._folder = folder
        self._environ = {**environ, "REGISTRY_PORT": str(reserve())}
        self._service: Service | None = None

    async def start(self) -> None:
        self._service = await start_service(self._folder, log=f"{self.name}.log", **self._environ)
        self.lives.append((self._service.process.pid, time.monotonic()))
        self.away.ended()

    @property
    def service(self) -> Service:
        assert self._service is not None
        return self._service

    @property
    def is_up(self) -> bool:
        return self._service is not None and self._service.running and not self.away.since(math.inf)

    @property
    def memory(self) -> int:
        """Resident bytes of the running process."""
        return int(psutil.Process(self.service.process.pid).memory_info().rss)

    async def kill(self) -> None:
        self.away.began()
        await self.service.kill()

    async def stop(self) -> None:
        """As a supervisor does. Fails when it doesn't end with status 0."""
        self.away.began()
        status = await self.service.stop()
        assert status == 0, (self.name, status)


class Fleet:
    """The members, and what else may be away: `database` and `search`."""

    def __init__(self, folder: Path, count: int, environ: dict[str, str]) -> None:
        self.folder = folder
        self.environ = environ
        self.members = [Member(folder, number, environ) for number in range(count)]
        self.database = Outages()
        self.search = Outages()

    async def __aenter__(self) -> "Fleet":
        try:
            for member in self.members:
                await member.start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for member in self.members:
            if member.is_up:
                await member.kill()

    async def choose(self, chance: random.Random) -> Member:
        """One that is up, as a balancer would; waits until there is one."""
        while not (up := [member for member in self.members if member.is_up]):
            await asyncio.sleep(0.05)
        return chance.choice(up)

    def calm_since(self, moment: float) -> bool:
        """Whether nothing was away from `moment` on, nor a while before it."""
        outages = [self.database, self.search, *(member.away for member in self.members)]
        return not any(each.since(moment - AFTERMATH_SECONDS) for each in outages)
