"""Fills a registry with a catalogue of packages, for measuring at the size of a real one.

    python -m tests.bench.catalogue load --tsv FILE[.gz] [--copies N]

The file has the columns rank, name, downloads, summary, keywords and section. Works on what `make up` runs for the same
REGISTRY_DATA_DIR, else on REGISTRY_DB_URL, REGISTRY_ES_URL and the storage of the environment.

Rows go straight into PostgreSQL: one version 1.0.0 a package, its event, and its downloads as counted on one day two
months ago, so that every total is the sum of the days, while neither week nor month tells of downloads that weren't;
there is no row per download. As many clients as downloads are estimated for yesterday: popularity is made of clients.
The cursors of the search and of its words move along with the events, since the words are loaded, too, and the index is
rebuilt in the end. Names are kept as they are in the file: one that publishing would refuse is found by searching, and
can't be read by its address. Packages that exist stay as they are. All versions share one blob, so deleting one of them
sweeps it for all.
"""

import argparse
import asyncio
import csv
import gzip
import hashlib
import io
import json
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
from tqdm import tqdm

from registry.accounts.passwords import hash_password
from registry.db.engine import open_database
from registry.db.lock_numbers import APPEND_EVENT
from registry.devstack.up import ADDRESSES
from registry.events.log import CHANNEL, VERSION_PUBLISHED
from registry.package_format.versions import parse
from registry.search.fallback import consumer as words
from registry.search.fallback.lexemes import ANALYSIS, Texts, vector
from registry.search.index import open_search
from registry.search.indexing import CONSUMER
from registry.search.rebuild import rebuild
from registry.settings import Settings, environment
from registry.storage.base import BlobExists
from registry.storage.opened import open_storage
from tests.client import tarball

VERSION = parse("1.0.0")
OWNERS = 100
BLOB = "catalogue/1.0.0/shared.tar.gz"

STAGE = """
CREATE TEMP TABLE staged (
    name text COLLATE "C", description text, keywords text[], section text, downloads bigint, owner int, words text,
    package_id bigint DEFAULT nextval(pg_get_serial_sequence('packages', 'id')),
    version_id bigint DEFAULT nextval(pg_get_serial_sequence('package_versions', 'id'))
) ON COMMIT DROP
"""
# Each is one statement of the transaction that moves what is staged.
MOVES = (
    "DELETE FROM staged USING packages WHERE packages.similarity_key = translate(staged.name, '_', '-')",
    """
    INSERT INTO packages (id, name, similarity_key, description, keywords, search_vector, latest_version_id, owner_id,
                          download_count)
    SELECT package_id, name, translate(name, '_', '-'), description, keywords,
           to_tsvector('english', concat_ws(' ', translate(name, '-_', '  '), description, to_jsonb(keywords)::text)),
           version_id, users.id, downloads
    FROM staged JOIN users ON users.username = 'catalogue-' || owner
    """,
    """
    INSERT INTO package_versions (id, package_id, version, canonical, sort_key, is_prerelease, description, manifest,
                                  dependencies_json, keywords_json, checksum, tarball_path, tarball_size,
                                  download_count, published_by)
    SELECT version_id, package_id, %(version)s, %(version)s, %(sort_key)s, false, description,
           jsonb_build_object('name', name, 'version', %(version)s, 'description', description, 'section', section),
           '{}', to_jsonb(keywords), %(checksum)s, %(blob)s, %(size)s, downloads, users.id
    FROM staged JOIN users ON users.username = 'catalogue-' || owner
    """,
    """
    INSERT INTO download_days (package_id, day, package_version_id, kind, client, count)
    SELECT package_id, current_date - 60, version_id, 'unknown', 'Other', downloads FROM staged WHERE downloads > 0
    """,
    """
    INSERT INTO package_clients (package_id, day, clients, is_estimate)
    SELECT package_id, current_date - 1, downloads, true FROM staged WHERE downloads > 0
    """,
    """
    INSERT INTO registry_days (day, kind, client, count)
    SELECT current_date - 60, 'unknown', 'Other', sum(downloads) FROM staged HAVING sum(downloads) > 0
    ON CONFLICT (day, kind, client, system, country)
    DO UPDATE SET count = registry_days.count + excluded.count
    """,
    "SELECT pg_advisory_xact_lock(%(append_lock)s)",
    """
    INSERT INTO events (seq, type, package_id, package, version, actor_id, data)
    SELECT (SELECT coalesce(max(seq), 0) FROM events) + row_number() OVER (ORDER BY package_id),
           %(published)s, package_id, name, %(version)s, users.id,
           jsonb_build_object('checksum', %(checksum)s, 'size', %(size)s)
    FROM staged JOIN users ON users.username = 'catalogue-' || owner
    """,
    """
    INSERT INTO package_words (package_id, seq, analysis, words)
    SELECT package_id, (SELECT max(seq) FROM events), %(analysis)s, words::tsvector FROM staged ORDER BY package_id
    """,
    """
    UPDATE consumers SET seq = (SELECT coalesce(max(seq), 0) FROM events)
    WHERE name IN (%(search)s, %(words)s)
      AND seq = (SELECT coalesce(max(seq), 0) FROM events) - (SELECT count(*) FROM staged)
    """,
    "SELECT pg_notify(%(channel)s, '')",
)


@dataclass(frozen=True)
class Entry:
    """One package of the catalogue."""

    name: str
    summary: str
    keywords: tuple[str, ...]
    section: str
    downloads: int


def read_catalogue(path: Path) -> list[Entry]:
    """The entries of a tab-separated file with a line of headings, gzipped when its name ends so."""
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [
            Entry(
                row["name"],
                row["summary"] or "",
                tuple(keyword for keyword in (row.get("keywords") or "").split(",") if keyword),
                row.get("section") or "",
                int(float(row.get("downloads") or 0)),
            )
            for row in rows
            if row["name"]
        ]


def settings_of_what_runs() -> Settings:
    """Those of the environment, with the addresses of the stack that runs for its data folder."""
    environ = environment()
    running = Settings.read(environ).stack.data_dir / ADDRESSES
    addresses = json.loads(running.read_text(encoding="utf-8")) if running.exists() else {}
    settings = Settings.read({**addresses, **environ})
    if not settings.database.url or not settings.search.url:
        sys.exit("No registry is found. Run `make up`, or set REGISTRY_DB_URL and REGISTRY_ES_URL.")
    return settings


def store(connection: Any, entries: list[Entry], copy: int, shared: dict[str, Any]) -> int:
    """Moves one copy of the catalogue in, in one transaction; how many packages were new."""
    with connection, connection.cursor() as cursor:
        cursor.execute(STAGE)
        lines = tqdm(
            _lines(entries, copy), total=len(entries), unit="packages", desc=f"copy {copy}", leave=False, disable=None
        )
        columns = ("name", "description", "keywords", "section", "downloads", "owner", "words")
        cursor.copy_from(_Stream(lines), "staged", columns=columns)
        for move in MOVES:
            cursor.execute(move, shared)
        cursor.execute("SELECT count(*) FROM staged")
        return int(cursor.fetchone()[0])


def add_owners(connection: Any) -> None:
    """Accounts that nobody can sign in to."""
    unknown = asyncio.run(hash_password(secrets.token_urlsafe(), 100_000))
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO users (username, password_hash, role, is_active) "
            "SELECT 'catalogue-' || n, %s, 'user', false FROM generate_series(0, %s) AS n ON CONFLICT DO NOTHING",
            (unknown, OWNERS - 1),
        )


async def put_blob(settings: Settings) -> dict[str, Any]:
    """Stores the tarball that all versions share; its checksum and size."""
    data = tarball(name="catalogue", version=VERSION.text, description="Stands for every package of the catalogue")
    checksum = hashlib.sha256(data).hexdigest()
    async with open_storage(settings.storage) as storage:
        with tempfile.TemporaryDirectory() as folder, suppress(BlobExists):
            file = Path(folder) / "shared.tar.gz"
            file.write_bytes(data)
            await storage.put(BLOB, file, size=len(data), sha256=checksum)
    return {"checksum": checksum, "size": len(data)}


async def rebuild_index(settings: Settings) -> None:
    async with open_database(settings.database) as db, open_search(settings.search) as index:
        with tqdm(unit="documents", leave=False, disable=None) as bar:

            def show(kind: str, done: int, total: int) -> None:
                bar.desc, bar.total, bar.n = kind, total, done
                bar.refresh()

            await rebuild(db, index, show)


def load(settings: Settings, entries: list[Entry], copies: int = 1) -> int:
    """Puts `copies` of the catalogue into the registry and its index; how many packages were new."""
    shared = {
        "version": VERSION.text,
        "sort_key": VERSION.sort_key,
        "blob": BLOB,
        "append_lock": APPEND_EVENT,
        "published": VERSION_PUBLISHED,
        "search": CONSUMER,
        "words": words.CONSUMER,
        "analysis": ANALYSIS,
        "channel": CHANNEL,
        **asyncio.run(put_blob(settings)),
    }
    with closing(psycopg2.connect(settings.database.url)) as connection:
        add_owners(connection)
        new = sum(store(connection, entries, copy, shared) for copy in range(1, copies + 1))
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
    asyncio.run(rebuild_index(settings))
    return new


class _Stream(io.RawIOBase):
    """Lines as a file that COPY reads."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = iter(lines)

    def read(self, size: int = -1) -> bytes:
        return next(self._lines, b"")


def _lines(entries: list[Entry], copy: int) -> Iterator[bytes]:
    for number, entry in enumerate(entries):
        name = entry.name if copy == 1 else f"{entry.name}-copy{copy}"
        keywords = "{" + ",".join(json.dumps(keyword) for keyword in entry.keywords) + "}"
        lexemes = vector(Texts(name, entry.summary, entry.keywords, author="", license="", readme=""))
        fields = (name, entry.summary, keywords, entry.section, str(entry.downloads), str(number % OWNERS), lexemes)
        yield ("\t".join(field.replace("\\", "\\\\") for field in fields) + "\n").encode()


def main() -> None:
    parser = argparse.ArgumentParser(description="Fill a registry with a catalogue.")
    loading = parser.add_subparsers(required=True).add_parser("load")
    loading.add_argument("--tsv", type=Path, required=True)
    loading.add_argument("--copies", type=int, default=1, help="further ones have names with an ending")
    options = parser.parse_args()
    new = load(settings_of_what_runs(), read_catalogue(options.tsv), options.copies)
    print(f"{new:,} packages are new; the index is rebuilt.")


if __name__ == "__main__":
    main()
