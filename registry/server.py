"""Runs the application on its ports until a signal stops it, then lets the requests in flight finish."""

import asyncio
import contextlib
import errno
import gc
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, cast

import uvloop
from aiohttp import web

from registry.app import create_app
from registry.db.engine import Database
from registry.errors import StackError
from registry.keys import DB
from registry.operations.handlers import app_health, metrics_response
from registry.operations.health import HEALTHY
from registry.setting_parts import WebSettings
from registry.settings import Settings
from registry.web.connections import (
    RESERVED_FILES,
    SLOW_CLIENTS,
    Connections,
    SlowClientLimits,
    raise_open_files_limit,
)
from registry.web.context import IN_FLIGHT, InFlight
from registry.web.problems import MAX_HEADER, MAX_LINE, from_http, render
from registry.worker import run_worker

READY_SECONDS = 10.0
MAX_READY_PAUSE_SECONDS = 2.0
# Older releases ignore this signal, because that is its default action.
DRAIN_SIGNAL = signal.SIGURG
# The shutdown grace is for requests. Afterwards, the rest of their answers may take this long to be sent.
LAST_WRITE_SECONDS = 2.0
# New objects before a garbage collection. Python's 700 are fewer than one batch of a consumer creates and needs.
GARBAGE_THRESHOLD = 10_000


def run(main: Coroutine[Any, Any, None], *, debug: bool = False) -> None:
    """Runs `main` on uvloop's event loop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop, debug=debug) as runner:
        runner.run(main)


async def serve(
    settings: Settings,
    *,
    with_background: bool = True,
    ready: Callable[[], None] = lambda: None,
    listening: socket.socket | None = None,
    parent: int | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT. Calls `ready` once every server answers, or after READY_SECONDS.

    At DRAIN_SIGNAL the service refuses connections, so that a proxy uses another process before this one is stopped.
    `listening` is a socket to use instead of the settings' port. The service also stops when the pipe `parent` closes.

    Raises StackError when a port is taken.
    """
    stopped = stop_signal()
    if parent is not None:
        asyncio.get_running_loop().add_reader(parent, stopped.set)
    drain = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(DRAIN_SIGNAL, drain.set)
    async with serving(settings, with_background=with_background, listening=listening, drain=drain) as app:
        # What exists now lives as long as the process. Full garbage collections need not look through it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GARBAGE_THRESHOLD, *gc.get_threshold()[1:])
        announcing = asyncio.create_task(_announce(app, ready))
        await stopped.wait()
        if parent is not None:
            asyncio.get_running_loop().remove_reader(parent)
        announcing.cancel()


async def _announce(app: web.Application, ready: Callable[[], None]) -> None:
    """Calls `ready` once every server answers, after READY_SECONDS at the latest.

    On its first start, a service answers requests before its search index exists. Each failed attempt logs a warning,
    so the pauses grow.
    """
    pause = 0.1
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(READY_SECONDS):
            while (await app_health(app))["status"] != HEALTHY:
                await asyncio.sleep(pause)
                pause = min(2 * pause, MAX_READY_PAUSE_SECONDS)
    ready()


@contextlib.asynccontextmanager
async def serving(
    settings: Settings,
    *,
    with_background: bool = True,
    listening: socket.socket | None = None,
    drain: asyncio.Event | None = None,
    slow_clients: SlowClientLimits = SLOW_CLIENTS,
) -> AsyncIterator[web.Application]:
    """Serves on the ports during the block. Then refuses connections, finishes requests, and stores counted downloads.

    Once `drain` is set, the service refuses connections but finishes the requests that it has.
    """
    app = create_app(settings, with_background=with_background, slow_clients=slow_clients)
    runner = web.AppRunner(
        app,
        access_log=None,
        auto_decompress=False,
        keepalive_timeout=slow_clients.keep_alive_seconds,
        max_line_size=MAX_LINE,
        max_field_size=MAX_HEADER,
        shutdown_timeout=LAST_WRITE_SECONDS,
    )
    await runner.setup()
    files = raise_open_files_limit()
    most = max(files - RESERVED_FILES, files // 2)
    connections = Connections(cast(web.Server, runner.server), most, slow_clients)
    try:
        if listening is None:
            await _listen(runner, settings.web.host, settings.web.port, "REGISTRY_PORT")
        else:
            await web.SockSite(runner, listening).start()
        async with connections.watched(), _metrics(app[DB], settings.web):
            async with _draining(runner, app[IN_FLIGHT], drain or asyncio.Event()):
                yield app
            await _finish_requests(runner, app[IN_FLIGHT], settings.web.shutdown_grace.total_seconds())
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def _draining(runner: web.AppRunner, in_flight: InFlight, drain: asyncio.Event) -> AsyncIterator[None]:
    """Within the block the service refuses connections from the moment that `drain` is set."""

    async def refuse() -> None:
        await drain.wait()
        await _refuse_connections(runner, in_flight)

    task = asyncio.create_task(refuse())
    try:
        yield
    finally:
        task.cancel()


async def _refuse_connections(runner: web.AppRunner, in_flight: InFlight) -> None:
    in_flight.close()
    for site in list(runner.sites):
        await site.stop()


async def _finish_requests(runner: web.AppRunner, in_flight: InFlight, seconds: float) -> None:
    """Refuses connections and lets requests in flight finish for `seconds`.

    aiohttp's own shutdown drops the rest of a body, so an upload could never finish.
    """
    await _refuse_connections(runner, in_flight)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while in_flight.count:
                await asyncio.sleep(0.02)


async def work(settings: Settings) -> None:
    """Runs the background work alone until SIGTERM or SIGINT. Raises StackError when the metrics port is taken."""
    stopped = stop_signal()
    async with run_worker(settings) as db, _metrics(db, settings.web):
        await stopped.wait()


def stop_signal() -> asyncio.Event:
    """An event that the first SIGTERM or SIGINT sets."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    return stopped


@contextlib.asynccontextmanager
async def _metrics(db: Database, settings: WebSettings) -> AsyncIterator[None]:
    """Serves only /metrics on the metrics port, without credentials. Don't make that port public."""
    if not settings.metrics_port:
        yield
        return

    async def metrics(_: web.Request) -> web.StreamResponse:
        return await metrics_response(db)

    inner = web.Application(middlewares=[_named_errors])
    inner.router.add_get("/metrics", metrics)
    runner = web.AppRunner(inner, access_log=None)
    await runner.setup()
    try:
        await _listen(runner, settings.host, settings.metrics_port, "REGISTRY_METRICS_PORT")
        yield
    finally:
        await runner.cleanup()


@web.middleware
async def _named_errors(request: web.Request, handler: Callable[[web.Request], Any]) -> Any:
    try:
        return await handler(request)
    except web.HTTPException as error:
        return render(request, from_http(error), secrets.token_hex(16))


async def _listen(runner: web.AppRunner, host: str, port: int, setting: str) -> None:
    with port_errors_named(host, port, setting):
        await web.TCPSite(runner, host, port).start()


@contextlib.contextmanager
def port_errors_named(host: str, port: int, setting: str) -> Iterator[None]:
    """Turns an OSError within the block into a StackError. `setting` is the name of the port's setting."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StackError(f"Port {port} is taken. Stop the program that uses it, or set {setting}.") from error
        raise StackError(f"Can't listen on {host} port {port}: {error.strerror}.") from error
