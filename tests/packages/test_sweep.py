"""The sweep deletes the blobs that no version needs, and no others."""

from datetime import timedelta

import pytest

from registry.db.engine import Statement
from registry.keys import DB, STORAGE
from registry.packages import store, sweep
from tests.client import Registry
from tests.conftest import MakeRegistry
from tests.packages.ways import blobs, value
from tests.until import until

DAY = timedelta(days=1)


async def age(registry: Registry, days: int) -> None:
    """Moves the time of all deletions back by `days`."""
    async with registry.app[DB].transaction() as conn:
        await conn.command(f"UPDATE package_versions SET deleted_at = deleted_at - interval '{days} days'")


async def sweep_deleted(registry: Registry, grace: timedelta = 7 * DAY) -> int:
    return await sweep.sweep_deleted(registry.app[DB], registry.app[STORAGE], grace)


async def sweep_orphans(registry: Registry, older_than: timedelta) -> int:
    return await sweep.sweep_orphans(registry.app[DB], registry.app[STORAGE], older_than)


async def test_a_deleted_version_is_swept_after_its_grace_period(registry: Registry):
    ada = await registry.user()
    for version in ("1.0.0", "1.1.0"):
        await ada.publish("demo", version)
    await ada.call("DELETE", "/packages/demo/1.0.0")
    await age(registry, 6)
    assert await sweep_deleted(registry) == 0
    assert len(await blobs(registry)) == 2
    await age(registry, 2)
    assert await sweep_deleted(registry) == 1
    assert [key.split("-")[0] for key in await blobs(registry)] == ["demo/1.1.0"]
    assert await sweep_deleted(registry) == 0
    assert (await ada.put("demo", "1.0.0")).json["code"] == "version_burned"
    root = await registry.user("root", admin=True)
    assert (await root.call("POST", "/packages/demo/1.0.0/restore")).status == 409
    assert (await registry.get("/packages/demo/1.1.0/tarball")).status == 200


async def test_more_than_one_batch_is_swept_at_once(registry: Registry):
    ada = await registry.user()
    await ada.publish("demo", "1.0.0")
    async with registry.app[DB].transaction() as conn:
        await conn.command(
            "INSERT INTO package_versions (package_id, version, canonical, sort_key, is_prerelease, manifest, "
            "dependencies_json, keywords_json, checksum, tarball_path, tarball_size, published_by, deleted_at) "
            "SELECT package_id, n || '.1.1', n || '.1.1', n, false, manifest, dependencies_json, keywords_json, "
            "checksum, 'demo/' || n || '.tar.gz', 1, published_by, now() - interval '8 days' "
            "FROM package_versions, generate_series(1, 250) AS n"
        )
    assert await sweep_deleted(registry) == 250
    assert await value(registry, "SELECT count(*) FROM package_versions WHERE swept_at IS NOT NULL") == 250
    assert (await registry.get("/packages/demo/1.0.0/tarball")).status == 200


async def test_the_service_runs_the_sweep(make_registry: MakeRegistry):
    registry = await make_registry()
    ada = await registry.user()
    await ada.publish("demo")
    await ada.call("DELETE", "/packages/demo/1.0.0")
    await age(registry, 8)
    # The job runs when a process starts, and then periodically.
    await make_registry()

    async def is_swept() -> bool:
        return await blobs(registry) == []

    await until(is_swept)


async def test_orphans_are_deleted_after_a_day_and_blobs_of_versions_stay(registry: Registry, tmp_path):
    ada = await registry.user()
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        await ada.publish("demo", version)
    await ada.call("DELETE", "/packages/demo/1.1.0")
    orphan = tmp_path / "orphan"
    orphan.write_bytes(b"half a publish")
    storage = registry.app[STORAGE]
    await storage.put("demo/9.9.9/abc.tar.gz", orphan, size=14, sha256="0" * 64)
    assert await sweep_orphans(registry, DAY) == 0
    assert len(await blobs(registry)) == 4
    assert await sweep_orphans(registry, timedelta(0)) == 1
    assert "demo/9.9.9/abc.tar.gz" not in await blobs(registry)
    assert len(await blobs(registry)) == 3
    assert await sweep_orphans(registry, timedelta(0)) == 0


async def test_a_blob_of_a_running_publish_stays_after_the_clock_was_set_forward(
    registry: Registry, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    await (await registry.user()).publish("demo")
    file = tmp_path / "running"
    file.write_bytes(b"not committed yet")
    key, storage = "demo/1.0.0/running.tar.gz", registry.app[STORAGE]
    await storage.put(key, file, size=17, sha256="0" * 64)
    kept = store.kept

    async def commit_after_reading(*arguments):
        found = await kept(*arguments)
        async with registry.app[DB].transaction() as conn:
            await conn.run(Statement("UPDATE package_versions SET tarball_path = %(key)s", {}), key=key)
        return found

    monkeypatch.setattr(store, "kept", commit_after_reading)
    ahead, settle = timedelta(days=-1), timedelta(microseconds=1)
    await sweep.sweep_orphans(registry.app[DB], storage, ahead, settle=settle)
    assert key in await blobs(registry)


async def test_a_blob_left_by_an_interrupted_sweep_is_an_orphan(registry: Registry):
    ada = await registry.user()
    await ada.publish("demo")
    await ada.call("DELETE", "/packages/demo/1.0.0")
    async with registry.app[DB].transaction() as conn:
        await conn.command("UPDATE package_versions SET swept_at = now()")
    assert await sweep_deleted(registry, timedelta(0)) == 0
    assert await sweep_orphans(registry, timedelta(0)) == 1
    assert await blobs(registry) == []
