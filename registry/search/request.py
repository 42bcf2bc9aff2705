"""The query parameters of a search: how they are parsed and validated, and their API description."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from registry.errors import FieldError, InvalidInput
from registry.package_format.texts import normal_form
from registry.search.terms import MAX_TEXT, Terms, parse_terms, without_controls
from registry.web.cursor import Position, decode
from registry.web.parsing import DEFAULT_LIMIT, MAX_DIGITS, PAGE_PARAMETERS, TOO_LARGE, parse_number, parse_page
from registry.web.route import Limit, query

RELEVANCE, DOWNLOADS, UPDATED, CREATED, BY_NAME = (
    "relevance", "downloads", "recently-updated", "recently-created", "name",
)  # fmt: skip
SORTS = (RELEVANCE, DOWNLOADS, UPDATED, CREATED, BY_NAME)
SEARCHES = Limit("search", "1000/minute")

MAX_VALUES = 20
MAX_SUGGEST = 214
_REPEATABLE = ("author", "license", "keyword")
_KNOWN = (
    "q", "limit", "offset", "cursor", "sort", *_REPEATABLE, "prerelease", "versions", "facets", "min_seq",
)  # fmt: skip
BLANK_Q = "must not be blank; GET /packages?sort=downloads lists packages without a query"


def _values(name: str, description: str) -> dict[str, Any]:
    items = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT, "pattern": r"\S"}
    schema = {"type": "array", "items": items, "maxItems": MAX_VALUES}
    return query(name, schema, description, style="form", explode=True)


PARAMETERS: list[dict[str, Any]] = [
    query(
        "q",
        {"type": "string", "minLength": 1, "maxLength": MAX_TEXT, "pattern": r"\S"},
        'Words to find. author:ada, keyword:ml, license:MIT, name:x and "exact phrases" filter; a leading - excludes.',
        required=True,
        example="http client",
    ),
    *PAGE_PARAMETERS,
    query(
        "cursor",
        {"type": "string", "pattern": "^[A-Za-z0-9_-]+$", "maxLength": 1024},
        "The next_cursor of the previous page. It can't be used with sort=relevance.",
    ),
    query("sort", {"type": "string", "enum": list(SORTS), "default": RELEVANCE}, "The order of the results."),
    _values("author", "Finds only packages by this author. If given several times: by any of these authors."),
    _values("license", "Finds only packages with this licence. If given several times: with any of these licences."),
    _values("keyword", "Finds only packages with this keyword. If given several times: with all of these keywords."),
    query("prerelease", {"type": "string", "enum": ["true", "false"]}, "false leaves out pre-releases."),
    query(
        "versions",
        {"type": "string", "enum": ["all", "latest"], "default": "latest"},
        "all searches all versions; each version is a result of its own.",
    ),
    query(
        "facets",
        {"type": "string", "enum": ["true", "false"], "default": "false"},
        "true adds the number of results for each author, licence and keyword.",
    ),
    query(
        "min_seq",
        {"type": "integer", "minimum": 0, "maximum": TOO_LARGE - 1},
        "Waits, at most 5 seconds, until the change with this seq can be found.",
    ),
]
_NAME = {"type": "string", "minLength": 1, "maxLength": MAX_SUGGEST, "pattern": r"\S"}
SUGGEST_PARAMETERS: list[dict[str, Any]] = [
    query("q", _NAME, "The beginning of a name, or of a word in it.", required=True)
]
_EXPLAINED = ("q", *_REPEATABLE, "prerelease")
EXPLAIN_PARAMETERS: list[dict[str, Any]] = [
    *(parameter for parameter in PARAMETERS if parameter["name"] in _EXPLAINED),
    query("name", _NAME, "The package to explain.", required=True),
]


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """One search. `terms` is the parsed `q`; `after` is the cursor's position, None without a cursor.

    `within` limits the search to packages with these names; None allows all packages. It comes from the client's
    rights, not from a parameter.
    """

    q: str
    terms: Terms
    limit: int = DEFAULT_LIMIT
    offset: int = 0
    after: Position | None = None
    sort: str = RELEVANCE
    authors: tuple[str, ...] = ()
    licenses: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    prerelease: bool = True
    every_version: bool = False
    facets: bool = False
    min_seq: int = 0
    within: frozenset[str] | None = None

    @property
    def at_the_start(self) -> bool:
        return not self.offset and self.after is None

    @property
    def wants_spelling(self) -> bool:
        """Whether to suggest another spelling. Suggestions use the texts of all packages, so `within` forbids them."""
        return self.at_the_start and bool(self.terms.text) and self.within is None

    @classmethod
    def parse(cls, params: Sequence[tuple[str, str]]) -> "SearchRequest":
        """Parses (name, value) parameters. Unknown parameters are ignored.

        The middleware has refused a second value of a parameter that takes one value.

        Raises InvalidInput that names every wrong parameter.
        """
        reader = _Reader(params)
        q = reader.text("q", MAX_TEXT)
        sort = reader.choice("sort", SORTS)
        limit, offset = reader.page()
        request = cls(
            q=q,
            terms=parse_terms(q),
            limit=limit,
            offset=offset,
            after=reader.cursor(sort),
            sort=sort,
            authors=reader.values("author"),
            licenses=reader.values("license"),
            keywords=reader.values("keyword"),
            prerelease=reader.choice("prerelease", ("true", "false")) == "true",
            every_version=reader.choice("versions", ("latest", "all")) == "all",
            facets=reader.choice("facets", ("false", "true")) == "true",
            min_seq=reader.sequence("min_seq"),
        )
        if request.after is not None and request.offset:
            reader.refuse("cursor", "can't be combined with offset")
        reader.raise_errors()
        return request


# Longer requests are rare. Not remembering them bounds the memory.
_MAX_REMEMBERED = 200


def parse_search(params: Sequence[tuple[str, str]], within: frozenset[str] | None) -> SearchRequest:
    """As `SearchRequest.parse()`, for a client that may know only of the packages `within`; None means all.

    Remembers recent requests, because parsing takes a third of the time of an answer from the cache.
    """
    is_short = sum(len(name) + len(value) for name, value in params) <= _MAX_REMEMBERED
    request = _remembered(tuple(params)) if is_short else SearchRequest.parse(params)
    return request if within is None else replace(request, within=within)


@lru_cache(maxsize=4096)
def _remembered(params: tuple[tuple[str, str], ...]) -> SearchRequest:
    return SearchRequest.parse(params)


def parse_suggest(params: Sequence[tuple[str, str]]) -> str:
    """The `q` of a completion, at most 214 characters. Raises InvalidInput."""
    reader = _Reader(params)
    q = reader.text("q", MAX_SUGGEST)
    reader.raise_errors()
    return q


def parse_explain(params: Sequence[tuple[str, str]]) -> tuple[SearchRequest, str]:
    """The search, and the package name to explain. Raises InvalidInput that names every wrong parameter."""
    errors: list[FieldError] = []
    given = next((value for field, value in params if field == "name"), None)
    name = (given or "").strip()
    problem = "is required" if given is None else _text_problem(given, MAX_SUGGEST)
    if problem is None and not name:
        problem = "must not be blank"
    if problem:
        errors.append({"field": "name", "message": problem})
    try:
        request = SearchRequest.parse([(field, value) for field, value in params if field in _EXPLAINED])
    except InvalidInput as wrong:
        raise InvalidInput.of([*wrong.errors, *errors]) from wrong
    if errors:
        raise InvalidInput.of(errors)
    return request, name


class _Reader:
    """Reads parameters and collects all their errors."""

    def __init__(self, params: Iterable[tuple[str, str]]) -> None:
        self._given: defaultdict[str, list[str]] = defaultdict(list)
        self._errors: list[FieldError] = []
        for name, value in params:
            if name in _KNOWN:
                self._given[name].append(value)
        self._first = {name: values[0] for name, values in self._given.items()}

    def refuse(self, field: str, message: str) -> None:
        self._errors.append({"field": field, "message": message})

    def raise_errors(self) -> None:
        if self._errors:
            raise InvalidInput.of(self._errors)

    def text(self, name: str, longest: int) -> str:
        value = self._given[name][0] if self._given[name] else ""
        if problem := _text_problem(value, longest):
            self.refuse(name, problem)
            return ""
        clean = without_controls(value)
        if not clean:
            self.refuse(name, BLANK_Q if self._given[name] else f"is required and {BLANK_Q}")
        return clean

    def values(self, name: str) -> tuple[str, ...]:
        if len(self._given[name]) > MAX_VALUES:
            self.refuse(name, f"is given more than {MAX_VALUES} times")
            return ()
        clean = [normal_form(without_controls(value))[:MAX_TEXT] for value in self._given[name]]
        for given, value in zip(self._given[name], clean, strict=True):
            if problem := _text_problem(given, MAX_TEXT) or (None if value else "must not be blank"):
                self.refuse(name, problem)
        return tuple(dict.fromkeys(clean))

    def choice(self, name: str, allowed: Sequence[str]) -> str:
        """One of `allowed`. The first one is the default."""
        value = self._given[name][0] if self._given[name] else allowed[0]
        if value not in allowed:
            self.refuse(name, f"must be one of {', '.join(allowed)}")
            return allowed[0]
        return value

    def page(self) -> tuple[int, int]:
        return parse_page(self._first, self._errors)

    def sequence(self, name: str) -> int:
        number = parse_number(self._first, name, self._errors)
        if number >= TOO_LARGE:
            self.refuse(name, f"must have at most {MAX_DIGITS} digits")
        return number

    def cursor(self, sort: str) -> Position | None:
        if not self._given["cursor"]:
            return None
        if sort == RELEVANCE:
            self.refuse("cursor", "can't be combined with sort=relevance")
            return None
        try:
            return decode(self._given["cursor"][0], sort, (str, str) if sort == BY_NAME else (int, str, str))
        except ValueError as wrong:
            self.refuse("cursor", str(wrong))
            return None


def _text_problem(value: str, longest: int) -> str | None:
    if len(value) > longest:
        return f"must have at most {longest} characters"
    if "\0" in value:
        return "must not contain a NUL character"
    if any("\ud800" <= character <= "\udfff" for character in value):
        return "is not valid Unicode: it contains half of a surrogate pair"
    return None
