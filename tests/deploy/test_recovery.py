"""The runbook's statements about recovery: a restore is complete, and a rotation of the key signs nobody out."""

import shutil
from contextlib import closing
from uuid import uuid4

import psycopg2
import pytest

from registry.keys import DB, STORAGE
from registry.search.keys import SEARCH
from registry.search.rebuild import rebuild
from tests.client import delete_search_indices, tarball
from tests.conftest import SECRET
from tests.deploy.outside import path_with, run
from tests.deploy.stack import ROOT

RUNBOOK = (ROOT / "deploy" / "README.md").read_text()


@pytest.fixture
def restored_database(postgres):
    """An empty database to restore into."""
    name = f"restored_{uuid4().hex}"
    with closing(psycopg2.connect(postgres.url("postgres"))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
        yield postgres.url(name)
        with connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def test_a_restored_registry_has_all_data_and_accepts_new_versions(
    registry, make_registry, database_url, restored_database, tmp_path
):
    environ = {"PATH": path_with(tmp_path / "bin")}
    ada = await registry.user()
    await ada.publish("kept")
    await ada.publish("deleted-later")
    await registry.get("/packages/kept/1.0.0/tarball")
    await registry.flush()

    # The runbook uses the same options.
    assert "pg_dump -U registry --format=custom registry" in RUNBOOK
    assert "pg_restore -U registry --dbname=registry --exit-on-error --single-transaction" in RUNBOOK
    dump = str(tmp_path / "registry.dump")
    status, said = await run(["pg_dump", "--format=custom", f"--file={dump}", database_url], environ)
    assert status == 0, said
    # The bucket is copied after the database, so it has every tarball that the dump names.
    shutil.copytree(tmp_path / "packages", tmp_path / "copy")

    await ada.publish("after-the-backup")
    assert (await ada.call("DELETE", "/packages/deleted-later/1.0.0")).status == 204
    await registry.drain()

    options = [f"--dbname={restored_database}", "--exit-on-error", "--single-transaction"]
    status, said = await run(["pg_restore", *options, dump], environ)
    assert status == 0, said
    restored = await make_registry(REGISTRY_DB_URL=restored_database, REGISTRY_STORAGE_PATH=str(tmp_path / "copy"))
    await rebuild(restored.app[DB], restored.app[SEARCH])

    assert {p["name"] for p in (await restored.get("/packages")).json["packages"]} == {"kept", "deleted-later"}
    assert await restored.search("kept") == ["kept"]
    assert await restored.search("deleted-later") == ["deleted-later"]
    assert await restored.search("after-the-backup") == []
    expected = tarball(name="kept", version="1.0.0", description="About kept")
    assert (await restored.get("/packages/kept/1.0.0/tarball")).body == expected
    await restored.flush()
    assert (await restored.get("/packages/kept/stats")).json["downloads"]["total"] == 2
    again = await restored.call(
        "PUT",
        "/packages/after-the-backup/1.0.0",
        data=tarball(name="after-the-backup", version="1.0.0", description="New"),
        headers={**ada.headers, "Content-Type": "application/gzip"},
    )
    assert again.status == 201
    assert await restored.search("after-the-backup") == ["after-the-backup"]


async def test_after_a_rotation_both_keys_are_accepted(make_registry):
    newer = "the-newer-key-0123456789abcdefghijklmnop"
    before = await make_registry(REGISTRY_SECRET_KEY=SECRET)
    ada = await before.user()
    during = await make_registry(REGISTRY_SECRET_KEY=f"{newer},{SECRET}")
    assert (await during.get("/auth/me", headers=ada.headers)).status == 200
    fresh = await during.user("bob")
    after = await make_registry(REGISTRY_SECRET_KEY=newer)
    assert (await after.get("/auth/me", headers=fresh.headers)).status == 200
    assert (await after.get("/auth/me", headers=ada.headers)).status == 401


async def test_losing_elasticsearch_loses_no_package(registry):
    await (await registry.user()).publish("demo")
    await registry.drain()
    await delete_search_indices(registry.app[SEARCH])
    found = await registry.get("/search?q=demo")
    assert [result["name"] for result in found.json["results"]] == ["demo"]
    assert (await registry.get("/packages/demo/1.0.0/tarball")).status == 200
    assert [blob async for blob in registry.app[STORAGE].list()]
