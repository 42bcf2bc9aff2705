"""`serve --processes`: one parent keeps the port, each child listens on it, a dead one is started again.

Why so: docs/decisions/0009-processes-on-one-port.md.
"""

import contextlib
import errno
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from registry import server
from registry.app import rate_limits
from registry.errors import RegistryError, SettingsError, StackError
from registry.settings import Settings

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
        self._count = count
        self._kept = keep(settings.web.host, settings.web.port)
        self._parent, self._held = os.pipe()
        self._children: dict[int, tuple[BaseProcess, float]] = {}
        self._early_ends = 0

    def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises StackError when children can't start, or did not end well."""
        asked: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: asked.append(number))
        try:
            for index in range(self._count):
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
        port = self._settings.web.metrics_port
        web = replace(self._settings.web, metrics_port=port + index if port else 0)
        settings = replace(self._settings, web=web)
        try:
            listening = bind(web.host, self._kept.getsockname()[1], reuse_port=True)
            listening.listen(BACKLOG)
            self._kept.close()
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
        self._kept.close()
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
    if rate_limits(settings.web) and not settings.web.redis_url:
        raise SettingsError(
            "Several processes share their rate limits through Redis. "
            "Set REGISTRY_REDIS_URL, or REGISTRY_RATE_LIMITS=off."
        )
    if settings.web.metrics_port + count - 1 > MAX_PORT:
        raise SettingsError(
            f"The figures of {count} processes need as many ports from REGISTRY_METRICS_PORT on. Set a lower one."
        )
    Supervisor(settings, count, with_background=with_background).run()


def keep(host: str, port: int) -> socket.socket:
    """Keeps a free port by a socket that takes no connections; others of this user may listen on it.

    Raises StackError when the port is taken.
    """
    # One of its own first: sockets that share a port would also share it with another registry of the same user.
    with bind(host, port, reuse_port=False) as alone:
        with _named(host, port):
            alone.listen()
        port = alone.getsockname()[1]
    kept = bind(host, port, reuse_port=True)
    # Needed to bind beside connections that just ended; from now on it would let others in before anybody listens.
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    return kept


def bind(host: str, port: int, *, reuse_port: bool) -> socket.socket:
    """A socket that is bound and does not listen yet. Raises StackError when the port is taken."""
    with _named(host, port):
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        bound = socket.socket(family, kind)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
        return bound


@contextlib.contextmanager
def _named(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StackError(f"Port {port} is taken. Stop what uses it, or set REGISTRY_PORT.") from error
        raise StackError(f"Can't listen on {host} port {port}: {error.strerror}.") from error
