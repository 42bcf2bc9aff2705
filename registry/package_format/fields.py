"""Checks the fields of a version's metadata.

Each `read_*` function takes the name of a field, which its errors show, and a JSON value in which `json_problem` found
no problem. It returns the value to store, or raises InvalidInput with every problem.
"""

import math
import re
import sys
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from registry.errors import FieldError, InvalidInput
from registry.package_format.names import name_problem, validate_name
from registry.package_format.ranges import range_problem
from registry.package_format.texts import normal_form
from registry.package_format.versions import Version, parse

MAX_DESCRIPTION = 2_000
MAX_LINE = 255
MAX_URL = 2_000
MAX_KEYWORDS = 50
MAX_KEYWORD = 64
MAX_DEPENDENCIES = 1_000
MAX_DEPTH = 100
MAX_NUMBER = int(sys.float_info.max)

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NOT_IN_URLS = re.compile(r"[\s\"<>\\]")
_WEB = frozenset({"http", "https"})
_REPOSITORY_SCHEMES = _WEB | {"git", "ssh", "git+http", "git+https", "git+ssh"}
_SHORT_REPOSITORY = re.compile(
    r"(?:(?:github|gitlab|bitbucket):)?[\w.-]+(?:/[\w.-]+)+(?:#[\w./-]+)?"
    r"|[\w.-]+@[\w.-]+:[\w./~-]+"
)


def text_problem(text: str) -> str | None:
    """Why PostgreSQL or some JSON parsers would refuse `text`, as a text for the client, or None."""
    found = _UNSTORABLE.search(text)
    if found is None:
        return None
    return "must not contain a NUL character" if found[0] == "\x00" else "must not contain half a surrogate pair"


def json_problem(value: Any) -> str | None:
    """Why a JSON value can't be stored unchanged, as a text for the client, or None. Finds one problem only."""
    pending = [(value, 1)]
    while pending:
        value, depth = pending.pop()
        if depth > MAX_DEPTH:
            return f"must not be nested deeper than {MAX_DEPTH} levels"
        if isinstance(value, dict):
            pending.extend((part, depth + 1) for pair in value.items() for part in pair)
        elif isinstance(value, list):
            pending.extend((part, depth + 1) for part in value)
        elif problem := _scalar_problem(value):
            return problem
    return None


def _scalar_problem(value: Any) -> str | None:
    if isinstance(value, str):
        return text_problem(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "must not contain NaN, an infinite number or a number beyond 1.8e308"
    # Many JSON parsers store every number as a double. They fail on numbers that are too large for a double.
    if isinstance(value, int) and abs(value) > MAX_NUMBER:
        return "must not contain a number beyond 1.8e308"
    return None


def read_name(field: str, value: Any) -> str:
    return validate_name(read_text(field, value))


def read_version(field: str, value: Any) -> Version:
    return parse(read_text(field, value))


def read_description(field: str, value: Any) -> str:
    text = read_text(field, value, MAX_DESCRIPTION)
    if not text.strip():
        raise InvalidInput.field(field, "must not be blank")
    return text


def read_author(field: str, value: Any) -> str:
    return _line(field, _member_or_self(field, value, "name"))


def read_license(field: str, value: Any) -> str:
    return _line(field, _member_or_self(field, value, "type"))


def read_homepage(field: str, value: Any) -> str:
    url = _line(field, value, MAX_URL)
    if url and not _is_url(url, _WEB):
        raise InvalidInput.field(field, "must be an http or https URL")
    return url


def read_repository(field: str, value: Any) -> str:
    url = _line(field, _member_or_self(field, value, "url"), MAX_URL)
    if url and not _SHORT_REPOSITORY.fullmatch(url) and not _is_url(url, _REPOSITORY_SCHEMES):
        raise InvalidInput.field(field, "must be an http, https, git or ssh URL, user/repository or git@host:path")
    return url


def read_keywords(field: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(keyword, str) for keyword in value):
        raise InvalidInput.field(field, "must be a list of strings")
    # Of several spellings of one keyword, the first one is kept.
    distinct: dict[str, str] = {}
    for keyword in value:
        distinct.setdefault(normal_form(keyword), keyword)
    keywords = tuple(distinct.values())
    if len(keywords) > MAX_KEYWORDS:
        raise InvalidInput.field(field, f"must have at most {MAX_KEYWORDS} entries")
    problems = ((keyword, _keyword_problem(keyword)) for keyword in keywords)
    if errors := [field_error(field, f"{escaped(keyword)!r} {problem}") for keyword, problem in problems if problem]:
        raise InvalidInput.of(errors)
    return keywords


def _keyword_problem(keyword: str) -> str | None:
    if len(keyword) > MAX_KEYWORD:
        return f"has more than {MAX_KEYWORD} characters"
    if _CONTROL.search(keyword):
        return "contains line breaks or control characters"
    return None if keyword.strip() else "is blank"


def read_dependencies(field: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise InvalidInput.field(field, "must be an object of names and version ranges")
    if len(value) > MAX_DEPENDENCIES:
        raise InvalidInput.field(field, f"must have at most {MAX_DEPENDENCIES} entries")
    errors = [field_error(f"{field}.{escaped(name)}", problem) for name in value if (problem := name_problem(name))]
    for name, wanted in value.items():
        problem = range_problem(wanted) if isinstance(wanted, str) else "must be a string"
        if problem:
            errors.append(field_error(f"{field}.{escaped(name)}", problem))
    if errors:
        raise InvalidInput.of(errors)
    return value


def read_text(field: str, value: Any, limit: int | None = None) -> str:
    if not isinstance(value, str):
        raise InvalidInput.field(field, "must be a string")
    if limit is not None and len(value) > limit:
        raise InvalidInput.field(field, f"must have at most {limit} characters")
    return value


def _line(field: str, value: Any, limit: int = MAX_LINE) -> str:
    text = read_text(field, value, limit)
    if _CONTROL.search(text):
        raise InvalidInput.field(field, "must not contain line breaks or control characters")
    return text


def _member_or_self(field: str, value: Any, member: str) -> Any:
    if not isinstance(value, dict):
        return value
    if value.get(member) is None:
        raise InvalidInput.field(field, f"must be a string or an object with {member!r}")
    return value[member]


def _is_url(url: str, schemes: Collection[str]) -> bool:
    if _NOT_IN_URLS.search(url):
        return False
    try:
        parts = urlsplit(url)
        # `parts.port` raises ValueError for a bad port. git+ssh://git@host:user/repository has a path after the colon.
        return parts.scheme in schemes and bool(parts.hostname) and (parts.scheme not in _WEB or parts.port != 0)
    except ValueError:
        return False


def field_error(field: str, message: str) -> FieldError:
    return {"field": field, "message": message}


def escaped(key: str) -> str:
    """`key`, which a client chose, for use in an error text: the first 80 characters, as ASCII with escapes."""
    return key[:80].encode("ascii", "backslashreplace").decode().replace("\x00", "\\x00")
