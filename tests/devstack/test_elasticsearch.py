"""A real embedded Elasticsearch. It is started twice, the second time right after its first starter was killed."""

import http.client
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from registry.devstack.distribution import elasticsearch_home
from registry.devstack.elasticsearch import Elasticsearch
from registry.devstack.java import find_java
from registry.errors import StackError
from tests.devstack.conftest import processes_of, wait_until_gone
from tests.servers import cache_folder

Starter = Callable[..., tuple["subprocess.Popen[str]", str]]

STARTER = """
import os, sys, time
from pathlib import Path
from registry.devstack.elasticsearch import Elasticsearch
server = Elasticsearch(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), brief=True, environ=os.environ)
server.start()
print(server.url, flush=True)
time.sleep(600)
"""


@pytest.fixture
def java_home() -> Path:
    explicit = [Path(os.environ[name]) if os.environ.get(name) else None for name in ("ES_JAVA_HOME", "JAVA_HOME")]
    return find_java(explicit, search_path=os.environ["PATH"])


def ask(url: str, method: str, path: str, body: object = None) -> dict[str, object]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer: dict[str, object] = json.loads(connection.getresponse().read())
        return answer
    finally:
        connection.close()


def test_data_survives_a_killed_starter_and_no_process_is_left(folder: Path, java_home: Path, starter: Starter) -> None:
    home, data = elasticsearch_home(cache_folder(os.environ)), folder / "data"
    process, url = starter(STARTER, home, java_home, data)
    assert ask(url, "PUT", "/kept/_doc/1", {"answer": 42})["result"] == "created"
    assert len(processes_of(data)) >= 3
    process.kill()
    process.wait()

    waits: list[float] = []
    server = Elasticsearch(home, java_home, data, environ=os.environ)
    server.start(waits.append)
    assert waits
    assert ask(server.url, "GET", "/kept/_doc/1")["_source"] == {"answer": 42}
    settings = ask(server.url, "GET", "/_cluster/settings?include_defaults=true&flat_settings=true")["defaults"]
    assert isinstance(settings, dict)
    assert settings["cluster.routing.allocation.disk.threshold_enabled"] == "false"
    assert settings["network.host"] in ("127.0.0.1", ["127.0.0.1"])
    server.stop()
    server.stop()
    assert wait_until_gone(data, 0) == []


@pytest.mark.parametrize("missing", ["lib/tools/server-launcher", "config"])
def test_a_home_without_elasticsearch_is_refused(folder: Path, missing: str) -> None:
    for part in {"lib/tools/server-launcher", "config"} - {missing}:
        (folder / "home" / part).mkdir(parents=True)
    server = Elasticsearch(folder / "home", folder, folder / "data", environ={})
    with pytest.raises(StackError, match=f"is not an Elasticsearch 9: it has no {missing}"):
        server.start()
    server.stop()
