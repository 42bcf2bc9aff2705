"""`serve --processes`: one parent holds the port, each child serves from a socket of it, a dead one is started again.

Why so: docs/decisions/0009-processes-on-one-port.md.
"""

import errno
import multiprocessing
import os
import signal
import socket
import sys
import time
from dataclasses import replace
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from registry import server
from registry.errors import RegistryError, SettingsError, StackError
from registry.settings import Settings
from registry.web.limits import parse_limits

# The status of a child that said why it can't serve: another one could not either.
CANT_SERVE = 3
# A child that ends sooner ended early; so many of them in a row end the parent.
EARLY_SECONDS = 10.0
MOST_EARLY_ENDS = 5
PAUSE_SECONDS = 0.1
POLL_SECONDS = 0.2
BACKLOG = 1024
# What a child may take to end beyond the grace of its requests.
END_SECONDS = 30.0
MAX_PORT = 65535


class Supervisor:
    """The children of one `serve --processes`; they end when the pipe `parent` does, however its holder ended."""

    def __init__(self, settings: Settings, count: int, *, with_background: bool) -> None:
        self._settings = settings
        self._with_background = with_background
        self._sockets = bind(settings.web.host, settings.web.port, count)
        self._parent, self._held = os.pipe()
        self._children: dict[int, tuple[BaseProcess, float]] = {}
        self._early_ends = 0

    def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises StackError when children can't start, or did not end well."""
        asked: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: asked.append(number))
        try:
            for index in range(len(self._sockets)):
                self._start(index)
            while not asked:
                wait([child.sentinel for child, _ in self._children.values()], POLL_SECONDS)
                for index in [] if asked else self._ended():
                    self._replace(index)
        finally:
            statuses = self._end()
        if any(statuses):
            raise StackError("A process did not end in time, or ended with an error.")

    def _start(self, index: int) -> None:
        # A fork, so that all have the same settings (a development key is made when they are read).
        child = multiprocessing.get_context("fork").Process(target=self._child, args=(index,))
        child.start()
        self._children[index] = child, time.monotonic()

    def _child(self, index: int) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.close(self._held)
        for other in self._sockets[:index] + self._sockets[index + 1 :]:
            other.close()
        port = self._settings.web.metrics_port
        web = replace(self._settings.web, metrics_port=port + index if port else 0)
        settings = replace(self._settings, web=web)
        serving = server.serve(
            settings, with_background=self._with_background, listening=self._sockets[index], parent=self._parent
        )
        try:
            server.run(serving, debug=web.debug)
        except (SettingsError, StackError, RegistryError) as problem:
            sys.stderr.write(f"{problem}\n")
            sys.exit(CANT_SERVE)

    def _ended(self) -> list[int]:
        return [index for index, (child, _) in self._children.items() if child.exitcode is not None]

    def _replace(self, index: int) -> None:
        child, started = self._children.pop(index)
        child.join()
        if child.exitcode == CANT_SERVE:
            raise StackError("A process can't serve. The lines above say why.")
        early = time.monotonic() - started < EARLY_SECONDS
        self._early_ends = self._early_ends + 1 if early else 0
        if self._early_ends >= MOST_EARLY_ENDS:
            raise StackError("The processes end soon after their start. The lines above say why.")
        time.sleep(PAUSE_SECONDS * 2**self._early_ends)
        self._start(index)

    def _end(self) -> list[int]:
        """Tells the children by closing the pipe; the statuses they ended with."""
        os.close(self._held)
        for each in self._sockets:
            each.close()
        deadline = time.monotonic() + self._settings.web.shutdown_grace.total_seconds() + END_SECONDS
        for child, _ in self._children.values():
            child.join(max(0.0, deadline - time.monotonic()))
            if child.exitcode is None:
                child.kill()
                child.join()
        os.close(self._parent)
        return [child.exitcode or 0 for child, _ in self._children.values()]


def supervise(settings: Settings, count: int, *, with_background: bool) -> None:
    """Serves by `count` processes on one port until SIGTERM or SIGINT. Raises SettingsError and StackError."""
    if parse_limits(settings.web.rate_limits) and not settings.web.redis_url:
        raise SettingsError(
            "Several processes share their rate limits through Redis. "
            "Set REGISTRY_REDIS_URL, or REGISTRY_RATE_LIMITS=off."
        )
    if settings.web.metrics_port + count - 1 > MAX_PORT:
        raise SettingsError(
            f"The figures of {count} processes need as many ports from REGISTRY_METRICS_PORT on. Set a lower one."
        )
    Supervisor(settings, count, with_background=with_background).run()


def bind(host: str, port: int, count: int) -> list[socket.socket]:
    """`count` listening sockets of one port, among which the kernel spreads connections.

    Raises StackError when the port is taken.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        # One of its own first: sockets that share a port would also share it with another registry of the same user.
        with socket.create_server((host, port), family=family) as alone:
            port = alone.getsockname()[1]
        return [
            socket.create_server((host, port), family=family, backlog=BACKLOG, reuse_port=True) for _ in range(count)
        ]
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StackError(f"Port {port} is taken. Stop what uses it, or set REGISTRY_PORT.") from error
        raise StackError(f"Can't listen on {host} port {port}: {error.strerror}.") from error
