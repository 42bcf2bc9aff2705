"""The SQL that writes the lexemes of packages."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from registry.db.engine import Connection, Row, statement
from registry.search.documents import MAX_README

_TEXTS = f"""
    SELECT packages.id, packages.name, packages.description, packages.keywords, packages.author, packages.license,
           left(latest.readme, {MAX_README}) AS readme, latest.id IS NOT NULL AS is_shown
    FROM packages LEFT JOIN package_versions latest ON latest.id = packages.latest_version_id
"""
_TEXTS_OF = statement(sa.text(f"{_TEXTS} WHERE packages.id = ANY (CAST(:ids AS bigint[])) ORDER BY packages.id"))
_TEXTS_AFTER = statement(sa.text(f"{_TEXTS} WHERE packages.id > :after ORDER BY packages.id LIMIT :count"))
_CHANGED = statement(
    sa.text("""
    SELECT changed.id FROM unnest(CAST(:ids AS bigint[]), CAST(:seqs AS bigint[])) AS changed (id, seq)
    LEFT JOIN package_words ON package_words.package_id = changed.id
    WHERE package_words.seq IS NULL OR package_words.seq < changed.seq OR package_words.analysis < :analysis
    """)
)
_OUTDATED = statement(
    sa.text("""
    SELECT package_id FROM package_words WHERE analysis < :analysis ORDER BY analysis, package_id LIMIT :count
    """)
)
_DIFFERENT = statement(
    sa.text("""
    SELECT computed.id FROM unnest(CAST(:ids AS bigint[]), CAST(:vectors AS text[])) AS computed (id, words)
    LEFT JOIN package_words ON package_words.package_id = computed.id
    WHERE coalesce(package_words.words, '') <> CAST(computed.words AS tsvector)
    """)
)
# The newer of two writes stays, whichever comes first.
_WRITE = statement(
    sa.text("""
    INSERT INTO package_words (package_id, seq, analysis, words)
    SELECT id, :seq, :analysis, CAST(words AS tsvector)
    FROM unnest(CAST(:ids AS bigint[]), CAST(:vectors AS text[])) AS written (id, words) ORDER BY id
    ON CONFLICT (package_id) DO UPDATE
    SET seq = excluded.seq, analysis = excluded.analysis, words = excluded.words
    WHERE package_words.seq <= excluded.seq
    """)
)


async def texts_of(conn: Connection, ids: Sequence[int]) -> list[Row]:
    """The texts of packages by id, and `is_shown`; the README is NULL and the others are outdated if it is false."""
    return await conn.all(_TEXTS_OF, ids=list(ids))


async def texts_after(conn: Connection, after: int, count: int) -> list[Row]:
    """As `texts_of`, for up to `count` packages with an id above `after`, by id."""
    return await conn.all(_TEXTS_AFTER, after=after, count=count)


async def changed(conn: Connection, seqs: Mapping[int, int], analysis: int) -> list[int]:
    """The ids in `seqs` whose lexemes are missing, older than the seq, or of an older analysis."""
    rows = await conn.all(_CHANGED, ids=list(seqs), seqs=list(seqs.values()), analysis=analysis)
    return [row.id for row in rows]


async def outdated(conn: Connection, analysis: int, count: int) -> list[int]:
    """The ids of up to `count` packages whose lexemes are of an older analysis."""
    return [row.package_id for row in await conn.all(_OUTDATED, analysis=analysis, count=count)]


async def different(conn: Connection, vectors: Mapping[int, str]) -> list[int]:
    """The ids in `vectors` for which other lexemes are stored. A package without a row has none."""
    rows = await conn.all(_DIFFERENT, ids=list(vectors), vectors=list(vectors.values()))
    return [row.id for row in rows]


async def write(conn: Connection, vectors: Mapping[int, str], *, seq: int, analysis: int) -> None:
    """Writes the lexemes of packages, as they were after the event `seq`. Newer ones stay."""
    await conn.run(_WRITE, ids=list(vectors), vectors=list(vectors.values()), seq=seq, analysis=analysis)
