"""`serve --processes`: several processes on one port."""

import asyncio
import contextlib
import re
import signal
import socket
import zlib
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from registry.db.engine import Database, Statement
from registry.db.lock_numbers import CONSUMER_CLASS
from registry.devstack.elasticsearch import Elasticsearch
from registry.errors import SettingsError, StackError
from registry.settings import Settings
from registry.supervisor import reserve_port, supervise
from tests.client import PASSWORD, tarball
from tests.conftest import ITERATIONS, SECRET
from tests.servers import Redis
from tests.service import Service, paused_upload, refused, reserve_two, run_command, serving_process, sign_in
from tests.until import until

TWO = ("registry", "serve", "--processes", "2")
LEADER = Statement(
    "SELECT split_part(application_name, ' ', 2)::int FROM pg_locks JOIN pg_stat_activity USING (pid)"
    " WHERE locktype = 'advisory' AND classid = %(class_)s AND objid = %(key)s AND granted"
    " AND datname = current_database()",
    {},
)


@pytest.fixture
def environ(database_url: str, elasticsearch: Elasticsearch) -> dict[str, str]:
    return {
        "REGISTRY_DB_URL": database_url,
        "REGISTRY_ES_URL": "http://127.0.0.1:9",
        "REGISTRY_SECRET_KEY": SECRET,
        "REGISTRY_PBKDF2_ITERATIONS": ITERATIONS,
        "REGISTRY_RATE_LIMITS": "off",
    }


def children(service: Service) -> list[psutil.Process]:
    return psutil.Process(service.process.pid).children()


async def until_gone(processes: list[psutil.Process]) -> None:
    async with asyncio.timeout(20):
        while any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes):
            await asyncio.sleep(0.05)


async def test_a_killed_child_is_replaced_and_one_that_is_left_serves_on(environ: dict[str, str], tmp_path: Path):
    port = reserve_two()
    environ["REGISTRY_METRICS_PORT"] = str(port)
    async with serving_process(tmp_path, *TWO, **environ) as service, aiohttp.ClientSession() as session:

        async def lives() -> list[str]:
            """What tells the two processes apart, from each one's own figures."""
            found = []
            async with asyncio.timeout(30):
                while len(found) < 2:
                    try:
                        async with session.get(f"http://127.0.0.1:{port + len(found)}/metrics") as answer:
                            assert answer.status == 200, await answer.text()
                            lines = (await answer.text()).splitlines()
                        found += [line for line in lines if line.startswith("process_start_time_seconds ")]
                    except aiohttp.ClientError:
                        assert service.running, service.log_text
                        await asyncio.sleep(0.05)
            return found

        before, first = await lives(), children(service)
        assert len(first) == 2
        first[0].kill()
        await until_gone(first[:1])
        for _ in range(20):
            async with aiohttp.ClientSession() as anew, anew.get(service.api("/health/live")) as answer:
                assert answer.status == 200
        async with asyncio.timeout(20):
            while len(children(service)) < 2 or first[0] in children(service):
                await asyncio.sleep(0.05)
        assert first[1] in children(service)
        after = await lives()
        assert (after[0] != before[0], after[1] == before[1]) == (True, True)
        second = children(service)
        assert await service.stop() == 0
        await until_gone(second)


async def test_an_upload_is_finished_after_the_signal_and_nothing_is_left(environ: dict[str, str], tmp_path: Path):
    async with (
        serving_process(tmp_path, *TWO, **environ) as service,
        aiohttp.ClientSession() as session,
        paused_upload(service, session) as (uploading, go_on),
    ):
        before = children(service)
        service.process.send_signal(signal.SIGTERM)
        await refused(service)
        assert not uploading.done()
        go_on.set()
        assert (await uploading).status == 201
        assert await service.stop() == 0
        await until_gone(before)


async def test_a_killed_parent_leaves_no_process_and_no_port(environ: dict[str, str], tmp_path: Path):
    async with serving_process(tmp_path, *TWO, **environ) as service:
        before = children(service)
        assert len(before) == 2
        await service.kill()
        await until_gone(before)
        await refused(service)


async def test_what_ends_in_one_process_ends_in_each(environ: dict[str, str], tmp_path: Path, redis: Redis):
    port = reserve_two()
    environ |= {"REGISTRY_REDIS_URL": redis.url, "REGISTRY_RATE_LIMITS": "search=5/hour"}
    environ["REGISTRY_METRICS_PORT"] = str(port)
    async with serving_process(tmp_path, *TWO, **environ) as service, aiohttp.ClientSession() as session:

        async def counted(status: int) -> list[float]:
            """How many questions of who one is each process answered with `status`."""
            pattern = rf'^registry_http_requests_total\{{.*/auth/me".*status="{status}".*\}} (.+)$'
            texts = []
            for index in range(2):
                async with session.get(f"http://127.0.0.1:{port + index}/metrics") as answer:
                    texts.append(await answer.text())
            return [sum(map(float, re.findall(pattern, text, re.MULTILINE))) for text in texts]

        async def of_new_connections(path: str, **headers: str) -> list[int]:
            async def one() -> int:
                async with aiohttp.ClientSession() as anew, anew.get(service.api(path), headers=headers) as answer:
                    return answer.status

            return sorted(await asyncio.gather(*(one() for _ in range(24))))

        async def each_answers(status: int, headers: dict[str, str]) -> None:
            before = await counted(status)
            assert await of_new_connections("/auth/me", **headers) == [status] * 24
            after = await counted(status)
            assert sum(after) - sum(before) == 24
            assert all(new > old for new, old in zip(after, before, strict=True))

        async def send(method: str, path: str, headers: dict[str, str], body: Any = None) -> Any:
            async with session.request(method, service.api(path), headers=headers, json=body) as answer:
                assert answer.status < 300, await answer.text()
                return None if answer.status == 204 else await answer.json()

        async def sign_in_again() -> dict[str, str]:
            made = await send("POST", "/auth/login", {}, {"username": "ada", "password": PASSWORD})
            return {"Authorization": f"Bearer {made['token']}"}

        first, second = await sign_in(service, session), await sign_in_again()
        await each_answers(200, first)
        await send("POST", "/auth/logout", first)
        await each_answers(401, first)

        made = await send("POST", "/auth/tokens", second, {"name": "ci", "scopes": ["read"]})
        token = {"Authorization": f"Bearer {made['token']}"}
        await each_answers(200, token)
        await send("DELETE", f"/auth/tokens/{made['id']}", second)
        await each_answers(401, token)

        third = await sign_in_again()
        await each_answers(200, third)
        await send("POST", "/auth/password", second, {"current_password": PASSWORD, "new_password": PASSWORD + "2"})
        await each_answers(401, third)

        assert await of_new_connections("/search?q=a") == [200] * 5 + [429] * 19


async def leader(db: Database, but: int = 0) -> int:
    """The process that leads the search consumer, once one other than `but` does."""
    key = (zlib.crc32(b"search") - (1 << 31)) % (1 << 32)
    async with asyncio.timeout(30):
        while True:
            async with db.read() as conn:
                pid = await conn.value(LEADER, class_=CONSUMER_CLASS, key=key)
            if pid not in (None, but):
                return int(pid)
            await asyncio.sleep(0.02)


async def test_publishes_are_indexed_though_the_leader_is_killed(
    environ: dict[str, str], elasticsearch: Elasticsearch, index_prefix: str, tmp_path: Path, db: Database
):
    environ |= {"REGISTRY_ES_URL": elasticsearch.url, "REGISTRY_ES_PREFIX": index_prefix}
    answered: dict[str, int] = {}
    enough = asyncio.Event()

    async def publish(session: aiohttp.ClientSession, service: Service, package: str) -> None:
        data = tarball(name=package, version="1.0.0", description="A demo")
        async with session.put(service.api(f"/packages/{package}/1.0.0"), data=data, headers=headers) as put:
            # 409 when the client asked again by itself after the killed one had published it.
            assert put.status in (201, 409), await put.text()
            if put.status == 201:
                answered[package] = (await put.json())["seq"]

    async def publish_on(service: Service, name: str) -> None:
        number = 0
        async with aiohttp.ClientSession() as session:
            while not enough.is_set():
                number += 1  # after an error as well: whether that one was published is not known
                with contextlib.suppress(aiohttp.ClientConnectionError):
                    await publish(session, service, f"{name}-{number}")
                await asyncio.sleep(0.05)

    async def found(session: aiohttp.ClientSession, service: Service, package: str) -> bool:
        query = {"q": package, "min_seq": str(answered[package])}
        async with session.get(service.api("/search"), params=query) as answer:
            page = await answer.json()
        return page["degraded"] is False and package in {result["name"] for result in page["results"]}

    async with serving_process(tmp_path, *TWO, **environ) as service, aiohttp.ClientSession() as session:
        headers = await sign_in(service, session) | {"Content-Type": "application/gzip"}
        leads = await leader(db)
        both = {child.pid: child for child in children(service)}
        await publish(session, service, "first")
        async with asyncio.timeout(60):  # the index of a new prefix is made first
            while not await found(session, service, "first"):
                await asyncio.sleep(0.1)
        async with asyncio.TaskGroup() as tasks:
            for name in ("one", "two", "three", "four"):
                tasks.create_task(publish_on(service, name))
            await until(lambda: len(answered) >= 8)
            both[leads].kill()
            before = len(answered)
            assert await leader(db, but=leads) != leads
            await until(lambda: len(answered) >= before + 8)
            enough.set()
        for package in answered:
            assert await found(session, service, package), package
        assert await service.stop() == 0


async def test_it_ends_when_its_processes_end_again_and_again(environ: dict[str, str], tmp_path: Path):
    async with serving_process(tmp_path, *TWO, **environ) as service:
        async with asyncio.timeout(30):
            while service.running:
                with contextlib.suppress(psutil.NoSuchProcess):
                    for child in children(service):
                        child.kill()
                await asyncio.sleep(0.02)
        assert service.process.returncode == 1
        assert "The processes end soon after their start" in service.log_text
        assert "Traceback" not in service.log_text


def test_without_redis_it_says_what_to_set(environ: dict[str, str]):
    settings = Settings.read(environ | {"REGISTRY_RATE_LIMITS": ""})
    with pytest.raises(SettingsError, match="REGISTRY_REDIS_URL"):
        supervise(settings, 2, with_background=True)


def test_too_few_ports_for_figures_are_a_sentence(environ: dict[str, str]):
    settings = Settings.read(environ | {"REGISTRY_METRICS_PORT": "65535"})
    with pytest.raises(SettingsError, match="REGISTRY_METRICS_PORT"):
        supervise(settings, 2, with_background=True)


def test_a_port_that_is_kept_is_taken_for_others_before_anybody_listens():
    with reserve_port("127.0.0.1", 0) as kept:
        port = kept.getsockname()[1]
        with pytest.raises(StackError, match=f"Port {port} is taken"):
            reserve_port("127.0.0.1", port)


@pytest.mark.parametrize("variable", ["REGISTRY_PORT", "REGISTRY_METRICS_PORT"])
async def test_a_taken_port_is_a_sentence(variable: str, environ: dict[str, str], tmp_path: Path):
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        given = {**environ, "REGISTRY_PORT": "0", variable: str(port)}
        status, _, err = await run_command(tmp_path, "serve", "--processes", "2", **given)
    assert status == 1
    assert f"Port {port} is taken. Stop the program that uses it, or set {variable}." in err
    assert "Traceback" not in err
