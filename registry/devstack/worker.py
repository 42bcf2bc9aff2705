"""Runs `synapse-registry worker` beside the web process of `up`, so that requests don't wait for background work."""

import logging
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from registry.devstack.processes import ChildProcess, claim
from registry.errors import SettingsError, StackError
from registry.setting_parts import WebSettings
from registry.supervisor import MAX_PORT

log = logging.getLogger(__name__)

CHECK_SECONDS = 1.0


def metrics_port(web: WebSettings) -> int:
    """The port of the worker's metrics, the one after that of the web process; 0 if there are none.

    Raises SettingsError if the worker can't have that port.
    """
    port = web.metrics_port + 1 if web.metrics_port else 0
    if port > MAX_PORT or (port and port == web.port):
        raise SettingsError(
            "The worker of `up` serves its metrics on the port after REGISTRY_METRICS_PORT. That port must be at most "
            f"{MAX_PORT} and not REGISTRY_PORT. Set another REGISTRY_METRICS_PORT."
        )
    return port


class Worker:
    """A worker process during the block. It is started again when it ends, and never outlives this process.

    It keeps its lock in `folder` and appends its output to the file `output`. `environ` is its whole environment.
    Entering the block raises StackError if the worker of another `up` uses the folder.
    """

    def __init__(self, folder: Path, output: Path, environ: Mapping[str, str]) -> None:
        self._folder = folder
        self._output = output
        self._environ = environ
        self._stopping = threading.Event()
        self._watch = threading.Thread(target=self._restart, name="worker")

    def __enter__(self) -> Self:
        self._process = self._start()
        self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._watch.join()
        self._process.stop()

    def _start(self) -> ChildProcess:
        with claim(self._folder, "The worker") as lock:
            return ChildProcess(
                "The worker",
                [sys.executable, "-m", "registry", "worker"],
                lock=lock,
                log=self._output,
                append=True,
                environ=self._environ,
                cwd=Path.cwd(),  # settings may name files below it
            )

    def _restart(self) -> None:
        while not self._stopping.wait(CHECK_SECONDS):
            if self._process.running:
                continue
            log.warning("the worker ended and is started again")
            try:
                self._process = self._start()
            except (StackError, OSError) as error:
                log.warning("the worker can't be started; it is tried again", extra={"error": str(error)})
