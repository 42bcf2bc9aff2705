"""Runs `synapse-registry worker` beside the web process of `up`. Requests don't wait for background work then."""

import logging
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from registry.devstack.processes import ChildProcess, claim
from registry.errors import SettingsError
from registry.setting_parts import WebSettings

log = logging.getLogger(__name__)

CHECK_SECONDS = 1.0
MAX_PORT = 65535


class Worker:
    """A worker process during the block. It is started again when it ends, and never outlives this process.

    It keeps its lock in `folder` and appends its output to the file `output`. If the web process serves metrics on a
    port, the worker serves its own on the next one. Raises SettingsError if that is the port of the API. Entering the
    block raises StackError if the worker of another `up` uses the folder.
    """

    def __init__(self, folder: Path, output: Path, environ: Mapping[str, str], web: WebSettings) -> None:
        port = web.metrics_port + 1 if web.metrics_port else 0
        if port and port in (web.port, MAX_PORT + 1):
            raise SettingsError("The worker of `up` wants the port after REGISTRY_METRICS_PORT. Set another one.")
        self._folder = folder
        self._output = output
        self._environ = {**environ, "REGISTRY_METRICS_PORT": str(port)}
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
            if not self._process.running:
                log.warning("the worker ended and is started again")
                self._process = self._start()
