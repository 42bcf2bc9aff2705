"""Checks the names of an archive's members. Refuses unsafe names and conflicts, and warns about unportable names."""

import heapq
import re

from typing_extensions import TypedDict

from registry.errors import InvalidArchive

MAX_WARNINGS = 100
# Most file systems allow names of this many bytes.
MAX_SEGMENT = 255

_UNSAFE = [
    (re.compile(r"\A\Z"), "has an empty name"),
    (re.compile(r".{1025}", re.DOTALL), "has a name of more than 1,024 characters"),
    (re.compile("[\ud800-\udfff]"), "has a name that is not UTF-8"),
    (re.compile("[\x00-\x1f\x7f-\x9f]"), "has a control character in its name"),
    # These characters reorder the text around them, so a name may seem to have another file extension.
    (re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"), "has a bidirectional control character in its name"),
    (re.compile(r"\\"), "has a backslash in its name"),
    # Windows takes C: as a drive, even after ./
    (re.compile(r"\A(?:/|[./]*[A-Za-z]:)"), "has an absolute name"),
    (re.compile(r"(?:\A|/)\.\.(?:/|\Z)"), "leaves the package through '..'"),
]
_NOT_PORTABLE = [
    ("reserved_character", re.compile(r'[<>:"|?*]'), 'Windows refuses names with any of < > : " | ? *'),
    ("trailing_dot_or_blank", re.compile(r"[. ](?:/|\Z)"), "Windows removes dots and blanks from the end of a name"),
    (
        "reserved_name",
        re.compile(
            r"(?:\A|/)(?:aux|con|nul|prn|conin\$|conout\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3]) *(?:\.[^/]*)?(?:/|\Z)",
            re.IGNORECASE,
        ),
        "Windows opens a device under this name",
    ),
]
# Sorting this many names takes a few milliseconds, during which no other thread runs.
_SORTED_AT_ONCE = 4096


class ArchiveWarning(TypedDict):
    """A warning about a member that some systems can't unpack. `code` is stable, `message` is for people."""

    code: str
    path: str
    message: str


def refusal(name: str, problem: str) -> InvalidArchive:
    """The error for the member `name`. Its text contains the name, cut and escaped."""
    return InvalidArchive(f"The tarball's member {name[:100]!a} {problem}.")


def safe_parts(name: str) -> tuple[str, ...]:
    """Splits a member's name into its parts, without "" and ".".

    Raises InvalidArchive if a system might unpack the name outside of the target folder.
    """
    for pattern, problem in _UNSAFE:
        if pattern.search(name):
            raise refusal(name, problem)
    return tuple(part for part in name.split("/") if part not in ("", "."))


class Names:
    """The names of an archive's members. Each takes about 50 bytes of memory in addition to the name itself."""

    def __init__(self) -> None:
        self._keys: list[bytes] = []
        self._warnings: list[ArchiveWarning] = []
        self._more_warnings = 0

    def add(self, parts: tuple[str, ...], *, is_file: bool) -> None:
        # A NUL sorts before every character of a name. So the key of a file sorts directly before the keys of members
        # that use the file's name as a folder.
        self._keys.append("\0".join((*parts, "" if is_file else "\0")).encode())
        self._warn("/".join(parts), parts)

    def raise_conflicts(self) -> None:
        """Raises InvalidArchive if one name is used for a file and for a folder, as in `a` and `a/b`."""
        starts = range(0, len(self._keys), _SORTED_AT_ONCE)
        file = b""
        for key in heapq.merge(*(sorted(self._keys[start : start + _SORTED_AT_ONCE]) for start in starts)):
            if file and key != file and key.startswith(file):
                below = key.rstrip(b"\0").replace(b"\0", b"/").decode()
                raise refusal(
                    file.rstrip(b"\0").replace(b"\0", b"/").decode(),
                    f"is a file, but {below[:100]!a} needs a folder there",
                )
            if not key.endswith(b"\0\0"):
                file = key

    def warnings(self) -> list[ArchiveWarning]:
        """Up to MAX_WARNINGS warnings. If there were more, an additional warning says how many are not listed."""
        if not self._more_warnings:
            return self._warnings
        message = f"{self._more_warnings:,} more warnings are not listed."
        return [*self._warnings, {"code": "more_warnings", "path": "", "message": message}]

    def _warn(self, path: str, parts: tuple[str, ...]) -> None:
        found = [(code, message) for code, pattern, message in _NOT_PORTABLE if pattern.search(path)]
        if len(path) * 4 > MAX_SEGMENT and any(len(part.encode()) > MAX_SEGMENT for part in parts):
            found.append(("long_name", f"Most systems refuse names of more than {MAX_SEGMENT} bytes"))
        room = MAX_WARNINGS - len(self._warnings)
        self._warnings += [{"code": code, "path": path, "message": f"{message}."} for code, message in found[:room]]
        self._more_warnings += len(found[room:])
