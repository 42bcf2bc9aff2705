"""The driver watches the socket that a connection uses now, and no other file."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from functools import partial
from urllib.parse import urlsplit

import psycopg2
import pytest
import uvloop

from registry.db.engine import Database, Statement, open_database
from registry.devstack.postgres import Postgres
from registry.errors import DatabaseUnavailable
from registry.settings import Settings
from tests.faults.toxic import Toxic, toxic, unix

PID = Statement("SELECT pg_backend_pid()", {})
BIG = Statement("SELECT length(%(text)s)", {})
NewLoop = Callable[[], asyncio.AbstractEventLoop]


class RaceForNumbers(psycopg2.extensions.connection):
    """As soon as libpq closes a socket, another file gets its number, as if another thread opened one."""

    taken: set[int] = set()  # noqa: RUF012 - the class is handed over, not an instance

    def poll(self) -> int:
        number = self.fileno()
        try:
            return super().poll()
        except psycopg2.Error:
            try:
                os.fstat(number)
            except OSError:
                opened = os.open(os.devnull, os.O_RDONLY)
                if opened != number:
                    os.dup2(opened, number)
                    os.close(opened)
                self.taken.add(number)
            raise


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop])
def loop(request: pytest.FixtureRequest) -> NewLoop:
    return request.param


def wire_to(postgres: Postgres) -> contextlib.AbstractAsyncContextManager[Toxic]:
    return toxic(unix(f"{postgres._socket_dir}/.s.PGSQL.5432"))


def settings(database_url: str, *ports: int, target: str = "any") -> Settings:
    hosts = f"host={','.join('127.0.0.1' for _ in ports)}&port={','.join(map(str, ports))}"
    path = urlsplit(database_url).path
    return Settings.read({"REGISTRY_DB_URL": f"postgresql://postgres@{path}?{hosts}&target_session_attrs={target}"})


async def pid(db: Database) -> int:
    async with db.read() as conn:
        return await conn.value(PID)


def test_a_connection_whose_socket_has_a_reused_file_number_is_watched(
    loop: NewLoop, postgres: Postgres, database_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(psycopg2, "connect", partial(psycopg2.connect, connection_factory=RaceForNumbers))

    async def scenario() -> None:
        async with (
            wire_to(postgres) as wire,
            open_database(settings(database_url, wire.port).database) as db,
            asyncio.timeout(10),
        ):
            for _ in range(3):
                assert await pid(db) > 0
                RaceForNumbers.taken.clear()
                wire.reset_all()
                while not RaceForNumbers.taken:  # the connection breaks while it is idle in the pool
                    await asyncio.sleep(0.01)
                for number in RaceForNumbers.taken:
                    os.close(number)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(scenario())


@pytest.mark.parametrize("target", ["any", "read-write", "prefer-standby"])
def test_the_next_host_is_used_when_one_refuses(target: str, loop: NewLoop, postgres: Postgres, database_url: str):
    """A client that prefers a standby connects to each primary before it accepts one."""

    async def scenario() -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            closed = nobody.getsockname()[1]
            async with wire_to(postgres) as wire, asyncio.timeout(5):
                hosts = settings(database_url, closed, wire.port, closed, wire.port, target=target)
                async with open_database(hosts.database) as db:
                    assert await pid(db) > 0

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(scenario())


def test_a_statement_larger_than_the_socket_buffer_arrives_or_fails(
    loop: NewLoop, postgres: Postgres, database_url: str
):
    async def length(db: Database, text: str) -> int:
        async with db.read() as conn:
            return await conn.value(BIG, text=text)

    async def scenario() -> None:
        text = "x" * (4 << 20)
        async with (
            wire_to(postgres) as wire,
            open_database(settings(database_url, wire.port).database) as db,
            asyncio.timeout(20),
        ):
            assert await length(db, text) == len(text)
            wire.cut_sent = 1 << 18
            with pytest.raises(DatabaseUnavailable):
                await length(db, text)
            wire.heal()
            assert await length(db, text) == len(text)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(scenario())
