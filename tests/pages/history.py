"""Writes the past of a seeded registry to its database: dates, a year of downloads, provenance, deliveries, jobs."""

import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg2
from psycopg2.extras import Json, execute_values

from registry.search.indexing import CONSUMER
from tests.pages.seed_packages import LATEST, MAIN, Package

DAYS = 370
"""How many days have downloads."""
PUBLIC_HOOK = "https://hooks.brook.example/packages"
TRAITS = (
    # (kind, client, system, country, share)
    ("ci", "synapse-cli", "Linux", "DE", 0.46),
    ("human", "synapse-cli", "macOS", "US", 0.27),
    ("human", "pip", "Windows", "IN", 0.14),
    ("mirror", "Nexus", "Linux", "JP", 0.09),
    ("bot", "Renovate", "", "", 0.04),
)
COMMIT = "4be19c2e07d1a5538a1f0c6de4c5b9c3b1f2a6d7"


def make_admin(db_url: str, username: str) -> None:
    with _cursor(db_url) as cursor:
        cursor.execute("UPDATE users SET role = 'admin' WHERE username = %s", (username,))


def is_indexed(db_url: str) -> bool:
    """Whether the search index has all packages."""
    with _cursor(db_url) as cursor:
        cursor.execute(
            "SELECT coalesce((SELECT seq FROM consumers WHERE name = %s), 0) >= (SELECT max(seq) FROM events)",
            (CONSUMER,),
        )
        return bool(cursor.fetchone()[0])


def write(db_url: str, packages: Sequence[Package]) -> None:
    """Adds the past of `packages`, which were published just now."""
    with _cursor(db_url) as cursor:
        for package in packages:
            _set_dates(cursor, package)
        _write_downloads(cursor, packages)
        _write_provenance(cursor)
        _write_deliveries(cursor)
        _write_jobs(cursor)
        _write_for_admins(cursor)


@contextmanager
def _cursor(db_url: str) -> Iterator[Any]:
    with closing(psycopg2.connect(db_url)) as connection, connection, connection.cursor() as cursor:
        yield cursor


def _set_dates(cursor: Any, package: Package) -> None:
    """Spreads the versions between the age of the package and that of its latest version."""
    now = datetime.now(UTC)
    cursor.execute(
        "SELECT v.id FROM package_versions v JOIN packages p ON p.id = v.package_id WHERE p.name = %s "
        "ORDER BY v.sort_key",
        (package.name,),
    )
    ids = [row[0] for row in cursor.fetchall()]
    first, last = now - package.age, now - package.fresh
    step = (last - first) / max(len(ids) - 1, 1)
    dates = [(last - step * (len(ids) - 1 - n), id_) for n, id_ in enumerate(ids)]
    cursor.executemany("UPDATE package_versions SET published_at = %s WHERE id = %s", dates)
    cursor.execute(
        "UPDATE packages SET created_at = %s, updated_at = %s WHERE name = %s", (dates[0][0], last, package.name)
    )


def _write_downloads(cursor: Any, packages: Sequence[Package]) -> None:
    cursor.execute(
        "SELECT p.name, p.id, v.id, v.published_at FROM package_versions v JOIN packages p ON p.id = v.package_id "
        "ORDER BY p.name, v.sort_key"
    )
    versions: dict[str, list[tuple[int, int, date]]] = {}
    for name, package_id, version_id, published_at in cursor.fetchall():
        versions.setdefault(name, []).append((package_id, version_id, published_at.astimezone(UTC).date()))
    rows = [row for package in packages for row in _days_of(package, versions[package.name])]
    execute_values(
        cursor,
        "INSERT INTO download_days (package_id, package_version_id, day, kind, client, system, country, count, "
        "unique_count) VALUES %s",
        rows,
        page_size=5000,
    )
    cursor.execute("""
        INSERT INTO registry_days (day, kind, client, system, country, count, unique_count)
        SELECT day, kind, client, system, country, sum(count), sum(unique_count) FROM download_days
        GROUP BY 1, 2, 3, 4, 5;
        UPDATE packages SET download_count = s.total
        FROM (SELECT package_id, sum(count) AS total FROM download_days GROUP BY 1) s WHERE id = s.package_id;
        UPDATE package_versions SET download_count = s.total
        FROM (SELECT package_version_id, sum(count) AS total FROM download_days GROUP BY 1) s
        WHERE id = s.package_version_id
    """)


def _days_of(package: Package, versions: list[tuple[int, int, date]]) -> Iterator[tuple[Any, ...]]:
    """Rows of download_days. Weekends are quiet, and most downloads are of the newest version of their day."""
    chance, today = random.Random(package.name), datetime.now(UTC).date()
    for ago in range(DAYS):
        day = today - timedelta(days=ago)
        known = [each for each in versions if each[2] <= day]
        if not known:
            return
        base = package.weekly / 7 * package.growth ** (-ago / 7) * (1 + 0.25 * math.sin(ago / 19))
        total = base * (0.35 if day.weekday() >= 5 else 1.25) * chance.uniform(0.8, 1.2)
        counts: Counter[tuple[int, int, int]] = Counter()
        for which, share in ((-1, 0.8), (-2, 0.2)):
            package_id, version_id, _ = known[max(which, -len(known))]
            for trait, (*_, part) in enumerate(TRAITS):
                counts[package_id, version_id, trait] += round(total * share * part)
        for (package_id, version_id, trait), count in counts.items():
            if count:
                yield package_id, version_id, day, *TRAITS[trait][:4], count, math.ceil(count * 0.7)


def _write_provenance(cursor: Any) -> None:
    """The newest version of MAIN comes from a workflow."""
    provenance = {
        "kind": "github", "issuer": "https://token.actions.githubusercontent.com", "repository": "brook/brook-http",
        "commit": COMMIT, "ref": f"refs/tags/v{LATEST}", "workflow": "release.yml",
        "run_url": "https://github.com/brook/brook-http/actions/runs/1234567890",
    }  # fmt: skip
    cursor.execute(
        "UPDATE package_versions v SET provenance = %s FROM packages p WHERE p.id = v.package_id AND p.name = %s AND "
        "v.version = %s",
        (Json(provenance), MAIN, LATEST),
    )


def _write_deliveries(cursor: Any) -> None:
    """Gives webhooks a public address and the first one deliveries. One webhook is disabled, so nothing is sent."""
    cursor.execute(
        "UPDATE webhooks SET url = %s || CASE WHEN id = 1 THEN '' ELSE '/' || id END, host = 'hooks.brook.example:443'",
        (PUBLIC_HOOK,),
    )
    cursor.execute(
        "UPDATE webhooks SET disabled_at = now(), disabled_reason = 'It failed for three days.' WHERE id = 2"
    )
    now = datetime.now(UTC)
    good = {"status": 200, "ms": 84, "error": None, "response": "ok"}
    bad = {"status": 503, "ms": 1502, "error": "The answer was 503.", "response": "try again later"}
    for number in range(12):
        at = now - timedelta(hours=5 * (12 - number))
        state = "failed" if number == 6 else "delivered"
        outcomes = [bad] * 3 if state == "failed" else [bad, good] if number % 5 == 0 else [good]
        attempts = [{"at": (at + timedelta(minutes=n)).isoformat(), **each} for n, each in enumerate(outcomes)]
        kind = "ping" if number == 0 else "version.yanked" if number == 8 else "version.published"
        cursor.execute(
            "INSERT INTO webhook_deliveries (webhook_id, seq, type, state, due_at, tries, attempts, created_at) "
            "VALUES (1, %s, %s, %s, %s, %s, %s, %s)",
            (number or None, kind, state, at, len(attempts), Json(attempts), at),
        )


def _write_jobs(cursor: Any) -> None:
    """Two dead jobs and one that failed and waits for its next attempt."""
    for state, attempts, error in (
        ("dead", 10, "ConnectionRefusedError: [Errno 111] Connect call failed ('127.0.0.1', 25)"),
        ("dead", 10, "TimeoutError: The mail server did not answer within 10 seconds."),
        ("queued", 3, "SMTPServerDisconnected: Connection lost"),
    ):
        cursor.execute(
            "INSERT INTO jobs (kind, payload, state, run_at, attempts, max_attempts, last_error) "
            "VALUES ('example mail', '{\"mail\": 7}', %s, now() + interval '6 hours', %s, 10, %s)",
            (state, attempts, error),
        )


def _write_for_admins(cursor: Any) -> None:
    """Two reserved names, and two runs of the doctor, of which the last found a lost tarball."""
    cursor.execute(
        "INSERT INTO reserved_names (name, similarity_key, reason, user_id) "
        "SELECT each, each, 'A name of our products', id FROM users, unnest(ARRAY['brook-studio', 'brook-cloud']) each "
        "WHERE role = 'admin'"
    )
    checks = (
        ("tarballs", "every version has its tarball in the storage", "restore it from a backup", False, 1),
        ("package counts", "the counters of a package are the sums of those of its versions", "count again", True, 0),
        ("late jobs", "every job that is due runs within an hour", "start a worker", False, 0),
    )
    for night, broken in ((2, False), (1, True)):
        results = [
            {
                "name": name, "law": law, "remedy": remedy, "mendable": mendable, "found": found * broken,
                "left": found * broken, "examples": ["tide-log 0.4.2: the storage has no such file"] * found * broken,
                "problem": None, "seconds": 0.4,
            }
            for name, law, remedy, mendable, found in checks
        ]  # fmt: skip
        report = {"status": int(broken), "repaired": False, "checks": results}
        cursor.execute(
            "INSERT INTO doctor_runs (finished_at, seconds, is_deep, report) "
            "VALUES (now() - make_interval(hours => %s), 41.7, false, %s)",
            (24 * night - 8, Json(report)),
        )
