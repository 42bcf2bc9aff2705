"""One Elasticsearch node on the loopback address, as a child of this process."""

import http.client
import json
import platform
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from registry.devstack.processes import ChildProcess, OsUser, claim, hand_over, make_reachable, unprivileged_user
from registry.errors import StackError

START_SECONDS = 180.0
_HOST = "127.0.0.1"
_LAUNCHER = "org.elasticsearch.server.launcher.ServerLauncher"
_NAME = "Elasticsearch"
# Half of a start's work is the JVM compiling code with its second compiler that then hardly runs: measured, 38 s of
# processor time for a start, 30 s when that compiler waits for really hot code, 18 s without it.
_FIRST_COMPILER_ALONE = ("-XX:TieredStopAtLevel=1",)
_SECOND_COMPILER_LATER = (
    "-XX:Tier4InvocationThreshold=30000",
    "-XX:Tier4MinInvocationThreshold=5000",
    "-XX:Tier4CompileThreshold=60000",
    "-XX:Tier4BackEdgeThreshold=200000",
)


class Elasticsearch:
    """A single node with security off, all of whose files are below `data_dir`; `with` starts and stops it.

    `home` is an unpacked Elasticsearch, never written to; `java_home` a JDK for it. `port` 0 takes a free one at
    the first start and keeps it. `heap` is in Java's notation. `brief` starts in half the time and is slower
    later: for tests. `environ` supplies PATH.
    """

    def __init__(
        self,
        home: Path,
        java_home: Path,
        data_dir: Path,
        *,
        port: int = 0,
        heap: str = "512m",
        brief: bool = False,
        environ: Mapping[str, str],
    ) -> None:
        self._home = home.resolve()
        self._java_home = java_home.resolve()
        self._data_dir = data_dir.resolve()
        self._port = port
        self._heap = heap
        self._compilers = _FIRST_COMPILER_ALONE if brief else _SECOND_COMPILER_LATER
        self._path = environ.get("PATH", "/usr/bin:/bin")
        self._child: ChildProcess | None = None

    @property
    def url(self) -> str:
        """Its address, known once it has started."""
        return f"http://{_HOST}:{self._port}"

    def start(self, on_wait: Callable[[float], None] | None = None) -> None:
        """Returns when the node answers with at least yellow health; `on_wait` hears the seconds waited.

        Raises StackError: no Elasticsearch in `home`, a folder that can't be used, no health after START_SECONDS.
        """
        for needed in ("lib/tools/server-launcher", "config"):
            if not (self._home / needed).is_dir():
                raise StackError(f"{self._home} is no Elasticsearch 9: it has no {needed}. Correct or unset ES_HOME.")
        user = unprivileged_user()
        with claim(self._data_dir, _NAME) as lock:
            self._prepare(user)
            self._child = ChildProcess(
                _NAME,
                self._command(),
                lock=lock,
                log=self._data_dir / "output.log",
                environ=self._environment(),
                cwd=self._home,  # it looks for its modules there, whatever ES_HOME says
                user=user,
            )
        self._child.wait_until(self._is_ready, seconds=START_SECONDS, on_wait=on_wait)

    def stop(self) -> None:
        """Ends the node and waits until it is gone. May be called again, or before `start`."""
        if self._child is not None:
            self._child.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _prepare(self, user: OsUser | None) -> None:
        config = self._data_dir / "config"
        for leftover in (config, self._data_dir / "tmp"):
            shutil.rmtree(leftover, ignore_errors=True)
        shutil.copytree(self._home / "config", config)
        for folder in ("data", "logs", "tmp"):
            (self._data_dir / folder).mkdir(exist_ok=True)
        self._ports_file.unlink(missing_ok=True)
        # JSON is YAML, and quotes any path rightly.
        (config / "elasticsearch.yml").write_text(json.dumps(self._settings(), indent=2), encoding="utf-8")
        if user is not None:
            make_reachable(self._home / "lib")
            make_reachable(self._java_home / "bin")
        hand_over(self._data_dir, user)

    def _settings(self) -> dict[str, object]:
        return {
            "cluster.name": "synapse",
            "node.name": "synapse",
            "discovery.type": "single-node",
            "network.host": _HOST,
            "http.port": self._port,
            "transport.port": 0,
            "node.portsfile": True,
            "path.data": str(self._data_dir / "data"),
            "path.logs": str(self._data_dir / "logs"),
            "xpack.security.enabled": False,
            # A laptop's disk is often 95 % full, where the watermarks would make every index read-only.
            "cluster.routing.allocation.disk.threshold_enabled": False,
        }

    def _command(self) -> list[str | Path]:
        classes = self._home / "lib" / "tools" / "server-launcher" / "*"
        return [self._java, "-Xms4m", "-Xmx64m", "-XX:+UseSerialGC", "-cp", classes, _LAUNCHER]

    def _environment(self) -> dict[str, str]:
        return {
            "ES_HOME": str(self._home),
            "ES_PATH_CONF": str(self._data_dir / "config"),
            "ES_JAVA_HOME": str(self._java_home),
            "JAVA": str(self._java),
            "JAVA_HOME": str(self._java_home),
            "JAVA_TYPE": "ES_JAVA_HOME",
            "ES_DISTRIBUTION_TYPE": "tar",
            "ES_TMPDIR": str(self._data_dir / "tmp"),
            # The shipped options write up to 2 GB of garbage collection logs.
            "ES_JAVA_OPTS": " ".join(
                [
                    f"-Xms{self._heap}",
                    f"-Xmx{self._heap}",
                    "-Xlog:disable",
                    "-Xlog:all=warning:stderr",
                    *self._compilers,
                ]
            ),
            "HOSTNAME": platform.node(),
            "PATH": self._path,
            "HOME": str(self._data_dir),
        }

    @property
    def _java(self) -> Path:
        return self._java_home / "bin" / "java"

    @property
    def _ports_file(self) -> Path:
        return self._data_dir / "logs" / "http.ports"

    def _is_ready(self) -> bool:
        if not self._port:
            self._port = self._announced_port()
            if not self._port:
                return False
        connection = http.client.HTTPConnection(_HOST, self._port, timeout=5)
        try:
            connection.request("GET", "/_cluster/health")
            health = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError):
            return False
        finally:
            connection.close()
        return health.get("status") in ("yellow", "green") and health.get("cluster_name") == "synapse"

    def _announced_port(self) -> int:
        """What the node wrote down when it began to listen, 0 before that."""
        if not self._ports_file.is_file():
            return 0
        return next((int(line.rpartition(":")[2]) for line in self._ports_file.read_text().splitlines()), 0)
