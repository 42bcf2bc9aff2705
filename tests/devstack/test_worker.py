"""`up` runs the background work in a process of its own."""

from pathlib import Path

import aiohttp
import psutil
import pytest
from ephemeral_port_reserve import reserve

from registry.devstack.worker import Worker
from registry.errors import SettingsError
from registry.settings import Settings
from tests.devstack.conftest import processes_of
from tests.service import serving_process
from tests.until import until


def workers(folder: Path) -> list[psutil.Process]:
    return [each for each in processes_of(folder) if each.cmdline()[-3:] == ["-m", "registry", "worker"]]


async def test_a_worker_that_ends_is_started_again_and_none_outlives_up(database_url: str, tmp_path: Path):
    port = reserve()
    given = {"REGISTRY_DB_URL": database_url, "REGISTRY_METRICS_PORT": str(port)}
    async with serving_process(tmp_path, "registry", "up", **given, REGISTRY_ES_URL="http://127.0.0.1:9") as service:
        await until(lambda: len(workers(tmp_path)) == 2)  # the worker and its guard
        for process in workers(tmp_path):
            if "guard.py" not in " ".join(process.cmdline()):
                process.kill()
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


@pytest.mark.parametrize("api_port", ["9101", "8080"])
def test_the_port_of_its_metrics_must_be_free_to_use(tmp_path: Path, api_port: str):
    metrics = "9100" if api_port == "9101" else "65535"
    given = {"REGISTRY_PORT": api_port, "REGISTRY_METRICS_PORT": metrics}
    with pytest.raises(SettingsError, match="REGISTRY_METRICS_PORT"):
        Worker(tmp_path, tmp_path / "log", given, Settings.read(given).web)
