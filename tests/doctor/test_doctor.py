"""The tests break each part on purpose. The doctor must find the fault with the right check and repair it."""

import json
import os
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from elasticsearch import AsyncElasticsearch

from registry.accounts.identity import Principal
from registry.db.engine import Statement
from registry.doctor.check import Registry
from registry.doctor.examine import CLEAN, INCOMPLETE, WRONG, Report, all_checks, examine, opened
from registry.doctor.report import as_text
from registry.doctor.runs import keep
from registry.doctor.runs.keep import last_runs
from registry.downloads.journal import Journal
from registry.downloads.store import Download
from registry.errors import Forbidden
from registry.search.documents import PACKAGES, VERSIONS
from registry.settings import Settings
from tests.client import delete_search_indices
from tests.doctor.conftest import catch_up
from tests.service import run_command

DAY = 86_400


async def look(registry: Registry, *, repair: bool = False, deep: bool = True) -> Report:
    return await examine(registry, all_checks(registry, deep=deep), repair=repair)


def found(report: Report) -> dict[str, int]:
    return {result.name: result.found for result in report.results if result.found or result.problem}


async def sql(registry: Registry, text: str, **values: Any) -> int:
    async with registry.db.transaction() as conn:
        return await conn.run(Statement(text, {}), **values)


async def value(registry: Registry, text: str) -> Any:
    async with registry.db.read() as conn:
        return await conn.value(Statement(text, {}))


def storage_folder(registry: Registry) -> Path:
    return Path(registry.settings.storage.path)


def spool_folder(registry: Registry) -> Path:
    return registry.settings.limits.spool_path


def blob(registry: Registry, package: str, version: str) -> Path:
    [file] = (storage_folder(registry) / "blobs" / package).glob(f"{version}-*")
    return file


Break = Callable[[Registry], Awaitable[object]]


def statement(*texts: str) -> Break:
    """Changes rows by hand. Each statement must change at least one row."""

    async def run(registry: Registry) -> None:
        for text in texts:
            assert await sql(registry, text) > 0, text

    return run


def version(name: str, number: str) -> str:
    return (
        "(SELECT v.id FROM package_versions v JOIN packages p ON p.id = v.package_id "
        f"WHERE p.name = '{name}' AND v.version = '{number}')"
    )


async def leave_orphans(registry: Registry) -> None:
    folder = storage_folder(registry)
    for path in (folder / "blobs" / "alpha" / "9.9.9" / "nobody.tar.gz", folder / "tmp" / "cut-off"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"nobody's")
        os.utime(path, (time.time() - 2 * DAY,) * 2)


async def spool_downloads(registry: Registry) -> None:
    async with registry.db.read() as conn:
        row = await conn.one(Statement(f"SELECT * FROM package_versions WHERE id = {version('gamma', '1.1.0')}", {}))
    given = dict.fromkeys(("client_hash", "kind", "client", "system", "country", "rule", "user_agent"), "x")
    download = Download(
        at=datetime.now(UTC), version_id=row.id, package_id=row.package_id, package=None, version=None, address=None,
        status=200, bytes=1, **given,
    )  # fmt: skip
    dead = Journal(spool_folder(registry))
    dead.append([orjson.dumps(download)] * 2)
    dead.close()


async def leave_spool(registry: Registry) -> None:
    (spool_folder(registry) / "process-1-dead").mkdir()
    (spool_folder(registry) / "cut-off.tmp").write_bytes(b"[")
    os.utime(spool_folder(registry) / "cut-off.tmp", (time.time() - 2 * DAY,) * 2)


def in_index(kind: str, id_: str, document: dict[str, Any] | None) -> Break:
    """Writes a document that no consumer wrote, or deletes it if `document` is None."""

    async def run(registry: Registry) -> None:
        async with AsyncElasticsearch(registry.settings.search.url) as client:
            index = registry.index.alias(kind) if kind in (PACKAGES, VERSIONS) else await _month(client, registry, kind)
            if document is None:
                await client.delete(index=index, id=id_, refresh=True)
            else:
                await client.update(index=index, id=id_, doc=document, doc_as_upsert=True, refresh=True)

    return run


async def _month(client: AsyncElasticsearch, registry: Registry, kind: str) -> str:
    [name] = (await client.indices.get(index=f"{registry.settings.search.prefix}{kind}-*", features="aliases")).body
    return str(name)


async def lose_the_index(registry: Registry) -> None:
    await delete_search_indices(registry.index)


GHOST = {"name": "ghost", "version": "1.0.0", "sort_key": "~", "downloads": 0}
OF_LOG = {"event": {"dataset": "registry.events"}}
# Name of the fault, how to cause it, and the checks that find it with their counts when earlier faults are repaired in
# the same run. All faults of one round are caused together, so none of them may hide or repair another.
Round = dict[str, tuple[Break, dict[str, int]]]
MISSING: Round = {
    "a download that dashboards miss": (
        in_index("registry-downloads", "download-1", None),
        {"dashboard downloads": 1},
    ),
    "an event that dashboards miss": (in_index("registry-events", "event-1", None), {"dashboard events": 1}),
    "a tombstone that nobody sweeps": (
        statement(
            "UPDATE package_versions SET deleted_at = now() - interval '30 days' "
            f"WHERE id = {version('gamma', '1.0.0')}"
        ),
        {"tombstones": 1},
    ),
    "orphans": (leave_orphans, {"orphans": 2}),
    "what dead processes left": (leave_spool, {"spool leftovers": 2}),
    "a key for look-alikes": (
        statement("UPDATE packages SET similarity_key = 'other' WHERE name = 'beta-two'"),
        {"names": 1},
    ),
    "the order of a version": (
        statement(
            f"UPDATE package_versions SET sort_key = '~', canonical = 'x' WHERE id = {version('alpha', '1.0.0')}"
        ),
        {"versions": 1},
    ),
    "the days of versions": (
        statement(
            f"UPDATE download_days SET count = count + 5 WHERE package_version_id = {version('alpha', '1.1.0')}",
            f"DELETE FROM download_days WHERE package_version_id = {version('alpha', '1.0.0')}",
            "INSERT INTO download_days (package_id, day, package_version_id, count) "
            "SELECT package_id, current_date, id, 7 FROM package_versions WHERE deleted_at IS NOT NULL",
        ),
        {"downloads by day": 4},
    ),
    "words that PostgreSQL misses": (
        statement(
            "DELETE FROM package_words WHERE package_id = (SELECT id FROM packages WHERE name = 'alpha')",
            "UPDATE package_words SET words = $$'forged'$$ "
            "WHERE package_id = (SELECT id FROM packages WHERE name = 'gamma')",
        ),
        {"package words": 2},
    ),
    "a document that is missing": (in_index(PACKAGES, "alpha", None), {"search documents": 1}),
    "a document written by hand": (
        in_index(VERSIONS, "alpha@1.1.0", {"description": "forged"}),
        {"search documents": 1},
    ),
    "a document of nothing": (in_index(PACKAGES, "ghost", GHOST), {"search documents": 1}),
    "a count that drifted": (in_index(PACKAGES, "gamma", {"downloads": 90_000}), {"search documents": 1}),
}
SURPLUS: Round = {
    "a download that never was": (in_index("registry-downloads", "download-99", {}), {"dashboard downloads": 1}),
    "an event that never was": (in_index("registry-events", "event-99", OF_LOG), {"dashboard events": 1}),
    "what a package shows": (
        statement(
            "UPDATE packages SET description = 'forged' WHERE name = 'alpha'",
            f"UPDATE packages SET latest_version_id = {version('beta-two', '1.0.0')} WHERE name = 'beta-two'",
            "UPDATE packages SET search_vector = NULL, keywords = '{}' WHERE name = 'gamma'",
        ),
        {"packages": 3, "search documents": 3},
    ),
    "unique downloads": (
        statement("UPDATE download_days SET unique_count = 0"),
        {"downloads by day": 3},
    ),
}
LOST: Round = {
    "an event that is lost": (
        statement(
            "DELETE FROM events WHERE type = 'version.published' AND package = 'beta-two' AND version = '1.1.0'",
            "DELETE FROM changes",  # a chain without these events does not fit any more, and nothing can repair it
        ),
        {"event numbers": 1, "events": 1},
    ),
    "events that said what is no more": (
        statement(
            "DELETE FROM events WHERE type IN ('version.deleted', 'version.restored') "
            "AND package = 'beta-two' AND version = '1.0.0'"
        ),
        {"event numbers": 1},
    ),
    "the event of a new package": (
        statement("DELETE FROM events WHERE seq = 1 AND type = 'package.created'"),
        {"event numbers": 1, "events": 1},
    ),
    "batches that nobody counts": (spool_downloads, {"spooled downloads": 1}),
    "the registry's days": (
        statement(
            "UPDATE registry_days SET count = count - 1",
            "INSERT INTO registry_days VALUES ('2020-01-01', 'ci', '', '', '', 3)",
        ),
        {"registry by day": 2},
    ),
    "a refused document": (
        statement(
            "INSERT INTO index_failures (document, package, seq, reason) VALUES "
            "('packages:alpha', 'alpha', 1, 'too long'), ('versions:alpha@1.1.0', 'alpha', 1, 'too long'), "
            "('versions:ghost@1.0.0', 'ghost', 1, 'too long')"
        ),
        {"refused documents": 3},
    ),
}
UNTOLD: Round = {
    "rows that were changed without an event": (
        statement(
            f"UPDATE package_versions SET deleted_at = now() WHERE id = {version('alpha', '1.0.0')}",
            f"UPDATE package_versions SET deleted_at = NULL WHERE id = {version('beta-two', '2.0.0-rc.1')}",
            f"UPDATE package_versions SET yanked = true WHERE id = {version('beta-two', '1.0.0')}",
            f"UPDATE package_versions SET yanked = false WHERE id = {version('alpha', '1.0.0')}",
            "UPDATE packages SET deprecated = CASE name WHEN 'gamma' THEN NULL ELSE 'old' END WHERE name <> 'beta-two'",
            "UPDATE packages SET quarantine_reason = 'malware', latest_version_id = NULL WHERE name = 'beta-two'",
        ),
        {"events": 7, "package words": 1},
    ),
    "the count of a version": (
        statement("UPDATE package_versions SET download_count = 77 WHERE version = '1.1.0'"),
        {"version counts": 3},
    ),
}
MISCOUNTED: Round = {
    "a package hidden by hand": (
        statement("UPDATE packages SET latest_version_id = NULL WHERE name = 'alpha'"),
        {"packages": 1, "search documents": 1},
    ),
    "the count of a package": (
        statement("UPDATE packages SET download_count = download_count + 1"),
        {"package counts": 3},
    ),
    "the days of packages": (
        statement(
            "UPDATE package_days SET count = count + 1",
            "INSERT INTO package_days (package_id, day, count) SELECT id, '2020-02-02', 5 FROM packages "
            "WHERE name = 'gamma'",
        ),
        {"packages by day": 4},
    ),
    "the clients of days": (
        statement(
            "UPDATE package_clients SET clients = clients + 1",
            "INSERT INTO package_clients (package_id, day, clients) SELECT id, current_date - 1, 5 FROM packages "
            "WHERE name = 'gamma'",
        ),
        {"clients by day": 4},
    ),
    "the numbers of packages and versions": (
        statement(
            "UPDATE totals SET packages = packages + 300, versions = versions - 300 WHERE slot = 7",
            "DELETE FROM totals WHERE slot = 9",
        ),
        {"totals": 3},
    ),
    "a dependent that needs nothing": (
        statement("INSERT INTO dependents SELECT 'elsewhere', name, id, '^1' FROM packages WHERE name = 'gamma'"),
        {"dependents": 1},
    ),
}
STARTED_OVER: Round = {
    "the search indices": (lose_the_index, {"search indices": 1}),
    "a consumer beyond its log": (
        statement("UPDATE consumers SET seq = seq + 1000"),
        {"cursors": 8},
    ),
}


async def test_clients_that_the_doctor_counted_are_not_counted_again(resting: Registry) -> None:
    """The consumer starts again from the first download, and the doctor has counted all of them."""
    clients = "SELECT array_agg((package_id, day, clients)::text ORDER BY package_id, day) FROM package_clients"
    before = await value(resting, clients)
    await sql(resting, "UPDATE package_clients SET clients = 0")
    await sql(resting, "DELETE FROM day_clients")
    await sql(resting, "UPDATE consumers SET seq = 0 WHERE name = 'clients'")
    repaired = found(await look(resting, repair=True))
    assert "clients by day" not in repaired  # they may still be counted
    await sql(resting, "UPDATE package_clients SET clients = 99")
    assert found(await look(resting, repair=True))["clients by day"] == len(before)
    await catch_up(resting)
    assert await value(resting, clients) == before
    assert (await look(resting)).status == CLEAN


async def test_each_fault_is_found_by_its_check_and_repaired(resting: Registry) -> None:
    for together in (MISSING, SURPLUS, LOST, UNTOLD, MISCOUNTED, STARTED_OVER):
        for harm, _ in together.values():
            await harm(resting)
        expected: Counter[str] = Counter()
        for _, by_check in together.values():
            expected.update(by_check)
        seen = await look(resting)
        assert {next(iter(by_check)) for _, by_check in together.values()} <= set(found(seen)), (list(together), seen)
        assert seen.status == WRONG, (list(together), seen)
        repaired = await look(resting, repair=True)
        assert found(repaired) == expected, (list(together), repaired)
        assert repaired.status == CLEAN, (list(together), repaired)
        await catch_up(resting)
        clean = await look(resting)
        assert found(clean) == {}, (list(together), clean)


async def test_faults_without_a_repair_are_reported_until_somebody_fixes_them(resting: Registry) -> None:
    lost, cut, changed = (blob(resting, *each) for each in (("alpha", "1.0.0"), ("alpha", "1.1.0"), ("gamma", "1.1.0")))
    kept = [file.read_bytes() for file in (lost, cut, changed)]
    lost.unlink()
    cut.write_bytes(kept[1][:-1])
    changed.write_bytes(bytes(len(kept[2])))
    damaged = spool_folder(resting) / "x.downloads.damaged"
    damaged.write_bytes(b"[")
    index = "packages_downloads_idx"
    definition = await value(resting, f"SELECT indexdef FROM pg_indexes WHERE indexname = '{index}'")
    await sql(resting, f"DROP INDEX {index}")
    await sql(
        resting,
        "INSERT INTO events (seq, type, package_id, package, version, data) SELECT (SELECT max(seq) + 1 FROM events), "
        "'version.published', id, name, '7.0.0', '{}' FROM packages WHERE name = 'alpha'",
    )
    chained = await value(resting, "SELECT encode(hash, 'hex') FROM changes WHERE seq = 2")
    await sql(resting, "UPDATE changes SET hash = sha256('x') WHERE seq = 2")
    await sql(
        resting,
        "INSERT INTO packages (name, similarity_key, owner_id) "
        "SELECT 'empty', 'empty', id FROM users WHERE username = 'ada'",
    )
    without_owner = "DELETE FROM package_owners USING packages WHERE package_id = id AND name IN ('alpha', 'empty')"
    assert await sql(resting, without_owner) == 2
    of_gamma = f"WHERE id = {version('gamma', '2.0.0-rc.1')}"
    await sql(resting, f"UPDATE package_versions SET tarball_path = '../' || tarball_path {of_gamma}")
    expected = {
        "schema objects": 1, "tarballs": 3, "contents": 2, "owners": 1, "published rows": 1, "change chain": 1,
        "damaged downloads": 1,
    }  # fmt: skip
    report = await look(resting, repair=True)
    assert found(report) == expected
    assert report.status == WRONG
    assert {result.name: result.left for result in report.results if result.left} == expected
    text = as_text(report)
    for part in (
        "alpha 1.0.0",
        "is missing",
        f"has {len(kept[1]) - 1} bytes",
        "gamma 1.1.0",
        index,
        "Change 2",
        "To do by hand",
    ):
        assert part in text
    assert found(await look(resting, deep=False)).get("contents") is None
    for file, content in zip((lost, cut, changed), kept, strict=True):
        file.write_bytes(content)
    damaged.unlink()
    await sql(resting, f"UPDATE package_versions SET tarball_path = substr(tarball_path, 4) {of_gamma}")
    await sql(resting, definition)
    await sql(resting, "DELETE FROM events WHERE version = '7.0.0'")
    [add_owner] = re.findall("INSERT INTO package_owners .*;", text)
    await sql(resting, add_owner.replace("PACKAGE", "alpha").replace("USER", "ada"))
    await sql(resting, f"UPDATE changes SET hash = decode('{chained}', 'hex') WHERE seq = 2")
    assert found(await look(resting)) == {}


async def test_no_other_check_runs_on_an_older_schema(resting: Registry) -> None:
    [revision] = [await value(resting, "SELECT version_num FROM alembic_version")]
    await sql(resting, "UPDATE alembic_version SET version_num = '0001'")
    report = await look(resting, repair=True)
    assert [(result.name, result.found) for result in report.results] == [("schema revision", 1)]
    assert report.status == WRONG
    await sql(resting, f"UPDATE alembic_version SET version_num = '{revision}'")
    assert (await look(resting)).status == CLEAN


async def test_without_elasticsearch_all_other_checks_run(settings: Settings, environ: dict[str, str]) -> None:
    alone = {name: text for name, text in environ.items() if not name.startswith("REGISTRY_ES_")}
    async with opened(Settings.read(alone), lambda _: None) as registry:
        report = await look(registry)
    assert (report.status, found(report)) == (CLEAN, {})
    assert not [result.name for result in report.results if "search" in result.name or "dashboard" in result.name]
    async with opened(Settings.read({**environ, "REGISTRY_ES_URL": "http://127.0.0.1:9"}), lambda _: None) as registry:
        report = await look(registry)
    assert report.status == INCOMPLETE
    unmade = [result.name for result in report.results if result.problem]
    assert unmade == ["search indices", "search documents", "dashboard downloads", "dashboard events"]
    assert "could not be checked" in as_text(report)


async def test_the_command_reports_by_exit_status_text_and_json(
    settings: Settings, environ: dict[str, str], tmp_path: Path
) -> None:
    status, out, err = await run_command(tmp_path, "doctor", **environ)
    assert (status, out.splitlines()[-1], err) == (0, "Nothing is wrong.", "")
    async with opened(settings, lambda _: None) as registry:
        await sql(registry, "UPDATE packages SET download_count = 5 WHERE name = 'gamma'")
    status, out, _ = await run_command(tmp_path, "doctor", **environ)
    assert status == 1
    assert "    gamma: 5 instead of 0\n" in out
    assert "  --repair would: count again" in out
    assert out.splitlines()[-1] == "2 found."
    status, out, _ = await run_command(tmp_path, "doctor", "--repair", "--json", "--deep", **environ)
    answer = json.loads(out)
    assert (status, answer["status"], answer["repaired"]) == (0, 0, True)
    assert {each["name"]: (each["found"], each["left"]) for each in answer["checks"] if each["found"]} == {
        "package counts": (1, 0)
    }
    assert "contents" in [each["name"] for each in answer["checks"]]
    async with opened(settings, lambda _: None) as registry:
        root = Principal(1, "root", "admin", 1)
        repairing, finding, clean = await last_runs(registry.db, root)
        with pytest.raises(Forbidden):
            await last_runs(registry.db, Principal(2, "ada", "user", 1))
        await keep.save(
            registry.db, {"checks": [{"left": 1, "examples": ["\0" + "x" * 5000]}]}, seconds=1, is_deep=False
        )
        [newest] = await last_runs(registry.db, root, 1)
        for _ in range(30):
            await keep.save(registry.db, {"checks": []}, seconds=1, is_deep=False)
        assert len(await last_runs(registry.db, root, 100)) == 20
    assert (clean.left, finding.left, repairing.left) == (0, 2, 0)
    assert (clean.is_deep, repairing.is_deep, repairing.report["checks"]) == (False, True, answer["checks"])
    assert newest.report["checks"][0]["examples"] == ["\ufffd" + "x" * 499 + "…"]
    away = {**environ, "REGISTRY_DB_URL": "postgresql://registry@127.0.0.1:9/registry"}
    status, out, err = await run_command(tmp_path, "doctor", **away)
    assert (status, out) == (2, "")
    assert "PostgreSQL can't be reached" in err
