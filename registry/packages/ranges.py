"""Version ranges in npm's grammar, read as npm's `semver` package reads them."""

import re

import nodesemver

MAX_RANGE = 256

# npm refuses larger numbers, because JavaScript can't represent them exactly.
_MAX_NUMBER = 2**53 - 1
_SPACES = re.compile(r"[ \t\n\v\f\r]+")
_LONG_PREFIX = re.compile(r"[v= ]{9}")
_BUILD = re.compile(r"\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*")
_AFTER_OPERATOR = re.compile(r"(?<=[~^<>=]) ")
_NUMBER_AFTER_X = re.compile(r"(?:^| )[<>]?=?[v=]*(?:[xX*]|[0-9]+\.[xX*]|[xX*]\.[xX*])\.[0-9]")
_STRAY_STARS = re.compile(r"(?:[0-9]\*|\*[0-9v])[^ ]*\*|\*[^ ]*(?:[0-9]\*|\*[0-9v])")


def range_problem(text: str) -> str | None:
    """Why `text` is not a valid range, in words. None when it is valid."""
    if len(text) > MAX_RANGE:
        return f"a range has at most {MAX_RANGE} characters"
    try:
        _read(text)
    except ValueError:
        return f"{text!a} is not a version range"
    return None


def _read(text: str) -> nodesemver.Range:
    """Parse a range. Raises ValueError for a range that npm refuses."""
    # nodesemver takes cubic time for many blanks, "v" and "=", and its \d and \s also match beyond ASCII.
    plain = _BUILD.sub("", _SPACES.sub(" ", text))
    if not plain.isascii() or not plain.isprintable() or _LONG_PREFIX.search(plain) or _only_nodesemver_reads(plain):
        raise ValueError(text)
    parsed = nodesemver.make_range(plain, loose=False)
    for comparator in (comparator for group in parsed.set for comparator in group):
        limit = comparator.semver
        if limit is not nodesemver.ANY and max(limit.major, limit.minor, limit.patch) > _MAX_NUMBER:
            raise ValueError(text)
    return parsed


def _only_nodesemver_reads(plain: str) -> bool:
    """Whether a range has a form that nodesemver accepts and npm refuses: `1.x.3`, `*.2` or `1*.2*.3`.

    npm accepts the first two after a tilde or a caret and in `a - b`.
    """
    return any(
        _NUMBER_AFTER_X.search(comparators) or _STRAY_STARS.search(comparators)
        for comparators in (_AFTER_OPERATOR.sub("", part) for part in plain.split("||"))
        if " - " not in comparators
    )
