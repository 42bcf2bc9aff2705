"""Chooses the files of a folder that belong into its package."""

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pathspec import GitIgnoreSpec

from registry.client.failures import ClientError
from registry.errors import FieldError

MANIFEST = "synapse.json"
IGNORE_FILE = ".synapseignore"
# The first one that exists is read.
IGNORE_FILES = (IGNORE_FILE, ".gitignore")
# Folders with tarballs in progress begin with this. One may be left after a crash.
TEMPORARY = ".synapse-pack-"
# Never part of a package: version control, and what systems and tools leave behind.
ALWAYS_IGNORED = (
    ".git",
    ".hg",
    ".svn",
    ".DS_Store",
    "Thumbs.db",
    "__pycache__/",
    "*.pyc",
    IGNORE_FILE,
    f"{TEMPORARY}*/",
)


class Found(NamedTuple):
    """A file, and its name in the package: the path below the folder, with `/`, in Unicode's composed form."""

    name: str
    path: Path


def choose(folder: Path, also_ignored: tuple[str, ...] = ()) -> tuple[list[Found], list[FieldError]]:
    """The files in the order of their names' bytes, and a problem for each entry that no package may have."""
    ignored = _ignore_rules(folder, also_ignored)
    files: dict[str, Found] = {}
    problems: list[FieldError] = []
    for entry, relative in _walk(folder, ignored):
        # macOS may write an accent as a character of its own. The same file gets the same name everywhere.
        name = unicodedata.normalize("NFC", relative)
        if not entry.is_file(follow_symlinks=False):
            kind = "a link" if entry.is_symlink() else "neither a file nor a folder"
            problems.append(_problem(name, f"is {kind}; replace it by a file or name it in {IGNORE_FILE}"))
        elif name in files:
            problems.append(_problem(name, "exists twice, in two spellings of the same characters"))
        else:
            files[name] = Found(name, Path(entry.path))
    return sorted(files.values(), key=lambda found: os.fsencode(found.name)), problems


def _ignore_rules(folder: Path, also_ignored: tuple[str, ...]) -> GitIgnoreSpec:
    file = next((file for name in IGNORE_FILES if (file := folder / name).is_file()), None)
    try:
        lines = file.read_text("utf-8-sig").splitlines() if file else []
        # The last rule that matches decides, so the file can change nothing about these.
        return GitIgnoreSpec.from_lines([*lines, *ALWAYS_IGNORED, *also_ignored, f"!/{MANIFEST}"])
    except ValueError as error:  # a pattern that means nothing, or a file that is not UTF-8
        raise ClientError(f"{file} can't be read: {error}.", code="invalid_package") from error


def _walk(folder: Path, ignored: GitIgnoreSpec) -> Iterator[tuple[os.DirEntry[str], str]]:
    """(entry, its path below `folder`) of everything but folders, which a package has only with files in them."""
    pending = [(str(folder), "")]
    while pending:
        current, prefix = pending.pop()
        with os.scandir(current) as entries:
            for entry in entries:
                relative = f"{prefix}{entry.name}"
                is_folder = entry.is_dir(follow_symlinks=False)
                if ignored.match_file(f"{relative}/" if is_folder else relative):
                    continue
                if is_folder:
                    pending.append((entry.path, f"{relative}/"))
                else:
                    yield entry, relative


def _problem(name: str, message: str) -> FieldError:
    return {"field": name.encode("ascii", "backslashreplace").decode()[:200], "message": message}
