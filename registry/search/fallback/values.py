"""The values of the parameters of the SQL in store.py. Pure functions."""

import re
from collections.abc import Iterable
from typing import Any

from registry.search.fallback.lexemes import whole, words
from registry.search.request import SearchRequest
from registry.search.terms import AUTHOR, KEYWORD, LICENSE, NAME, SEPARATORS, compact_form


def values(request: SearchRequest) -> dict[str, Any]:
    """The values of a search by the names of the parameters, without the tsqueries."""
    terms, text = request.terms, request.terms.text
    *value, after_name, after_key = request.after or (0, "", "")
    # In quotes, because websearch_to_tsquery has no operators inside quotes.
    websearch = [f'"{each}"' for each in (*text.split(), *terms.phrases)] + [f'-"{each}"' for each in terms.excluded]
    return {
        "has_text": bool(text),
        "websearch": " ".join(websearch),
        "typed": text.lower(),
        "as_typed": f"{escaped(text.lower())}%" if SEPARATORS.search(text) else None,
        "exact": SEPARATORS.sub("-", text.lower()),
        "compact": compact_form(text),
        **_field_values(request),
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


def _field_values(request: SearchRequest) -> dict[str, Any]:
    asked, excluded = request.terms.fields, request.terms.excluded_fields
    return {
        "authors": _parts(request.authors),
        "licenses": [whole(value) for value in request.licenses],
        "keywords": [whole(value) for value in (*request.keywords, *_of(asked, KEYWORD))],
        "q_authors": _parts(_of(asked, AUTHOR)),
        "q_licenses": [whole(value) for value in _of(asked, LICENSE)],
        "q_names": _in_name(_of(asked, NAME)),
        "not_authors": _parts(_of(excluded, AUTHOR)),
        "not_licenses": [whole(value) for value in _of(excluded, LICENSE)],
        "not_keywords": [whole(value) for value in _of(excluded, KEYWORD)],
        "not_names": _in_name(_of(excluded, NAME)),
    }


def escaped(text: str) -> str:
    """Escapes the special characters of LIKE."""
    return re.sub(r"([\\%_])", r"\\\1", text)


def _parts(values: Iterable[str]) -> list[str]:
    return [f"%{escaped(whole(value))}%" for value in values]


def _in_name(values: Iterable[str]) -> list[str]:
    """Regular expressions that match as asked.in_name() does, for names with a hyphen before each word."""
    beginnings = [[word.text for word in words(value)] for value in values]
    return [
        "^" + "".join(f"(?=.*-{each})" for each in of_value) if min(map(len, of_value), default=0) > 1 else "^$"
        for of_value in beginnings
    ]


def _of(fields: Iterable[tuple[str, str]], name: str) -> list[str]:
    return [value for field, value in fields if field == name]
