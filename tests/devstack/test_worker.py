"""`up` runs the background work in a process of its own."""

import contextlib
import os
from pathlib import Path

import aiohttp
import psutil
import pytest

from registry.devstack import worker as worker_module
from registry.devstack.processes import ChildProcess
from registry.devstack.worker import Worker, metrics_port
from registry.errors import SettingsError, StackError
from registry.settings import Settings
from tests.devstack.conftest import processes_of
from tests.service import reserve_two, serving_process
from tests.until import until


def workers(folder: Path) -> list[psutil.Process]:
    """The worker and its guard."""
    found = []
    for process in processes_of(folder):
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            if process.cmdline()[-3:] == ["-m", "registry", "worker"]:
                found.append(process)
    return found


async def test_a_worker_that_ends_is_started_again_and_none_outlives_up(database_url: str, tmp_path: Path):
    port = reserve_two()
    given = {"REGISTRY_DB_URL": database_url, "REGISTRY_METRICS_PORT": str(port)}
    async with serving_process(tmp_path, "registry", "up", **given, REGISTRY_ES_URL="http://127.0.0.1:9") as service:
        await until(lambda: len(workers(tmp_path)) == 2)
        guard, worker = sorted(workers(tmp_path), key=lambda each: each.ppid() != service.process.pid)
        assert worker.ppid() == guard.pid
        worker.kill()
        await until(lambda: "worker ended and is started again" in (tmp_path / "DATA_DIR" / "registry.log").read_text())
        async with aiohttp.ClientSession() as session:
            for each in (port, port + 1):
                await until(lambda each=each: answers(session, each))
        await service.kill()
        await until(lambda: not workers(tmp_path))


async def answers(session: aiohttp.ClientSession, port: int) -> bool:
    try:
        async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
            return answer.status == 200
    except aiohttp.ClientConnectionError:
        return False


@pytest.mark.parametrize(("api", "metrics"), [("9101", "9100"), ("8080", "65535")])
def test_the_port_after_that_of_the_metrics_must_be_usable(api: str, metrics: str):
    web = Settings.read({"REGISTRY_PORT": api, "REGISTRY_METRICS_PORT": metrics}).web
    with pytest.raises(SettingsError, match="REGISTRY_METRICS_PORT"):
        metrics_port(web)


async def test_a_worker_that_cannot_be_started_is_tried_again(folder: Path, monkeypatch: pytest.MonkeyPatch):
    failures = iter([OSError("no more processes"), StackError("The folder is locked.")])
    begun = Worker._start

    def fail_twice(self: Worker) -> ChildProcess:
        for failure in failures:
            raise failure
        return begun(self)

    given = {"PATH": os.environ["PATH"], "FOLDER": str(folder)}  # without a database it ends at once
    with Worker(folder / "worker", folder / "log", given) as worker:
        first = worker._process
        monkeypatch.setattr(worker_module, "CHECK_SECONDS", 0.1)
        monkeypatch.setattr(Worker, "_start", fail_twice)
        await until(lambda: worker._process is not first)
        assert next(failures, None) is None
