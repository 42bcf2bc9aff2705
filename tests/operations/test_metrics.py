"""Metrics for Prometheus."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import ClientSession
from ephemeral_port_reserve import reserve

from registry.db.engine import Statement
from registry.events import consumer
from registry.jobs import queue
from registry.keys import DB
from registry.search import indexing
from tests.client import Registry, tarball
from tests.conftest import MakeRegistry
from tests.operations.test_health import NO_POSTGRES
from tests.until import until
from tests.web.raw import request, send_raw
from tests.web.shape import check_error

Figures = Callable[..., float]


async def figures(registry: Registry) -> Figures:
    """A function that returns a metric by name and labels, 0 for a missing one."""
    answer = await registry.get(f"{registry.url}/metrics")
    assert answer.status == 200
    return read(answer.body.decode())


def read(text: str) -> Figures:
    values: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for name, labels, value in re.findall(r"^([a-z_]+)(?:\{(.*)\})? (\S+)$", text, re.MULTILINE):
        values[name, frozenset(re.findall(r'(\w+)="([^"]*)"', labels))] = float(value)
    return lambda name, **labels: values.get((name, frozenset(labels.items())), 0.0)


async def test_requests_are_counted_by_route_and_status(registry: Registry):
    await (await registry.user("ada")).publish("look-alike")
    package = "/api/v1/packages/{name}"
    cases = [
        ("/packages/look-alike", "GET", package, "200"),
        ("/packages/nobody", "GET", package, "404"),
        ("/packages/look_alike", "GET", package, "301"),
        ("/auth/me", "GET", "/api/v1/auth/me", "401"),
        ("/nowhere/at/all", "other", "unknown", "404"),
    ]
    before = await figures(registry)
    for path, *_ in cases:
        await registry.get(path)
    await send_raw(registry, request("G@T / HTTP/1.1"))
    after = await figures(registry)
    cases.append(("", "other", "malformed", "400"))
    for _, method, route, status in cases:
        labels = {"method": method, "route": route, "status": status}
        name = "registry_http_requests_total"
        assert after(name, **labels) - before(name, **labels) == 1, labels
    latency = {"method": "GET", "route": package}
    for name in ("registry_http_request_seconds_count", "registry_http_request_seconds_bucket"):
        more = {"le": "+Inf"} if name.endswith("bucket") else {}
        assert after(name, **latency, **more) - before(name, **latency, **more) == 3
    assert after("registry_http_request_seconds_sum", **latency) > before(
        "registry_http_request_seconds_sum", **latency
    )
    assert after("registry_http_requests_in_flight") == 1


async def test_the_lag_of_the_index_is_measured_in_events_and_seconds(make_registry: MakeRegistry):
    registry = await make_registry()
    ada = await registry.user("ada")
    await ada.publish("demo")
    await registry.drain()
    now = await figures(registry)
    labels = {"consumer": indexing.CONSUMER}
    assert now("registry_consumer_lag_events", **labels) == 0
    assert now("registry_consumer_lag_seconds", **labels) == 0


async def test_the_lag_of_a_late_index_is_above_zero(make_registry: MakeRegistry, monkeypatch: pytest.MonkeyPatch):
    registry = await make_registry()
    ada = await registry.user("ada")
    await ada.publish("demo")
    await registry.drain()

    async def fail(*_: object) -> None:
        raise RuntimeError("the handler is broken")

    labels = {"consumer": indexing.CONSUMER}
    before = await figures(registry)
    monkeypatch.setattr(consumer, "_step", fail)
    await ada.publish("demo", "1.0.1")
    await ada.publish("demo", "1.0.2")
    async with asyncio.timeout(20):
        while (await figures(registry))("registry_consumer_errors_total", **labels) == before(
            "registry_consumer_errors_total", **labels
        ):
            pass
    after = await figures(registry)
    assert after("registry_consumer_lag_events", **labels) >= 1
    assert after("registry_consumer_lag_seconds", **labels) > 0


async def test_the_use_of_the_pool_is_measured(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_DB_POOL_SIZE="7")
    now = await figures(registry)
    assert now("registry_db_connections", state="most") == 7
    assert 0 <= now("registry_db_connections", state="used") <= now("registry_db_connections", state="open") <= 7
    assert now("registry_db_up") == 1


async def test_metrics_are_served_while_the_database_is_away(make_registry: MakeRegistry):
    await make_registry()
    now = await figures(await make_registry(REGISTRY_DB_URL=NO_POSTGRES))
    assert now("registry_db_up") == 0


async def test_failures_of_the_storage_are_counted(registry: Registry, tmp_path: Path):
    ada = await registry.user("ada")
    await ada.put("demo", "1.0.0", data=tarball(name="demo", version="1.0.0", description="A demo"))
    before = await figures(registry)
    for blob in (tmp_path / "packages").rglob("*.tar.gz"):
        blob.unlink()
    answer = await registry.get("/packages/demo/1.0.0/tarball")
    assert answer.status == 503
    after = await figures(registry)
    name = "registry_storage_errors_total"
    assert after(name, operation="missing") - before(name, operation="missing") == 1


async def test_downloads_are_counted(registry: Registry):
    await (await registry.user("ada")).publish("demo")
    before = await figures(registry)
    await registry.get("/packages/demo/1.0.0/tarball")
    await registry.flush()
    after = await figures(registry)
    assert after("registry_downloads_total") - before("registry_downloads_total") == 1


async def test_a_private_registry_serves_metrics_on_a_separate_port(make_registry: MakeRegistry):
    port = reserve()
    registry = await make_registry(REGISTRY_ACCESS="private", REGISTRY_METRICS_PORT=str(port))
    assert (await registry.get(f"{registry.url}/metrics")).status == 401
    assert (await registry.get("/metrics")).status == 401
    async with ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert read(await answer.text())("registry_db_up") == 1
    inner = replace(registry, url=f"http://127.0.0.1:{port}")
    check_error(await inner.get("/packages"), 404)
    check_error(await inner.call("POST", f"{inner.url}/metrics"), 405)


async def test_jobs_are_counted_by_kind_and_state(registry: Registry):
    async def is_reconcile_queued() -> bool:
        return (await figures(registry))("registry_job_queue", job="reconcile", state="queued") == 1

    await until(is_reconcile_queued)  # the worker adds periodic jobs when it starts
    async with registry.app[DB].transaction() as conn:
        await queue.enqueue(conn, "nobody's", {})
    found = await figures(registry)
    assert found("registry_job_queue", job="nobody's", state="queued") == 1
    assert found("registry_job_late_seconds", job="nobody's") > 0
    assert found("registry_job_queue", job="reconcile", state="queued") == 1
    assert found("registry_job_late_seconds", job="reconcile") == 0
    async with registry.app[DB].transaction() as conn:
        await conn.run(Statement("DELETE FROM jobs WHERE kind = 'nobody''s'", {}))
    found = await figures(registry)
    assert found("registry_job_queue", job="nobody's", state="queued") == 0
