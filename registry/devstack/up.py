"""Starts the whole stack on one machine without containers: servers, schema and service."""

import concurrent.futures
import contextlib
import json
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from registry import preflight, server
from registry.changes.keys import encode, make_seed
from registry.db import migrate
from registry.devstack.distribution import elasticsearch_home
from registry.devstack.elasticsearch import Elasticsearch
from registry.devstack.java import find_java
from registry.devstack.postgres import Postgres
from registry.devstack.worker import Worker, metrics_port
from registry.errors import StackError
from registry.settings import ADDRESSES, Settings

READY = """
Synapse Package Registry is ready on {url}

In a browser: open {pages}, register, and read the guides at {pages}/docs.
In another terminal:

  curl -s {url}/api/v1/health
  curl -s {url}/api/v1/auth/register -H 'Content-Type: application/json' \\
       -d '{{"username": "ada", "password": "correct horse battery staple"}}'
  curl -s '{url}/api/v1/search?q=hello'

The README shows how to publish. Data: {data}  Log: {log}  Ctrl-C stops everything.
"""


def up(environ: Mapping[str, str]) -> None:
    """Starts the servers that `environ` has no address for, and serves. Stops everything at SIGINT or SIGTERM.

    Raises StackError, SettingsError.
    """
    began = time.monotonic()
    settings = Settings.read(environ)
    data = _data_dir(settings)
    _require_free_port(settings)
    worker_metrics = metrics_port(settings.web)
    signal.signal(signal.SIGTERM, _interrupt)
    with contextlib.ExitStack() as stack:
        addresses = _start_servers(settings, data, environ, stack)
        completed = _completed(environ, addresses, data)
        _write_addresses(data / ADDRESSES, completed, stack)
        settings = Settings.read(completed)
        preflight.check_files(settings)
        preflight.check_folders(settings)
        preflight.start_log(settings.web.log_level, data / "registry.log")
        with _step("Schema") as say:
            say(f"at revision {migrate.upgrade(settings.database)}")
        host = "127.0.0.1" if settings.web.host in ("0.0.0.0", "::") else settings.web.host  # noqa: S104
        url = f"http://{host}:{settings.web.port}"

        def ready() -> None:
            _say(READY.format(url=url, pages=settings.public_url or url, data=data, log=data / "registry.log"))
            _say(f"Ready after {time.monotonic() - began:.1f} s.")

        environ_of_worker = {**completed, "REGISTRY_METRICS_PORT": str(worker_metrics)}
        stack.enter_context(Worker(data / "worker", data / "registry.log", environ_of_worker))
        server.run(server.serve(settings, with_background=False, ready=ready), debug=settings.web.debug)
        _say("Stopping.")


def _start_servers(
    settings: Settings, data: Path, environ: Mapping[str, str], stack: contextlib.ExitStack
) -> dict[str, str]:
    """Starts the servers concurrently. Returns their addresses. `stack` stops them."""
    # The stack stops the servers first and closes this thread pool last. Closing the pool first would wait until each
    # server is ready, also when the start is interrupted.
    pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor())
    starts: dict[str, concurrent.futures.Future[str]] = {}
    if not settings.database.url:
        postgres = Postgres(data / "postgres", environ=environ)
        stack.callback(postgres.stop)
        starts["REGISTRY_DB_URL"] = pool.submit(_start, "PostgreSQL", postgres)
    if not settings.search.url:
        elasticsearch = _elasticsearch(settings, data, environ)
        stack.callback(elasticsearch.stop)
        starts["REGISTRY_ES_URL"] = pool.submit(_start, "Elasticsearch", elasticsearch)
    return {name: future.result() for name, future in starts.items()}


def _elasticsearch(settings: Settings, data: Path, environ: Mapping[str, str]) -> Elasticsearch:
    stack = settings.stack
    homes = [Path(home) if home else None for home in (stack.es_java_home, stack.java_home)]
    java = find_java(homes, search_path=environ.get("PATH", "/usr/bin:/bin"))
    home = Path(stack.es_home) if stack.es_home else elasticsearch_home(stack.cache_dir.resolve())
    return Elasticsearch(home, java, data / "elasticsearch", environ=environ)


def _start(name: str, server_: Any) -> str:
    with _step(name) as say:
        server_.start()
        address = server_.url if isinstance(server_.url, str) else server_.url()
        say(f"ready on {address}")
    return str(address)


def _completed(environ: Mapping[str, str], addresses: Mapping[str, str], data: Path) -> dict[str, str]:
    """`environ` with the addresses of the servers, and with folders below `data` unless it has others."""
    folders = {"REGISTRY_STORAGE_PATH": str(data / "packages"), "REGISTRY_SPOOL_PATH": str(data / "spool")}
    completed = {**folders, **environ, **addresses}
    if not completed.get("REGISTRY_SECRET_KEY") and not completed.get("REGISTRY_SECRET_KEY_FILE"):
        completed["REGISTRY_SECRET_KEY_FILE"] = str(_secret_file(data / "secret-key", secrets.token_urlsafe(48)))
    if not completed.get("REGISTRY_LOG_KEY") and not completed.get("REGISTRY_LOG_KEY_FILE"):
        completed["REGISTRY_LOG_KEY_FILE"] = str(_secret_file(data / "log-key", encode(make_seed())))
    return completed


def _write_addresses(file: Path, completed: Mapping[str, str], stack: contextlib.ExitStack) -> None:
    """Writes the addresses to `file` while the servers run, for commands that use the same data folder."""
    wanted = (
        "REGISTRY_DB_URL", "REGISTRY_ES_URL", "REGISTRY_ES_PREFIX", "REGISTRY_SEARCH_MODEL",
        "REGISTRY_SEARCH_MODEL_SHA256", "REGISTRY_STORAGE_PATH", "REGISTRY_SPOOL_PATH",
        "REGISTRY_PORT", "REGISTRY_SECRET_KEY_FILE", "REGISTRY_LOG_KEY_FILE",
    )  # fmt: skip
    file.touch(mode=0o600)
    file.write_text(json.dumps({name: completed[name] for name in wanted if name in completed}), encoding="utf-8")
    stack.callback(file.unlink, missing_ok=True)


def _secret_file(file: Path, secret: str) -> Path:
    """A file with `secret`, or with the secret of the first start, so that logins and signatures stay valid."""
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(secret, encoding="ascii")
    return file


def _data_dir(settings: Settings) -> Path:
    data = settings.stack.data_dir.resolve()
    try:
        data.mkdir(parents=True, exist_ok=True)
        (data / ".writable").touch()
    except OSError as error:
        raise StackError(
            f"The data folder {data} can't be written ({error.strerror}). Set REGISTRY_DATA_DIR to a writable folder."
        ) from error
    return data


def _require_free_port(settings: Settings) -> None:
    """Raises StackError if the port is taken, before the servers start, which takes minutes."""
    port = settings.web.port
    family = socket.AF_INET6 if ":" in settings.web.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.web.host, port))
        except OSError as error:
            raise StackError(
                f"Can't listen on {settings.web.host} port {port} ({error.strerror}). Stop what uses it, or set "
                "REGISTRY_PORT."
            ) from error


_output_lock = threading.Lock()


def _say(text: str) -> None:
    with _output_lock:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


@contextlib.contextmanager
def _step(name: str) -> Iterator[Callable[[str], None]]:
    """Prints that a step begins. Yields a function that prints its outcome and how long it took."""
    _say(f"{name}: starting")
    began = time.monotonic()
    yield lambda outcome: _say(f"{name}: {outcome} ({time.monotonic() - began:.1f} s)")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
