"""Health names the servers that are away. Readiness depends on the process alone."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from registry import __version__
from registry.db import migrate
from registry.db.engine import Database, Statement
from registry.devstack.postgres import Postgres
from registry.web.context import IN_FLIGHT
from tests.client import Answer, Registry
from tests.conftest import MakeRegistry
from tests.faults.toxic import toxic, unix
from tests.web.shape import case

# The discard port: nothing listens there.
NO_POSTGRES = "postgresql://registry@127.0.0.1:9/registry"
NO_ELASTICSEARCH = "http://127.0.0.1:9"


def check_health(answer: Answer, status: str, away: set[str]) -> None:
    health = answer.json
    assert answer.status == (503 if status == "unhealthy" else 200), health
    assert health["status"] == status
    assert health["version"] == __version__
    assert health["timestamp"].endswith("Z")
    assert abs(datetime.now(UTC) - datetime.fromisoformat(health["timestamp"])) < timedelta(minutes=1)
    assert set(health["components"]) == {"database", "storage", "search"}
    for name, component in health["components"].items():
        assert component["status"] == ("unhealthy" if name in away else "healthy"), name
        assert bool(component["detail"]) == (name in away), name


async def until_indexed(registry: Registry) -> None:
    """Waits until a new service has made its search index."""
    async with asyncio.timeout(30):
        while (await registry.get("/health")).json["components"]["search"]["status"] != "healthy":
            await asyncio.sleep(0.1)


async def check_everywhere(registry: Registry, status: str, away: set[str]) -> None:
    if "search" not in away:
        await until_indexed(registry)
    for path in ("/api/v1/health", "/health"):
        with case(path):
            check_health(await registry.get(registry.url + path), status, away)
    for path in ("/api/v1/health/live", "/health/live"):
        answer = await registry.get(registry.url + path)
        assert (answer.status, answer.json) == (200, {"status": "alive"})


async def check_ready(registry: Registry, status: str) -> None:
    for path in ("/api/v1/health/ready", "/health/ready"):
        with case((path, status)):
            answer = await registry.get(registry.url + path)
            assert (answer.status, answer.json["status"]) == (200 if status == "ready" else 503, status)
            assert bool(answer.json["detail"]) == (status != "ready")


async def test_it_is_healthy_with_every_server(registry: Registry):
    await check_everywhere(registry, "healthy", set())


async def test_it_is_degraded_but_serves_without_elasticsearch(make_registry: MakeRegistry):
    whole = await make_registry()
    await (await whole.user("ada")).publish("demo")
    registry = await make_registry(REGISTRY_ES_URL=NO_ELASTICSEARCH)
    await check_everywhere(registry, "degraded", {"search"})
    assert (await registry.get("/packages/demo/1.0.0/tarball")).status == 200
    assert (await registry.get("/search?q=demo")).json["degraded"] is True


async def test_it_is_unhealthy_without_postgresql(make_registry: MakeRegistry):
    await until_indexed(await make_registry())
    registry = await make_registry(REGISTRY_DB_URL=NO_POSTGRES)
    await check_everywhere(registry, "unhealthy", {"database"})
    answer = await registry.get("/packages/demo")
    assert (answer.status, answer.json["code"]) == (503, "database_unavailable")
    assert answer.headers["Retry-After"]


async def test_it_is_unhealthy_without_the_storage_folder(registry: Registry, tmp_path: Path):
    folder = tmp_path / "packages"
    folder.rename(tmp_path / "gone")
    folder.write_text("a file where the folder was")
    await check_everywhere(registry, "unhealthy", {"storage"})


async def test_anyone_may_read_the_health_of_a_private_registry(make_registry: MakeRegistry):
    await check_everywhere(await make_registry(REGISTRY_ACCESS="private"), "healthy", set())


async def test_health_ignores_wrong_credentials(registry: Registry):
    answer = await registry.get("/health", headers={"Authorization": "Bearer nonsense"})
    assert answer.status == 200


async def test_a_process_stays_ready_while_shared_servers_are_away(
    postgres: Postgres, database_url: str, make_registry: MakeRegistry, tmp_path: Path
):
    await make_registry()
    async with toxic(unix(f"{postgres._socket_dir}/.s.PGSQL.5432")) as wire:
        address = f"postgresql://postgres@127.0.0.1:{wire.port}{urlsplit(database_url).path}"
        registry = await make_registry(REGISTRY_DB_URL=address, REGISTRY_ES_URL=NO_ELASTICSEARCH)
        await check_ready(registry, "ready")
        (tmp_path / "packages").rename(tmp_path / "gone")
        wire.refusing = True
        wire.reset_all()
        assert (await registry.get("/health")).status == 503
        await check_ready(registry, "ready")
        wire.heal()


async def test_a_process_is_not_ready_until_the_schema_fits(db: Database, make_registry: MakeRegistry):
    async def set_revision(revision: str) -> None:
        async with db.transaction() as conn:
            await conn.all(Statement(f"UPDATE alembic_version SET version_num = '{revision}' RETURNING 1", {}))

    await until_indexed(await make_registry())
    await check_ready(await make_registry(REGISTRY_DB_URL=NO_POSTGRES), "starting")
    await set_revision("0001")
    registry = await make_registry()
    await check_ready(registry, "starting")
    await set_revision(migrate.head())
    await check_ready(registry, "ready")
    await set_revision("a later one")
    await check_ready(await make_registry(), "ready")


async def test_a_process_that_shuts_down_is_not_ready(registry: Registry):
    await check_ready(registry, "ready")
    registry.app[IN_FLIGHT].closing = True
    await check_ready(registry, "stopping")
