"""Runs one Elasticsearch node on the loopback address, as a child of this process."""

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
# During a start the JVM's second compiler (C2) compiles much code that hardly runs afterwards. Measured processor time
# of a start: 38 s by default, 30 s if C2 compiles only very hot code, 18 s without C2.
_WITHOUT_C2 = ("-XX:TieredStopAtLevel=1",)
_LATE_C2 = (
    "-XX:Tier4InvocationThreshold=30000",
    "-XX:Tier4MinInvocationThreshold=5000",
    "-XX:Tier4CompileThreshold=60000",
    "-XX:Tier4BackEdgeThreshold=200000",
)


class Elasticsearch:
    """A single node without security. All its files are below `data_dir`. `with` starts and stops it.

    `home` is an unpacked Elasticsearch, which is never written to. `java_home` is a JDK. `port` 0 chooses a free port
    at the first start and keeps it. `heap` is in Java's notation. `brief` halves the time of the start and makes the
    node slower afterwards; it is for tests. `environ` supplies PATH.
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
        self._compilers = _WITHOUT_C2 if brief else _LATE_C2
        self._path = environ.get("PATH", "/usr/bin:/bin")
        self._child: ChildProcess | None = None

    @property
    def url(self) -> str:
        """The address of the node, known after the start."""
        return f"http://{_HOST}:{self._port}"

    def start(self, on_wait: Callable[[float], None] | None = None) -> None:
        """Returns when the health of the node is yellow or green. Calls `on_wait` with the seconds waited so far.

        Raises StackError if `home` contains no Elasticsearch, a folder can't be used, or START_SECONDS pass.
        """
        for needed in ("lib/tools/server-launcher", "config"):
            if not (self._home / needed).is_dir():
                raise StackError(
                    f"{self._home} is not an Elasticsearch 9: it has no {needed}. Correct or unset ES_HOME."
                )
        user = unprivileged_user()
        with claim(self._data_dir, _NAME) as lock:
            self._prepare(user)
            self._child = ChildProcess(
                _NAME,
                self._command(),
                lock=lock,
                log=self._data_dir / "output.log",
                environ=self._environment(),
                cwd=self._home,  # it looks for its modules here, even if ES_HOME is set
                user=user,
            )
        self._child.wait_until(self._is_ready, seconds=START_SECONDS, on_wait=on_wait)

    def stop(self) -> None:
        """Stops the node and waits for its end. May be called again, or before `start`."""
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
        # JSON is valid YAML and quotes every path correctly.
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
            # The heap's real use includes garbage, of which the parallel collector leaves more than G1 does.
            "indices.breaker.total.use_real_memory": False,
            # A developer's disk is often 95 % full. The watermarks would make every index read-only there.
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
                    # On two processors, searches took 8 % less processor time than with G1 (docs/performance.md).
                    "-XX:-UseG1GC",
                    "-XX:+UseParallelGC",
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
        """The port that the node wrote to a file when it began to listen, 0 before that."""
        if not self._ports_file.is_file():
            return 0
        return next((int(line.rpartition(":")[2]) for line in self._ports_file.read_text().splitlines()), 0)
