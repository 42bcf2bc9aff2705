"""How much memory the search index's rebuild, catch-up and reconciliation need when every README is large.

    python -m tests.bench.rebuild_memory [--versions 5000] [--readme-kib 512]

Starts PostgreSQL and Elasticsearch of its own (or uses the Elasticsearch of REGISTRY_TEST_ES_URL) and removes what it
made. Prints one JSON line with the growth of the peak resident size in MiB by step, and exits 1 above AT_MOST_MIB.
"""

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from registry.db import migrate
from registry.db.engine import Database, Statement, open_database
from registry.devstack.distribution import elasticsearch_home
from registry.devstack.elasticsearch import Elasticsearch
from registry.devstack.java import find_java
from registry.devstack.postgres import Postgres
from registry.events import log as event_log
from registry.search.index import SearchIndex, open_search
from registry.search.indexing import index_events
from registry.search.rebuild import rebuild
from registry.search.reconcile import differences
from registry.settings import Settings
from tests.bench.upload_memory import peak_mib
from tests.client import delete_search_indices
from tests.servers import cache_folder

AT_MOST_MIB = 60
EVENTS = 500
VERSIONS_OF_PACKAGE = 2
# The text is repeated, so that it takes little room on the disk. Clients receive it in full all the same.
FILL = (
    "INSERT INTO users (username, password_hash, role) VALUES ('ada', '-', 'user')",
    """
    INSERT INTO packages (name, similarity_key, description, owner_id)
    SELECT 'package-' || i, 'package-' || i, 'The package ' || i, users.id
    FROM users, generate_series(1, %(packages)s) AS i
    """,
    """
    INSERT INTO package_versions (package_id, version, canonical, sort_key, is_prerelease, description, readme,
                                  manifest, dependencies_json, keywords_json, checksum, tarball_path, tarball_size,
                                  published_by)
    SELECT p.id, '1.' || minor || '.0', '1.' || minor || '.0', minor::text, false, p.description,
           repeat(md5(p.name) || ' ', %(repeats)s), '{}', '{}', '[]', '', p.name || minor, 1, p.owner_id
    FROM packages AS p, generate_series(1, %(versions)s) AS minor
    """,
    """
    UPDATE packages SET latest_version_id = v.id FROM package_versions AS v
    WHERE v.package_id = packages.id AND v.version = '1.' || %(versions)s || '.0'
    """,
    """
    INSERT INTO events (seq, type, package_id, package, version, data)
    SELECT row_number() OVER (ORDER BY v.id), %(published)s, p.id, p.name, v.version, '{}'
    FROM package_versions AS v JOIN packages AS p ON p.id = v.package_id
    """,
)


async def fill(db: Database, versions: int, readme_kib: int) -> None:
    values: dict[str, Any] = {
        "packages": versions // VERSIONS_OF_PACKAGE,
        "versions": VERSIONS_OF_PACKAGE,
        "repeats": readme_kib * 1024 // 33,
        "published": event_log.VERSION_PUBLISHED,
    }
    async with db.transaction() as conn:
        await conn.command("SET LOCAL statement_timeout = 0")
        for each in FILL:
            await conn.run(Statement(each, {}), **values)


async def growth(step: Awaitable[object]) -> float:
    """By how many MiB the peak resident size exceeds that of before the step."""
    await asyncio.to_thread(Path("/proc/self/clear_refs").write_text, "5")
    before = peak_mib(os.getpid())
    await step
    return round(peak_mib(os.getpid()) - before, 1)


async def catch_up(db: Database, index: SearchIndex) -> None:
    """What the consumer does with a full batch of events."""
    async with db.read() as conn:
        events = await event_log.read_after(conn, 0, EVENTS)
    await index_events(db, index, events)


async def compare(db: Database, index: SearchIndex) -> None:
    found = [each async for each in differences(db, index)]
    assert found == []


async def measure(postgres: str, elasticsearch: str, versions: int, readme_kib: int) -> dict[str, Any]:
    environ = {
        "REGISTRY_DB_URL": postgres,
        "REGISTRY_DB_STATEMENT_TIMEOUT": "5m",
        "REGISTRY_ES_URL": elasticsearch,
        "REGISTRY_ES_PREFIX": f"b{uuid4().hex[:12]}-",
        "REGISTRY_ES_TIMEOUT": "60s",
    }
    settings = Settings.read(environ)
    async with open_database(settings.database) as db, open_search(settings.search) as index:
        await fill(db, versions, readme_kib)
        try:
            grown = {
                "rebuild_mib": await growth(rebuild(db, index)),
                "catch_up_mib": await growth(catch_up(db, index)),
                "reconcile_mib": await growth(compare(db, index)),
            }
        finally:
            await delete_search_indices(index)
    met = max(grown.values()) < AT_MOST_MIB
    what = {"figure": "rebuild_memory", "versions": versions, "readme_kib": readme_kib}
    return {**what, **grown, "at_most_mib": AT_MOST_MIB, "met": met}


@contextlib.contextmanager
def elasticsearch_url(folder: Path) -> Iterator[str]:
    if given := os.environ.get("REGISTRY_TEST_ES_URL"):
        yield given
        return
    java = find_java([], search_path=os.environ["PATH"])
    home = elasticsearch_home(cache_folder(os.environ))
    with Elasticsearch(home, java, folder / "elasticsearch", brief=True, environ=os.environ) as server:
        yield server.url


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.rebuild_memory", description=__doc__)
    parser.add_argument("--versions", type=int, default=5_000)
    parser.add_argument("--readme-kib", type=int, default=512)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="synapse-bench-") as text:
        folder = Path(text)
        # As root the servers run as another user.
        folder.chmod(0o755)
        with (
            Postgres(folder / "postgres", durable=False, environ=os.environ) as server,
            elasticsearch_url(folder) as es,
        ):
            migrate.upgrade(Settings.read({"REGISTRY_DB_URL": server.url()}).database)
            line = asyncio.run(measure(server.url(), es, options.versions, options.readme_kib))
    print(json.dumps(line))
    sys.exit(0 if line["met"] else 1)


if __name__ == "__main__":
    main()
