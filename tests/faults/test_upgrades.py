"""Releases are replaced one after the other: this one starts and serves on the schema of the next."""

import asyncio
import json
from pathlib import Path

import aiohttp

from registry.db import migrate
from registry.db.engine import Database, Statement
from registry.settings import Settings
from tests.client import API, PASSWORD, tarball
from tests.service import run_command, serving_process

COUNT_SECONDS = 30.0

# What the next release's migration may do: see tests/db/test_additive.py.
NEXT_RELEASE = """
    ALTER TABLE packages ADD COLUMN stars integer NOT NULL DEFAULT 0;
    ALTER TABLE package_versions ADD COLUMN signature text;
    ALTER TABLE downloads ADD COLUMN referrer text NOT NULL DEFAULT '';
    ALTER TABLE events ADD COLUMN origin text;
    ALTER TABLE users ADD COLUMN locale text;
    CREATE TABLE stargazers (package_id bigint REFERENCES packages (id), user_id bigint REFERENCES users (id));
    UPDATE alembic_version SET version_num = 'next'
"""


async def test_a_process_of_this_release_starts_and_serves_on_the_schema_of_the_next(
    environ: dict[str, str], tmp_path: Path, db: Database
):
    async with db.transaction() as conn:
        await conn.command(NEXT_RELEASE)
    status, out, _ = await run_command(tmp_path, "migrate", **environ)
    assert (status, out) == (0, "The schema is at revision next.\n")

    data = tarball(name="demo", version="1.0.0", description="A demo")
    async with serving_process(tmp_path, **environ) as service, aiohttp.ClientSession(service.url) as session:

        async def call(method: str, path: str, **more: object) -> tuple[int, bytes]:
            async with session.request(method, f"{API}{path}", **more) as answer:  # type: ignore[arg-type]
                return answer.status, await answer.read()

        user = {"username": "ada", "password": PASSWORD}
        assert (await call("POST", "/auth/register", json=user))[0] == 201
        async with session.post(f"{API}/auth/login", json=user) as answer:
            headers = {"Authorization": f"Bearer {(await answer.json())['token']}", "Content-Type": "application/gzip"}
        for version in ("1.0.0", "1.1.0"):
            sent = data if version == "1.0.0" else tarball(name="demo", version=version, description="A demo")
            assert (await call("PUT", f"/packages/demo/{version}", data=sent, headers=headers))[0] == 201
        assert await call("GET", "/packages/demo/1.0.0/tarball") == (200, data)
        assert (await call("DELETE", "/packages/demo/1.1.0", headers=headers))[0] == 204
        async with asyncio.timeout(COUNT_SECONDS):
            while (package := json.loads((await call("GET", "/packages/demo"))[1]))["total_downloads"] < 1:
                await asyncio.sleep(0.05)
        assert (package["version"], package["total_downloads"]) == ("1.0.0", 1)
        async with session.get(f"{API}/search", params={"q": "demo", "min_seq": "4"}) as answer:
            page = await answer.json()
            assert ([result["version"] for result in page["results"]], page["degraded"]) == (["1.0.0"], False)


async def test_a_process_does_not_start_on_the_schema_of_the_release_before(
    environ: dict[str, str], tmp_path: Path, db: Database
):
    async with db.transaction() as conn:
        await conn.run(Statement("DELETE FROM alembic_version", {}))
    assert migrate.pending(Settings.read(environ).database)
    status, _, error = await run_command(tmp_path, "serve", **environ)
    assert status == 1
    assert "migrate" in error
