"""The service as a process: starting, stopping, and what is finished before it ends."""

import asyncio
import json
import os
import signal
from pathlib import Path

import aiohttp
import pytest
from ephemeral_port_reserve import reserve

from registry.db.engine import Database, Statement
from registry.devstack.elasticsearch import Elasticsearch
from registry.server import serve
from registry.settings import Settings
from tests.background import in_background
from tests.client import PASSWORD, tarball
from tests.conftest import ITERATIONS, SECRET
from tests.service import Service, command_environment, paused_upload, refused, serving_process, sign_in

DOWNLOADS = Statement("SELECT coalesce(sum(download_count), 0) FROM package_versions", {})


@pytest.fixture
def environ(database_url: str, elasticsearch: Elasticsearch) -> dict[str, str]:
    """A service without background work: it leaves no index behind."""
    return {
        "REGISTRY_DB_URL": database_url,
        "REGISTRY_ES_URL": "http://127.0.0.1:9",
        "REGISTRY_SECRET_KEY": SECRET,
        "REGISTRY_PBKDF2_ITERATIONS": ITERATIONS,
        "REGISTRY_RATE_LIMITS": "off",
    }


async def test_an_upload_under_way_is_finished_after_the_signal(environ: dict[str, str], tmp_path: Path):
    async with (
        serving_process(tmp_path, **environ) as service,
        aiohttp.ClientSession() as session,
        paused_upload(service, session) as (uploading, go_on),
    ):
        service.process.send_signal(signal.SIGTERM)
        await refused(service)
        go_on.set()
        answer = await uploading
        assert answer.status == 201
        assert (await answer.json())["package"]["version"] == "1.0.0"
        async with asyncio.timeout(20):
            assert await service.process.wait() == 0


async def test_an_upload_that_never_ends_is_cut_after_the_grace(environ: dict[str, str], tmp_path: Path, db: Database):
    async with (
        serving_process(tmp_path, **environ, REGISTRY_SHUTDOWN_GRACE="1s") as service,
        aiohttp.ClientSession() as session,
        paused_upload(service, session) as (uploading, _),
    ):
        assert await service.stop() == 0
        with pytest.raises(aiohttp.ClientError):
            await uploading
    async with db.read() as conn:
        assert await conn.value(Statement("SELECT count(*) FROM package_versions", {})) == 0
    assert not list((tmp_path / "SPOOL_PATH").glob("process-*"))


async def test_every_download_that_was_answered_is_counted_before_the_end(
    environ: dict[str, str], tmp_path: Path, db: Database
):
    data = tarball(name="demo", version="1.0.0", description="A demo")
    answered = 0

    async def download(service: Service, session: aiohttp.ClientSession) -> None:
        nonlocal answered
        while True:
            try:
                async with session.get(service.api("/packages/demo/1.0.0/tarball")) as answer:
                    assert await answer.read() == data
                    answered += 1
            except aiohttp.ClientError:
                return

    async with serving_process(tmp_path, **environ) as service, aiohttp.ClientSession() as session:
        headers = {**await sign_in(service, session), "Content-Type": "application/gzip"}
        async with session.put(service.api("/packages/demo/1.0.0"), data=data, headers=headers) as put:
            assert put.status == 201
        downloading = [asyncio.create_task(download(service, session)) for _ in range(8)]
        async with asyncio.timeout(20):
            while answered < 50:
                await asyncio.sleep(0.01)
        assert await service.stop() == 0
        await asyncio.gather(*downloading)
    async with db.read() as conn:
        counted = int(await conn.value(DOWNLOADS))
    # A client may lose an answer whose download was counted, never the other way round.
    assert answered <= counted <= answered + len(downloading)


async def test_a_draining_service_refuses_connections_and_finishes_an_upload(environ: dict[str, str], tmp_path: Path):
    async with (
        serving_process(tmp_path, **environ) as service,
        aiohttp.ClientSession() as session,
        paused_upload(service, session) as (uploading, go_on),
    ):
        service.process.send_signal(signal.SIGURG)
        await refused(service)
        go_on.set()
        answer = await uploading
        assert (answer.status, answer.headers["Connection"]) == (201, "close")
        assert service.running
        assert await service.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_idle_service_ends_at_once_with_status_0(
    number: signal.Signals, environ: dict[str, str], tmp_path: Path
):
    async with serving_process(tmp_path, **environ) as service, aiohttp.ClientSession() as session:
        async with session.get(service.api("/health/live")) as answer:
            assert answer.status == 200
        service.process.send_signal(number)
        async with asyncio.timeout(20):
            assert await service.process.wait() == 0
        assert not [line for line in service.log_lines if line["level"] in ("ERROR", "CRITICAL")]


async def test_a_start_without_elasticsearch_is_announced_and_asks_for_it_less_and_less(
    environ: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    settings = Settings.read(command_environment(tmp_path, {**environ, "REGISTRY_PORT": str(reserve())}))
    ready = asyncio.Event()
    stop_reading, stop_writing = os.pipe()
    work = serve(settings, with_background=False, ready=ready.set, parent=stop_reading)
    async with in_background(work) as service, asyncio.timeout(60):
        await ready.wait()
        os.close(stop_writing)
        await service
    os.close(stop_reading)
    warnings = [record for record in caplog.records if record.getMessage() == "search engine unavailable"]
    assert 1 <= len(warnings) <= 10


async def test_it_logs_json_lines_with_the_request_id_and_never_a_secret(environ: dict[str, str], tmp_path: Path):
    # PostgreSQL here asks for no password and the port of Elasticsearch is closed: both take any.
    environ["REGISTRY_DB_URL"] = environ["REGISTRY_DB_URL"].replace("@", ":hush-database@", 1)
    environ |= {
        "REGISTRY_LOG_LEVEL": "debug",
        "REGISTRY_ES_USER": "elastic",
        "REGISTRY_ES_PASSWORD": "hush-elasticsearch",
        "REGISTRY_REDIS_URL": "redis://:hush-redis@127.0.0.1:9/0",
        "REGISTRY_RATE_LIMITS": "",
    }
    secrets = [SECRET, PASSWORD, "hush-", "Wrong-Horse-41", "Another-Horse-43"]
    async with serving_process(tmp_path, **environ) as service, aiohttp.ClientSession() as session:
        headers = await sign_in(service, session)
        secrets.append(headers["Authorization"].removeprefix("Bearer "))
        json_headers = {**headers, "Content-Type": "application/json", "X-Request-ID": "find-me"}

        async def post(path: str, body: object) -> dict[str, object]:
            async with session.post(service.api(path), data=json.dumps(body), headers=json_headers) as answer:
                return dict(await answer.json())

        made = await post("/auth/tokens", {"name": "ci", "scopes": ["read"]})
        secrets.append(str(made["token"]))
        await post("/auth/login", {"username": "ada", "password": "Wrong-Horse-41"})
        await post("/auth/verify", {"token": made["token"]})
        await post("/auth/login", {"username": 5, "password": ["Wrong-Horse-41"]})
        changed = await post("/auth/password", {"current_password": PASSWORD, "new_password": "Another-Horse-43"})
        secrets.append(str(changed["token"]))
        for value in ("Bearer hush-\x07", "Bearer hush-.a.b", f"Bearer {made['token']}x", "hush-token"):
            host, _, port = service.url.removeprefix("http://").partition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            lines = ("GET /api/v1/auth/me HTTP/1.1", "Host: x", "Connection: close", f"Authorization: {value}", "", "")
            writer.write("\r\n".join(lines).encode())
            assert b" 40" in await reader.read()
            writer.close()
        async with session.get(service.api("/search?q=demo")) as answer:
            assert (await answer.json())["degraded"] is True
        assert await service.stop() == 0
        lines = service.log_lines
    text = json.dumps(lines)
    for secret in secrets:
        assert secret not in text
    requests = [line for line in lines if line["message"] == "request"]
    assert {line["request_id"] for line in requests} >= {"find-me"}
    for line in requests:
        assert {"time", "level", "logger", "method", "path", "route", "status", "ms", "client"} <= set(line)
        assert isinstance(line["status"], int)
    assert {line["message"] for line in lines} >= {
        "malformed request",
        "Redis is unavailable; limits are counted in memory",
    }
