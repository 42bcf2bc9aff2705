"""Searches in PostgreSQL while Elasticsearch is unavailable: simpler ranking, but the same filters and cursors."""

import re
from collections.abc import Iterable
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.sql import bindparam as p

from registry.db.engine import Connection, Row, statement
from registry.db.tables import package_versions, packages
from registry.packages.status.store import DEPRECATION
from registry.search.request import BY_NAME, CREATED, DOWNLOADS, RELEVANCE, UPDATED, SearchRequest
from registry.search.store import OFFERED
from registry.search.terms import AUTHOR, KEYWORD, LICENSE, NAME, SEPARATORS, compact_form
from registry.web.cursor import Position

_TEXTS = ARRAY(sa.Text)


def _flag(name: str) -> Any:
    return p(name, type_=sa.Boolean)


def _texts(name: str) -> Any:
    return sa.cast(p(name), _TEXTS)


def _query(name: str) -> Any:
    return sa.func.websearch_to_tsquery(sa.literal_column("'english'::regconfig"), p(name, type_=sa.Text))


def _contains(name: str) -> Any:
    """Whether the search vector matches the parameter. A parameter without searchable words matches everything."""
    query = _query(name)
    return sa.or_(sa.func.numnode(query) == 0, packages.c.search_vector.bool_op("@@")(query))


# `within` is NULL when all packages may be found.
_is_within = sa.or_(_texts("within").is_(None), packages.c.name == sa.any_(_texts("within")))
_shown = package_versions
_latest_version = package_versions.alias("latest")
_compact_name = sa.func.replace(sa.func.replace(packages.c.name, "-", ""), "_", "")
_keywords = sa.cast(sa.func.lower(sa.cast(_shown.c.keywords_json, sa.Text)), JSONB)
_license = sa.func.lower(_shown.c.license)
_is_exact = packages.c.similarity_key == p("exact", type_=sa.Text)
_is_compact = _compact_name == p("compact", type_=sa.Text)
_begins = _compact_name.like(p("beginning", type_=sa.Text))
_matches = sa.or_(
    ~_flag("has_text"),
    packages.c.search_vector.bool_op("@@")(_query("text")),
    _compact_name.like(p("part", type_=sa.Text)),
    _begins,
    _shown.c.author.ilike(p("author_part", type_=sa.Text)),
)
_found = (
    _shown.c.deleted_at.is_(None),
    packages.c.latest_version_id.is_not(None),
    sa.case(
        (_flag("every_version"), _shown.c.yanked.is_(False)),
        else_=sa.and_(_shown.c.id == packages.c.latest_version_id, OFFERED),
    ),
    _matches,
    _contains("phrases"),
    sa.not_(
        sa.and_(
            _flag("has_excluded"), sa.func.coalesce(packages.c.search_vector.bool_op("@@")(_query("excluded")), False)
        )
    ),
    sa.or_(sa.func.cardinality(_texts("authors")) == 0, _shown.c.author.bool_op("ILIKE")(sa.any_(_texts("authors")))),
    sa.or_(sa.func.cardinality(_texts("licenses")) == 0, _license == sa.any_(_texts("licenses"))),
    _keywords.contains(sa.cast(p("keywords", type_=sa.Text), JSONB)),
    _shown.c.author.bool_op("ILIKE")(sa.all_(_texts("q_authors"))),
    _license == sa.all_(_texts("q_licenses")),
    packages.c.name.bool_op("LIKE")(sa.all_(_texts("q_names"))),
    sa.not_(_shown.c.author.bool_op("ILIKE")(sa.any_(_texts("not_authors")))),
    _license != sa.all_(_texts("not_licenses")),
    sa.not_(_keywords.has_any(_texts("not_keywords"))),
    sa.not_(packages.c.name.bool_op("LIKE")(sa.any_(_texts("not_names")))),
    sa.or_(_flag("prerelease"), _shown.c.is_prerelease.is_(False)),
    _is_within,
)
_raw_score = (
    sa.func.coalesce(sa.func.ts_rank(packages.c.search_vector, _query("text")), 0.0) * 10
    + sa.case((_begins, 5.0), else_=0.0)
    + 0.01
) * (1 + sa.func.ln(1 + packages.c.download_count))
_demotion = sa.case((packages.c.deprecated.is_not(None), 0.4), else_=1.0)
_can_be_exact = sa.and_(_flag("has_text"), packages.c.deprecated.is_(None))
_score = sa.cast(
    sa.case(
        (sa.and_(_can_be_exact, _is_exact), sa.case((packages.c.name == p("typed", type_=sa.Text), 1.0), else_=0.98)),
        (sa.and_(_can_be_exact, _is_compact), 0.93),
        else_=0.9 * _demotion * _raw_score / (_raw_score + 25.0),
    ),
    sa.Double,
)


def _milliseconds(moment: Any) -> Any:
    """A time in milliseconds, as the index stores it, so that cursors work in both."""
    return sa.cast(sa.func.floor(sa.func.extract("epoch", moment) * 1000), sa.BigInteger)


_downloads = sa.case((_flag("every_version"), _shown.c.download_count), else_=packages.c.download_count)
_updated = sa.case((_flag("every_version"), _shown.c.published_at), else_=packages.c.updated_at)
_created = sa.case((_flag("every_version"), _shown.c.published_at), else_=packages.c.created_at)
_name = sa.collate(packages.c.name, "C")
_values: dict[str, Any] = {
    RELEVANCE: _score,
    DOWNLOADS: _downloads,
    UPDATED: _milliseconds(_updated),
    CREATED: _milliseconds(_created),
    BY_NAME: sa.literal(0),
}
_after_name = sa.or_(
    _name > p("after_name", type_=sa.Text),
    sa.and_(_name == p("after_name", type_=sa.Text), _shown.c.sort_key < p("after_key", type_=sa.Text)),
)


def _page(sort: str) -> sa.Select[Any]:
    value = _values[sort]
    after = p("after_value", type_=sa.BigInteger)
    follows = _after_name if sort == BY_NAME else sa.or_(value < after, sa.and_(value == after, _after_name))
    select = (
        sa.select(
            packages.c.name,
            _shown.c.version,
            _shown.c.sort_key,
            _shown.c.description,
            _shown.c.author,
            _shown.c.license,
            _shown.c.keywords_json.label("keywords"),
            _downloads.label("downloads"),
            packages.c.download_count.label("total_downloads"),
            sa.select(_latest_version.c.version)
            .where(_latest_version.c.id == packages.c.latest_version_id)
            .label("latest_version"),
            _updated.label("updated_at"),
            _shown.c.published_at,
            _shown.c.yanked,
            _shown.c.yank_reason,
            *DEPRECATION,
            _score.label("score"),
            value.label("value"),
        )
        .join(packages, packages.c.id == _shown.c.package_id)
        .where(*_found)
    )
    if sort != RELEVANCE:
        select = select.where(sa.or_(~_flag("has_after"), follows))
    order = [] if sort == BY_NAME else [value.desc()]
    ties = [_downloads.desc()] if sort == RELEVANCE else []
    return select.order_by(*order, *ties, _name, _shown.c.sort_key.desc()).limit(p("limit")).offset(p("offset"))


_PAGES = {sort: statement(_page(sort)) for sort in _values}
_TOTAL = statement(
    sa.select(sa.func.count()).select_from(_shown.join(packages, packages.c.id == _shown.c.package_id)).where(*_found)
)
_SUGGEST = statement(
    sa.select(packages.c.name)
    .where(packages.c.latest_version_id.is_not(None), OFFERED, _begins, _is_within)
    .order_by(packages.c.download_count.desc(), packages.c.name)
    .limit(p("count"))
)


async def search(conn: Connection, request: SearchRequest) -> tuple[list[tuple[Row, Position]], int]:
    """The results as (row, position for the cursor), and the total number of results."""
    if request.terms.matches_nothing:
        return [], 0
    values = _search_values(request)
    rows = await conn.all(_PAGES[request.sort], **values)
    by_name = request.sort == BY_NAME
    found: list[tuple[Row, Position]] = [
        (row, (row.name, row.sort_key) if by_name else (row.value, row.name, row.sort_key)) for row in rows
    ]
    return found, int(await conn.value(_TOTAL, **values))


async def suggest(conn: Connection, beginning: str, count: int, within: frozenset[str] | None = None) -> list[str]:
    """Up to `count` names that begin with `beginning`, separators ignored, popular first.

    Only names in `within`, unless it is None.
    """
    names = None if within is None else list(within)
    rows = await conn.all(_SUGGEST, beginning=_escaped(beginning) + "%", count=count, within=names)
    return [row.name for row in rows]


def _search_values(request: SearchRequest) -> dict[str, Any]:
    terms = request.terms
    compact = compact_form(terms.text)
    *value, after_name, after_key = request.after or (0, "", "")
    return {
        "has_text": bool(terms.text),
        "text": _quoted(terms.text.split()),
        "typed": terms.text.lower(),
        "exact": SEPARATORS.sub("-", terms.text.lower()),
        "compact": compact,
        "beginning": _escaped(compact) + "%",
        # Any one or two letters occur in too many names. So a text of one or two characters must equal the name.
        "part": f"%{_escaped(compact)}%" if len(compact) > 2 else _escaped(compact),
        "author_part": f"%{_escaped(terms.text)}%",
        "phrases": _quoted(terms.phrases),
        "has_excluded": bool(terms.excluded),
        "excluded": " or ".join(_quoted([text]) for text in terms.excluded),
        "authors": _parts(request.authors),
        "licenses": [value.lower() for value in request.licenses],
        "keywords": orjson.dumps([k.lower() for k in (*request.keywords, *_field(terms.fields, KEYWORD))]).decode(),
        "q_authors": _parts(_field(terms.fields, AUTHOR)),
        "q_licenses": [value.lower() for value in _field(terms.fields, LICENSE)],
        "q_names": _parts(_field(terms.fields, NAME)),
        "not_authors": _parts(_field(terms.excluded_fields, AUTHOR)),
        "not_licenses": [value.lower() for value in _field(terms.excluded_fields, LICENSE)],
        "not_keywords": [value.lower() for value in _field(terms.excluded_fields, KEYWORD)],
        "not_names": _parts(_field(terms.excluded_fields, NAME)),
        "prerelease": request.prerelease,
        "every_version": request.every_version,
        "has_after": request.after is not None,
        "after_value": value[0] if value else 0,
        "after_name": after_name,
        "after_key": after_key,
        "within": None if request.within is None else list(request.within),
        "limit": request.limit,
        "offset": request.offset,
    }


def _quoted(texts: Iterable[str]) -> str:
    """Each text in quotes, because websearch_to_tsquery has no operators inside quotes."""
    return " ".join(f'"{text}"' for text in texts)


def _escaped(text: str) -> str:
    """Escapes the special characters of LIKE."""
    return re.sub(r"([\\%_])", r"\\\1", text)


def _parts(values: Iterable[str]) -> list[str]:
    return [f"%{_escaped(value)}%" for value in values]


def _field(fields: Iterable[tuple[str, str]], name: str) -> list[str]:
    return [value for field, value in fields if field == name]
