"""`python -m tests.pages.serve [--port N]` starts a registry that is filled for pages, and keeps it running.

It starts its own PostgreSQL and Elasticsearch in a temporary folder. After each change of a file below registry/ the
service starts again, on the same data. Ctrl-C ends everything. Settings of the environment reach the service.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from registry.db import migrate
from registry.devstack.distribution import elasticsearch_home
from registry.devstack.elasticsearch import Elasticsearch
from registry.devstack.java import find_java
from registry.devstack.postgres import Postgres
from registry.settings import Settings
from tests.client import PASSWORD
from tests.conftest import LOG_KEY, SECRET
from tests.mail.server import mail_server
from tests.pages.seed import SETTINGS, USERS, fill
from tests.servers import cache_folder
from tests.service import serving_process

WATCHED = Path(__file__).parents[2] / "registry"
LOOK_SECONDS = 1.0


@asynccontextmanager
async def filled(port: int, environ: Mapping[str, str]) -> AsyncIterator[tuple[Path, dict[str, str]]]:
    """The servers of a registry that is filled for pages: (temporary folder, settings of the service)."""
    async with mail_server() as mailbox, AsyncExitStack() as stack:
        temporary = tempfile.TemporaryDirectory(prefix="synapse-pages-", ignore_cleanup_errors=True)
        folder = Path(stack.enter_context(temporary))
        folder.chmod(0o755)
        addresses = await asyncio.to_thread(_start_servers, stack, folder, environ)
        given = {name: value for name, value in environ.items() if name.startswith("REGISTRY_")}
        folders = {f"REGISTRY_{name}_PATH": str(folder / name.lower()) for name in ("STORAGE", "SPOOL")}
        settings = {**SETTINGS, **addresses, **folders, "REGISTRY_SECRET_KEY": SECRET, "REGISTRY_LOG_KEY": LOG_KEY}
        settings |= {"REGISTRY_SMTP_URL": mailbox.url, **given, "REGISTRY_PORT": str(port)}
        await fill(settings)
        yield folder, settings


async def main(port: int, environ: Mapping[str, str]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    print("Starting the servers and filling the registry ...", flush=True)
    async with filled(port, environ) as (folder, settings):
        print(f"Users: {', '.join(USERS)}; password: {PASSWORD}; log: {folder / 'service.log'}", flush=True)
        while not stop.is_set():
            await _serve_until_change(folder, settings, stop)


def _start_servers(stack: AsyncExitStack, folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Starts PostgreSQL, and Elasticsearch unless REGISTRY_TEST_ES_URL has one. Returns the settings that name them."""
    postgres = stack.enter_context(Postgres(folder / "postgres", durable=False, environ=environ))
    migrate.upgrade(Settings.read({"REGISTRY_DB_URL": postgres.url()}).database)
    url = environ.get("REGISTRY_TEST_ES_URL")
    if not url:
        java = find_java([], search_path=environ["PATH"])
        home = elasticsearch_home(cache_folder(environ))
        node = Elasticsearch(home, java, folder / "elasticsearch", brief=True, environ=environ)
        url = stack.enter_context(node).url
    return {"REGISTRY_DB_URL": postgres.url(), "REGISTRY_ES_URL": url, "REGISTRY_ES_PREFIX": f"pages{os.getpid()}-"}


async def _serve_until_change(folder: Path, settings: dict[str, str], stop: asyncio.Event) -> None:
    """Returns after a change of a watched file, or once `stop` is set."""
    seen = _newest()
    async with AsyncExitStack() as stack:
        try:
            service = await stack.enter_async_context(serving_process(folder, **settings))
            stack.push_async_callback(service.stop)
            print(f"Ready at {service.url}", flush=True)
        except AssertionError as failure:
            print(f"{str(failure)[-2000:]}\nIt starts again after the next change.", flush=True)
        while _newest() == seen and not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_SECONDS)


def _newest() -> float:
    files = (path for path in WATCHED.rglob("*") if path.suffix in (".py", ".html", ".css", ".js"))
    return max(path.stat().st_mtime for path in files)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.pages.serve")
    parser.add_argument("--port", type=int, default=8090, help="where the registry listens; 8090 unless given")
    sys.exit(asyncio.run(main(parser.parse_args().port, os.environ)))
