"""The SQL of searches while Elasticsearch is unavailable: simpler ranking, but the same results, filters and cursors.

The table `package_words` has the lexemes of each package. A package that has none yet is found by its English full-text
search vector and by its exact name.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from registry.db.engine import Connection, Row, Statement, statement, together
from registry.search.fallback.asked import Asked, asked, in_name, mistyped, only_named
from registry.search.fallback.lexemes import folded
from registry.search.fallback.typos import is_similar, most_typos
from registry.search.fallback.values import escaped, values
from registry.search.request import BY_NAME, CREATED, DOWNLOADS, RELEVANCE, UPDATED, SearchRequest
from registry.search.terms import compact_form
from registry.web.cursor import Position

# What a match is worth, about as in search/clauses.py. Texts: the only word, each of several words, all of them side by
# side, each word if some are missing. Names: the beginning, also with its separators, the beginnings of words, a wrong
# letter, most trigrams. The strongest of text, name and typing error counts in full, the others by a share.
ONE_WORD, EACH_WORD, SIDE_BY_SIDE, SOME_WORDS = 25, 60, 15, 6
BEGINNING, AS_TYPED, NAME_WORDS, SLIP, TRIGRAMS = 90, 30, 3, 20, 8
LESSER = 0.2
LEAST_RANK = 0.15
POPULARITY, LEAST_MAX_DOWNLOADS, DEPRECATED_FACTOR = 14, 1000, 0.4
# Scores are between 0 and 0.9, and half of that for this evidence.
HALF_SCORE = 250
# More names with typing errors are not compared, or not found.
MOST_MISTYPED, MOST_SIMILAR = 5_000, 500


def _texts(name: str) -> str:
    return f"CAST(:{name} AS text[])"


def _has(name: str, words: str = "found.words") -> str:
    return f"{words} @@ CAST(:{name} AS tsquery)"


def _folded(column: str) -> str:
    """The column as folded() and lower() make it in Python, except for a few letters that don't decompose."""
    return f"lower(regexp_replace(normalize({column}, NFKD), '[\u0300-\u036f]', '', 'g'))"


# Candidates for results. `words` is NULL for a package without lexemes.
_MATCHED = f"""
    SELECT package_id, words, NOT :every_version AS is_filtered FROM package_words WHERE {_has("matching", "words")}
    UNION ALL
    SELECT id, NULL, false FROM packages
    WHERE (search_vector @@ websearch_to_tsquery('english', :websearch) OR similarity_key = :exact)
      AND NOT EXISTS (SELECT FROM package_words w WHERE w.package_id = packages.id)
"""
_EVERYTHING = "SELECT id AS package_id, CAST(NULL AS tsvector) AS words, false AS is_filtered FROM packages"

_AUTHOR, _LICENSE = _folded("shown.author"), _folded("shown.license")
_NAME = "('-' || translate(packages.name, '_', '-'))"
_KEYWORDS = f"ARRAY(SELECT {_folded('keyword')} FROM jsonb_array_elements_text(shown.keywords_json) keyword)"
# Filters for fields of versions. `matching` has them too, unless every version is searched.
_FIELDS_FIT = f"""
    (cardinality({_texts("authors")}) = 0 OR {_AUTHOR} LIKE ANY ({_texts("authors")}))
    AND (cardinality({_texts("licenses")}) = 0 OR {_LICENSE} = ANY ({_texts("licenses")}))
    AND {_KEYWORDS} @> {_texts("keywords")}
    AND {_AUTHOR} LIKE ALL ({_texts("q_authors")})
    AND {_LICENSE} = ALL ({_texts("q_licenses")})
    AND {_NAME} ~ ALL ({_texts("q_names")})
    AND NOT {_AUTHOR} LIKE ANY ({_texts("not_authors")})
    AND {_LICENSE} <> ALL ({_texts("not_licenses")})
    AND NOT {_KEYWORDS} && {_texts("not_keywords")}
    AND NOT {_NAME} ~ ANY ({_texts("not_names")})
"""
_MOST_TRIGRAMS = f"""
    (SELECT count(*) FROM unnest({_texts("trigrams")}) letters
     WHERE strpos(translate({{}}.name, '-_', ''), letters) > 0) >= :least_trigrams
"""
# A package is offered as long as one version of it is neither deleted nor yanked. For EXISTS, PostgreSQL would hash all
# versions of the registry for each search.
_OFFERED = """
    (SELECT offered.id FROM package_versions offered
     WHERE offered.package_id = packages.id AND offered.deleted_at IS NULL AND NOT offered.yanked LIMIT 1) IS NOT NULL
"""
# PostgreSQL expects a query with many lexemes to read most of the index, and would scan the table instead.
_BY_INDEX = Statement("SET LOCAL enable_seqscan = off", {})
_LATEST = f"shown.id = packages.latest_version_id AND {_OFFERED}"
_EVERY_VERSION = "shown.package_id = packages.id AND packages.latest_version_id IS NOT NULL AND NOT shown.yanked"
_MAX_POPULARITY = f"""
    (SELECT ln(1 + greatest({LEAST_MAX_DOWNLOADS}, max(download_count))) FROM packages most
     WHERE latest_version_id IS NOT NULL)
"""


def _found(matched: str, every_version: bool) -> str:
    return f"""
    FROM ({matched}) AS found
    JOIN packages ON packages.id = found.package_id
    JOIN package_versions shown ON {_EVERY_VERSION if every_version else _LATEST}
    WHERE shown.deleted_at IS NULL
      AND (found.is_filtered OR ({_FIELDS_FIT}))
      AND (:counts_no_trigrams OR found.words IS NULL OR {_has("sure")} OR {_MOST_TRIGRAMS.format("packages")})
      AND (:prerelease OR NOT shown.is_prerelease)
      AND ({_texts("within")} IS NULL OR packages.name = ANY ({_texts("within")}))
    """


def _score(package: str, words: str) -> str:
    """Joins `score`, from 0 to 1, to rows. `package` has the columns of a package, and `words` are its lexemes.

    OFFSET 0 keeps PostgreSQL from calculating a value again wherever it is used.
    """
    return f"""
    CROSS JOIN LATERAL (
        SELECT coalesce(
            ts_rank('{{0.05, 0.1, 0.2, 1.0}}', {words}, CAST(:ranked AS tsquery)),
            ts_rank({package}.search_vector, websearch_to_tsquery('english', :websearch)), 0
        ) AS rank OFFSET 0
    ) ranking
    CROSS JOIN LATERAL (
        SELECT
            CASE WHEN coalesce({_has("every", words)}, true) THEN
                     greatest(rank, {LEAST_RANK}) * :word_worth
                     + CASE WHEN {_has("phrase", words)} THEN {SIDE_BY_SIDE} ELSE 0 END
                 ELSE rank * :words * {SOME_WORDS} END AS in_texts,
            CASE WHEN {_has("beginning", words)} THEN {BEGINNING} ELSE 0 END
            + CASE WHEN {package}.name LIKE :as_typed THEN {AS_TYPED} ELSE 0 END
            + CASE WHEN {_has("name_words", words)} THEN {NAME_WORDS} ELSE 0 END AS in_name,
            CASE WHEN {_has("slip", words)} THEN {SLIP} + {TRIGRAMS} WHEN {_MOST_TRIGRAMS.format(package)}
                 THEN {TRIGRAMS} ELSE 0 END AS nearly
        OFFSET 0
    ) kinds
    CROSS JOIN LATERAL (
        SELECT CASE WHEN :has_text THEN (1 - {LESSER}) * greatest(in_texts, in_name, nearly)
                    + {LESSER} * (in_texts + in_name + nearly) ELSE 0.01 END
            * (1 + {POPULARITY} * (ln(1 + {package}.download_count) / {_MAX_POPULARITY}) ^ 2)
            * CASE WHEN {package}.deprecated IS NULL THEN 1 ELSE {DEPRECATED_FACTOR} END AS evidence
        OFFSET 0
    ) evident
    CROSS JOIN LATERAL (
        SELECT CAST(
            CASE WHEN :has_text AND {package}.deprecated IS NULL AND {package}.similarity_key = :exact
                 THEN CASE WHEN {package}.name = :typed THEN 1 ELSE 0.98 END
                 WHEN :has_text AND {package}.deprecated IS NULL AND translate({package}.name, '-_', '') = :compact
                 THEN 0.93
                 ELSE 0.9 * evidence / (evidence + {HALF_SCORE}) END AS double precision
        ) AS score OFFSET 0
    ) scored
    """


_MILLISECONDS = "CAST(floor(extract(epoch FROM {}) * 1000) AS bigint)"
"""A time as the index stores it, so that cursors work in both."""


def _columns(every_version: bool) -> dict[str, str]:
    """The values that depend on whether a result is a package or a version."""
    if every_version:
        return {"downloads": "shown.download_count", "updated": "shown.published_at", "created": "shown.published_at"}
    return {"downloads": "packages.download_count", "updated": "packages.updated_at", "created": "packages.created_at"}


def _value(sort: str, columns: dict[str, str]) -> str:
    """What results are sorted by, and what a cursor contains."""
    if sort == DOWNLOADS:
        return columns["downloads"]
    if sort in (UPDATED, CREATED):
        return _MILLISECONDS.format(columns["updated" if sort == UPDATED else "created"])
    return "0"


def _page(sort: str, every_version: bool, matched: str) -> Statement:
    """The statement for one page. `total` is the number of results from the cursor on."""
    columns = _columns(every_version)
    by_relevance = sort == RELEVANCE
    order = "name, sort_key DESC"
    after = "(name > :after_name OR (name = :after_name AND sort_key < :after_key))"
    if by_relevance:
        order = f"score DESC, downloads DESC, {order}"
    elif sort != BY_NAME:
        order = f"value DESC, {order}"
        after = f"(value < :after_value OR (value = :after_value AND {after}))"
    candidates = f"""
        SELECT packages.id, shown.id AS version_id, packages.name, packages.similarity_key, packages.search_vector,
               packages.deprecated, packages.download_count, shown.sort_key, {columns["downloads"]} AS downloads,
               {_value(sort, columns)} AS value, found.words
        {_found(matched, every_version)}
    """
    # Scores order the results, or are only calculated for those of the page.
    chosen = f"""
        SELECT id, version_id, name, sort_key, downloads, value{", score" if by_relevance else ""}
        FROM ({candidates}) AS candidates
        {_score("candidates", "words") if by_relevance else "WHERE NOT :has_after OR " + after}
    """
    page = f"SELECT *, count(*) OVER () AS total FROM ({chosen}) AS chosen ORDER BY {order} LIMIT :limit OFFSET :offset"
    scored = (
        ""
        if by_relevance
        else "LEFT JOIN package_words w ON w.package_id = packages.id " + _score("packages", "w.words")
    )
    return statement(
        sa.text(f"""
        SELECT packages.name, shown.version, shown.sort_key, shown.description, shown.author, shown.license,
               shown.keywords_json AS keywords, page.downloads, packages.download_count AS total_downloads,
               latest.version AS latest_version, {columns["updated"]} AS updated_at, shown.published_at, shown.yanked,
               shown.yank_reason, packages.deprecated, packages.deprecation_successor,
               coalesce(packages.deprecated_at, packages.updated_at) AS deprecation_at, score, page.value, page.total
        FROM ({page}) AS page
        JOIN packages ON packages.id = page.id
        JOIN package_versions shown ON shown.id = page.version_id
        LEFT JOIN package_versions latest ON latest.id = packages.latest_version_id
        {scored}
        ORDER BY {order}
        """)
    )


_KINDS = [(every, narrowed) for every in (False, True) for narrowed in (False, True)]
_MATCHING = {True: _MATCHED, False: _EVERYTHING}
_PAGES = {
    (sort, every, narrowed): together(_BY_INDEX, _page(sort, every, _MATCHING[narrowed]))
    for sort in (RELEVANCE, DOWNLOADS, UPDATED, CREATED, BY_NAME)
    for every, narrowed in _KINDS
}
_TOTALS = {
    (every, narrowed): statement(sa.text(f"SELECT count(*) {_found(_MATCHING[narrowed], every)}"))
    for every, narrowed in _KINDS
}
_MISTYPED = statement(
    sa.text(f"""
    SELECT packages.name FROM package_words JOIN packages ON packages.id = package_words.package_id
    WHERE {_has("mistyped", "package_words.words")}
      AND length(translate(packages.name, '-_', '')) BETWEEN :length - :typos AND :length + :typos
    ORDER BY packages.download_count DESC LIMIT :count
    """)
)
_SUGGEST = statement(
    sa.text(f"""
    SELECT packages.name FROM packages
    WHERE packages.latest_version_id IS NOT NULL AND {_OFFERED}
      AND (translate(packages.name, '-_', '') LIKE :beginning
           OR packages.id IN (SELECT package_id FROM package_words WHERE {_has("in_name", "words")}))
      AND ({_texts("within")} IS NULL OR packages.name = ANY ({_texts("within")}))
    ORDER BY translate(packages.name, '-_', '') LIKE :beginning DESC, packages.download_count DESC, packages.name
    LIMIT :count
    """)
)


async def search(conn: Connection, request: SearchRequest) -> tuple[list[tuple[Row, Position]], int]:
    """The results as (row, position for the cursor), and the total number of results."""
    if request.terms.matches_nothing:
        return [], 0
    wanted = asked(request)
    rows, total = await _search(conn, request, wanted)
    if not total and (similar := await _similar_names(conn, request)):
        rows, total = await _search(conn, request, only_named(request, wanted, similar))
    by_name = request.sort == BY_NAME
    return [(row, (row.name, row.sort_key) if by_name else (row.value, row.name, row.sort_key)) for row in rows], total


async def suggest(conn: Connection, q: str, count: int, within: frozenset[str] | None = None) -> list[str]:
    """Up to `count` names that begin with `q`, separators ignored, and then those with words that begin so.

    The popular ones come first. Only names in `within`, unless it is None.
    """
    if not (compact := folded(compact_form(q))):
        return []
    names = None if within is None else list(within)
    given = {"beginning": f"{escaped(compact)}%", "in_name": in_name(q), "within": names}
    rows = await conn.all(_SUGGEST, **given, count=count)
    return [row.name for row in rows]


async def _search(conn: Connection, request: SearchRequest, wanted: Asked) -> tuple[list[Row], int]:
    given = {**values(request), **_tsqueries(wanted)}
    narrowed = bool(wanted.matching)
    if not narrowed and not request.every_version:
        return [], 0
    rows = await conn.all(_PAGES[request.sort, request.every_version, narrowed], **given)
    if request.after is None and (rows or not request.offset):
        return rows, rows[0].total if rows else 0
    return rows, int(await conn.value(_TOTALS[request.every_version, narrowed], **given))


async def _similar_names(conn: Connection, request: SearchRequest) -> list[str]:
    """The names that the text of the query means, if it has typing errors."""
    compact = folded(compact_form(request.terms.text))
    if not (query := mistyped(compact)):
        return []
    rows = await conn.all(
        _MISTYPED, mistyped=query, length=len(compact), typos=most_typos(compact), count=MOST_MISTYPED
    )
    # In a thread, because comparing that many names takes a while.
    return await asyncio.to_thread(_similar, compact, [row.name for row in rows])


def _similar(typed: str, names: Sequence[str]) -> list[str]:
    return [name for name in names if is_similar(typed, compact_form(name))][:MOST_SIMILAR]


def _tsqueries(wanted: Asked) -> dict[str, Any]:
    return {
        **asdict(wanted),
        "trigrams": list(wanted.trigrams),
        "counts_no_trigrams": not wanted.trigrams,
        "word_worth": ONE_WORD if wanted.words < 2 else EACH_WORD * wanted.words,
    }
