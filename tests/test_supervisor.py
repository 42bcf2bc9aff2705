"""`serve --processes`: several processes on one port."""

import asyncio
import signal
import socket
from pathlib import Path

import aiohttp
import psutil
import pytest

from registry.devstack.elasticsearch import Elasticsearch
from registry.devstack.processes import free_port
from tests.client import PASSWORD, tarball
from tests.conftest import ITERATIONS, SECRET
from tests.servers import Redis
from tests.service import Service, run_command, serving_process

TWO = ("registry", "serve", "--processes", "2")


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


async def sign_in(service: Service, session: aiohttp.ClientSession) -> dict[str, str]:
    body = {"username": "ada", "password": PASSWORD}
    async with session.post(service.api("/auth/register"), json=body) as made:
        assert made.status == 201
    async with session.post(service.api("/auth/login"), json=body) as answer:
        return {"Authorization": f"Bearer {(await answer.json())['token']}", "Content-Type": "application/gzip"}


async def test_a_killed_child_is_replaced_and_one_that_is_left_serves_on(environ: dict[str, str], tmp_path: Path):
    port = free_port()
    environ["REGISTRY_METRICS_PORT"] = str(port)
    async with serving_process(tmp_path, *TWO, **environ) as service, aiohttp.ClientSession() as session:

        async def lives() -> list[str]:
            """What tells the two processes apart, from each one's own figures."""
            found = []
            async with asyncio.timeout(30):
                while len(found) < 2:
                    try:
                        async with session.get(f"http://127.0.0.1:{port + len(found)}/metrics") as answer:
                            lines = (await answer.text()).splitlines()
                        found += [line for line in lines if line.startswith("process_start_time_seconds ")]
                    except aiohttp.ClientError:
                        await asyncio.sleep(0.05)
            return found

        before, first = await lives(), children(service)
        assert len(first) == 2
        first[0].kill()
        for _ in range(20):
            async with aiohttp.ClientSession() as anew, anew.get(service.api("/health/live")) as answer:
                assert answer.status == 200
        await until_gone(first[:1])
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
    data = tarball(name="demo", version="1.0.0", description="A demo")
    sent, stopping = asyncio.Event(), asyncio.Event()

    async def slowly():
        yield data[:50]
        sent.set()
        await stopping.wait()
        yield data[50:]

    async with serving_process(tmp_path, *TWO, **environ) as service, aiohttp.ClientSession() as session:
        headers = await sign_in(service, session)
        put = asyncio.create_task(session.put(service.api("/packages/demo/1.0.0"), data=slowly(), headers=headers))
        await sent.wait()
        before = children(service)
        service.process.send_signal(signal.SIGTERM)
        stopping.set()
        assert (await put).status == 201
        assert await service.stop() == 0
        await until_gone(before)


async def test_a_killed_parent_leaves_no_process_and_no_port(environ: dict[str, str], tmp_path: Path):
    async with serving_process(tmp_path, *TWO, **environ) as service:
        before = children(service)
        assert len(before) == 2
        await service.kill()
        await until_gone(before)
    async with serving_process(tmp_path, **environ, REGISTRY_PORT=service.url.rpartition(":")[2]) as again:
        assert again.running


async def test_limits_and_revocations_hold_in_every_process(environ: dict[str, str], tmp_path: Path, redis: Redis):
    environ |= {"REGISTRY_REDIS_URL": redis.url, "REGISTRY_RATE_LIMITS": "search=5/hour"}
    async with serving_process(tmp_path, *TWO, **environ) as service, aiohttp.ClientSession() as session:

        async def statuses(path: str, **headers: str) -> list[int]:
            """Of twelve connections of their own."""

            async def one() -> int:
                async with aiohttp.ClientSession() as anew, anew.get(service.api(path), headers=headers) as answer:
                    return answer.status

            return sorted(await asyncio.gather(*(one() for _ in range(12))))

        headers = {"Authorization": (await sign_in(service, session))["Authorization"]}
        assert await statuses("/auth/me", **headers) == [200] * 12
        async with session.post(service.api("/auth/logout"), headers=headers) as answer:
            assert answer.status < 300
        assert await statuses("/auth/me", **headers) == [401] * 12
        assert await statuses("/search?q=a") == [200] * 5 + [429] * 7


async def test_without_redis_it_says_what_to_set(environ: dict[str, str], tmp_path: Path):
    environ["REGISTRY_RATE_LIMITS"] = ""
    status, _, err = await run_command(tmp_path, "serve", "--processes", "2", **environ)
    assert status == 1
    assert "REGISTRY_REDIS_URL" in err


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
    assert f"Port {port} is taken" in err
    assert "Traceback" not in err
