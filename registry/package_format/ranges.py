"""Checks version ranges. They have the syntax of npm's package `semver`, which decides what is valid."""

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
    """Why `text` is not a valid range, as a text for the client, or None if it is valid."""
    try:
        parsed(text)
    except ValueError as problem:
        return str(problem)
    return None


def parsed(text: str) -> list[list[nodesemver.Comparator]]:
    """The comparators of each alternative of a range. Raises ValueError, with a text for the client, if it is none."""
    if len(text) > MAX_RANGE:
        raise ValueError(f"a range has at most {MAX_RANGE} characters")
    # nodesemver takes cubic time for many blanks, "v" and "=", and its \d and \s also match beyond ASCII.
    plain = _BUILD.sub("", _SPACES.sub(" ", text))
    not_a_range = ValueError(f"{text!a} is not a version range")
    if not plain.isascii() or not plain.isprintable() or _LONG_PREFIX.search(plain) or _npm_refuses(plain):
        raise not_a_range
    try:
        groups: list[list[nodesemver.Comparator]] = nodesemver.make_range(plain, loose=False).set
    except ValueError:
        raise not_a_range from None
    limits = (comparator.semver for group in groups for comparator in group)
    if any(each is not nodesemver.ANY and max(each.major, each.minor, each.patch) > _MAX_NUMBER for each in limits):
        raise not_a_range
    return groups


def _npm_refuses(plain: str) -> bool:
    """Whether a range has a form that nodesemver accepts but npm refuses: `1.x.3`, `*.2` or `1*.2*.3`.

    npm accepts the first two forms after a tilde or a caret and in `a - b`.
    """
    return any(
        _NUMBER_AFTER_X.search(comparators) or _STRAY_STARS.search(comparators)
        for comparators in (_AFTER_OPERATOR.sub("", part) for part in plain.split("||"))
        if " - " not in comparators
    )
