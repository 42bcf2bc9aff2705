"""PgBouncer, from its Debian package, in front of the tests' PostgreSQL."""

import os
from collections.abc import Mapping
from pathlib import Path

import psycopg2

from registry.devstack.processes import ChildProcess, claim, hand_over, make_reachable, unprivileged_user
from tests.deploy import tools
from tests.servers import HOST, START_SECONDS, Server, cache_folder


class PgBouncer(Server):
    """A pooler with few server connections, in `mode` session or transaction; its other settings are the defaults."""

    name = "PgBouncer"

    def __init__(self, folder: Path, socket_dir: Path, mode: str, *, environ: Mapping[str, str]) -> None:
        program = tools.program("pgbouncer", cache_folder(os.environ))
        super().__init__(folder, 0, {**environ, **tools.environment(program)})
        self._program = program
        self._socket_dir = socket_dir
        self._mode = mode

    def url_of(self, database: str) -> str:
        return f"postgresql://postgres@{HOST}:{self.port}/{database}"

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    def start(self) -> str:
        """As `Server.start()`, but as another user: PgBouncer refuses to run as root."""
        user = unprivileged_user()
        if user is not None:
            make_reachable(self._program)
        with claim(self.folder, self.name) as lock:
            command = self._command()
            hand_over(self.folder, user)
            self._child = ChildProcess(
                self.name, command, lock=lock, log=self.folder / "output.log", environ=self._environ, user=user
            )
        self._child.wait_until(self._is_ready, seconds=START_SECONDS)
        return self.url

    def _command(self) -> list[str | Path]:
        users = self.folder / "users.txt"
        users.write_text('"postgres" ""\n', encoding="utf-8")
        settings = self.folder / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\n* = host={self._socket_dir}\n[pgbouncer]\nlisten_addr = {HOST}\nlisten_port = {self.port}\n"
            f"unix_socket_dir =\nauth_type = trust\nauth_file = {users}\npool_mode = {self._mode}\n"
            "default_pool_size = 40\nquery_wait_timeout = 20\n",
            encoding="utf-8",
        )
        return [self._program, settings]

    def _is_ready(self) -> bool:
        try:
            psycopg2.connect(self.url, connect_timeout=5).close()
        except psycopg2.OperationalError:
            return False
        return True
