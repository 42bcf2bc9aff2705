"""`serve --processes`: a parent reserves the port, its children listen on it, and it restarts children that end.

The reasons are in docs/decisions/0009-processes-on-one-port.md.
"""

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
from registry.app import rate_limits
from registry.errors import RegistryError, SettingsError, StackError
from registry.settings import Settings

# Exit status of a child that printed why it can't serve. A new child would fail in the same way.
CANT_SERVE = 3
# A child that lives shorter than this ended early. The parent gives up after so many early ends in a row.
EARLY_SECONDS = 10.0
MOST_EARLY_ENDS = 5
PAUSE_SECONDS = 0.1
POLL_SECONDS = 0.2
BACKLOG = 1024
# How long a child may take to end after the shutdown grace.
END_SECONDS = 30.0
MAX_PORT = 65535


class Supervisor:
    """Starts and restarts the children of one `serve --processes`. They end when the parent's end of a pipe closes."""

    def __init__(self, settings: Settings, count: int, *, with_background: bool) -> None:
        self._settings = settings
        self._with_background = with_background
        self._count = count
        self._reserved = reserve_port(settings.web.host, settings.web.port)
        self._parent, self._pipe = os.pipe()
        self._children: dict[int, tuple[BaseProcess, float]] = {}
        self._early_ends = 0

    def run(self) -> None:
        """Runs until SIGTERM or SIGINT. Raises StackError when children can't start or don't end cleanly."""
        asked: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: asked.append(number))
        try:
            for index in range(self._count):
                self._start(index)
            while not asked:
                wait([child.sentinel for child, _ in self._children.values()], POLL_SECONDS)
                if not asked:
                    for index in self._ended():
                        self._replace(index)
        finally:
            statuses = self._end()
        if any(statuses):
            raise StackError("A process did not end in time, or ended with an error.")

    def _start(self, index: int) -> None:
        # A fork shares the settings: outside production, reading them may generate the signing key.
        child = multiprocessing.get_context("fork").Process(target=self._child, args=(index,))
        child.start()
        self._children[index] = child, time.monotonic()

    def _child(self, index: int) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.close(self._pipe)
        port = self._settings.web.metrics_port
        web = replace(self._settings.web, metrics_port=port + index if port else 0)
        settings = replace(self._settings, web=web)
        try:
            listening = bind(web.host, self._reserved.getsockname()[1], reuse_port=True)
            listening.listen(BACKLOG)
            self._reserved.close()
            serving = server.serve(
                settings, with_background=self._with_background, listening=listening, parent=self._parent
            )
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
            raise StackError("A process can't serve. The lines above name the reason.")
        early = time.monotonic() - started < EARLY_SECONDS
        self._early_ends = self._early_ends + 1 if early else 0
        if self._early_ends >= MOST_EARLY_ENDS:
            raise StackError("The processes end soon after their start. The lines above name the reason.")
        time.sleep(PAUSE_SECONDS * 2**self._early_ends)
        self._start(index)

    def _end(self) -> list[int]:
        """Ends the children by closing the pipe. Returns their exit statuses."""
        os.close(self._pipe)
        self._reserved.close()
        deadline = time.monotonic() + self._settings.web.shutdown_grace.total_seconds() + END_SECONDS
        for child, _ in self._children.values():
            child.join(max(0.0, deadline - time.monotonic()))
            if child.exitcode is None:
                child.kill()
                child.join()
        os.close(self._parent)
        return [child.exitcode or 0 for child, _ in self._children.values()]


def supervise(settings: Settings, count: int, *, with_background: bool) -> None:
    """Serves with `count` processes on one port until SIGTERM or SIGINT. Raises SettingsError or StackError."""
    if rate_limits(settings.web) and not settings.web.redis_url:
        raise SettingsError(
            "Several processes share their rate limits through Redis. "
            "Set REGISTRY_REDIS_URL, or REGISTRY_RATE_LIMITS=off."
        )
    if settings.web.metrics_port + count - 1 > MAX_PORT:
        raise SettingsError(
            f"{count} processes need {count} metrics ports, from REGISTRY_METRICS_PORT on. Set a lower one."
        )
    Supervisor(settings, count, with_background=with_background).run()


def reserve_port(host: str, port: int) -> socket.socket:
    """Reserves a free port with a bound socket that does not listen.

    Other sockets of the same user with SO_REUSEPORT, such as those of the children, can still listen on the port.
    Raises StackError when the port is taken.
    """
    # An exclusive socket first: a shared one would also share the port with another registry of the same user.
    with bind(host, port, reuse_port=False) as alone:
        with server.port_errors_named(host, port, "REGISTRY_PORT"):
            alone.listen()
        port = alone.getsockname()[1]
    reserved = bind(host, port, reuse_port=True)
    # Binding needed SO_REUSEADDR while old connections linger. From now on it would let other programs bind the port.
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    return reserved


def bind(host: str, port: int, *, reuse_port: bool) -> socket.socket:
    """A bound socket that does not listen yet. Raises StackError when the port is taken."""
    with server.port_errors_named(host, port, "REGISTRY_PORT"):
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        bound = socket.socket(family, kind)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
        return bound
