"""The differences between two versions: files, their lines, and the fields and dependencies of the manifests."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cachetools import LRUCache

from registry.contents.files import File, Listing, decoded
from registry.contents.reader import Contents
from registry.db.engine import Row
from registry.errors import Unavailable
from registry.packages.read import VersionInfo
from registry.rendering.differ import ADDED, REMOVED, Hunk
from registry.rendering.process import NotRendered, Workers

MAX_FILES = 300
MAX_LINES = 20_000
MAX_TEXT = 1 << 20
"""Larger files are not compared line by line. In bytes."""
MAX_TEXTS = 32 << 20
"""How many bytes of files are compared at a time: they are in memory."""
SECONDS = 3.0
"""After so many seconds, the other files of a comparison are compared more coarsely."""
MAX_CHARACTERS = 4 << 20
"""How long all hunks of a comparison may be."""
CACHE_CHARACTERS = 16 << 20
MAX_COMPARED, MAX_WAITING = 2, 16
"""How many pairs are compared at a time, and how many requests may wait for that."""

FIELDS = ("description", "license", "author", "homepage", "repository", "keywords")


@dataclass(frozen=True, slots=True)
class Change:
    """A file that differs. `old` is None for an added file, `new` for a removed one.

    `hunks` is None if the lines are not compared: the file is no text or too large, or the comparison is too large.
    """

    old: File | None
    new: File | None
    hunks: Sequence[Hunk] | None

    @property
    def path(self) -> str:
        file = self.new or self.old
        assert file is not None  # noqa: S101  # one of them is set
        return file.path

    @property
    def is_binary(self) -> bool:
        return any(file is not None and not file.is_text for file in (self.old, self.new))

    @property
    def is_large(self) -> bool:
        return any(file is not None and file.size > MAX_TEXT for file in (self.old, self.new))

    @property
    def weight(self) -> int:
        """About the number of characters of its lines."""
        return sum(50 + len(text) for hunk in self.hunks or () for _, text in hunk["lines"])

    def count(self, sign: str) -> int:
        """The number of lines with `sign`, ADDED or REMOVED."""
        return sum(kind == sign for hunk in self.hunks or () for kind, _ in hunk["lines"])


@dataclass(frozen=True, slots=True)
class Comparison:
    """The files that differ, sorted by path.

    `too_large` says which limit is exceeded; no lines are compared then.
    """

    changes: Sequence[Change]
    too_large: str

    @property
    def weight(self) -> int:
        """About the number of characters of its lines."""
        return 1000 + sum(500 + change.weight for change in self.changes)


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field of the manifest, or a dependency. None stands for one that is not there."""

    name: str
    old: str | None
    new: str | None


class Comparer:
    """Compares versions. The comparisons of recently seen pairs are cached."""

    def __init__(self, contents: Contents, workers: Workers) -> None:
        self._contents = contents
        self._workers = workers
        self._turns = asyncio.Semaphore(MAX_COMPARED)
        self._waiting = 0
        self._cache: LRUCache[tuple[str, str], Comparison] = LRUCache(
            CACHE_CHARACTERS, getsizeof=lambda comparison: comparison.weight
        )

    async def compare(self, old: Row, new: Row) -> Comparison:
        """The files that differ. Raises Unavailable if many requests wait, and what the methods of Contents raise."""
        key = (old.tarball_path, new.tarball_path)
        found: Comparison | None = self._cache.get(key)
        if found is not None:
            return found
        if self._waiting >= MAX_WAITING:
            raise Unavailable("Too many versions are being compared. Try again in a few seconds.", retry_after=5)
        self._waiting += 1
        try:
            async with self._turns:
                found = self._cache.get(key) or await self._compare(old, new)
        finally:
            self._waiting -= 1
        if found.weight <= CACHE_CHARACTERS:
            self._cache[key] = found
        return found

    async def _compare(self, old: Row, new: Row) -> Comparison:
        before, after = await self._contents.listing(old), await self._contents.listing(new)
        changes = await asyncio.to_thread(changed_files, before, after)
        return await self._lines(old, new, changes)

    async def _lines(self, old: Row, new: Row, changes: Sequence[Change]) -> Comparison:
        """The comparison of two versions whose changed files are `changes`."""
        texts = [change for change in changes if not change.is_binary and not change.is_large]
        if len(changes) > MAX_FILES:
            return Comparison(changes, f"more than {MAX_FILES:,} files differ")
        if sum(file.size for change in texts for file in (change.old, change.new) if file) > MAX_TEXTS:
            return Comparison(changes, f"the files that differ have more than {MAX_TEXTS >> 20} MiB")
        before = await self._contents.read(old, [change.old for change in texts if change.old])
        after = await self._contents.read(new, [change.new for change in texts if change.new])
        compared, count, characters, end = {}, 0, 0, time.monotonic() + SECONDS
        for change in texts:
            path = change.path
            pair = {"old": decoded(before.pop(path, b""))[0], "new": decoded(after.pop(path, b""))[0]}
            found = Change(change.old, change.new, await self._hunks(pair, end - time.monotonic()))
            compared[path] = found
            count += found.count(ADDED) + found.count(REMOVED)
            characters += found.weight
            if count > MAX_LINES:
                return Comparison(changes, f"more than {MAX_LINES:,} lines differ")
            if characters > MAX_CHARACTERS:
                return Comparison(changes, "the lines that differ are too long")
        return Comparison([compared.get(change.path, change) for change in changes], "")

    async def _hunks(self, pair: dict[str, str], seconds: float) -> list[Hunk] | None:
        """The hunks of a file. With little time left they are coarse; None if the file can't be compared at all."""
        for work in ("difference", "replacement") if seconds > 0.1 else ("replacement",):
            try:
                hunks: list[Hunk] = await self._workers.call(work, seconds=min(1.0, max(0.5, seconds)), **pair)
            except NotRendered:
                continue
            return hunks
        return None


def changed_files(old: Listing, new: Listing) -> list[Change]:
    """The files that differ, sorted by path, without hunks."""
    before, after = ({file.path: file for file in listing.files} for listing in (old, new))
    changes = []
    for path in sorted(before.keys() | after.keys()):
        one, other = before.get(path), after.get(path)
        if one is None or other is None or one.digest != other.digest:
            changes.append(Change(one, other, None))
    return changes


def changed_fields(old: VersionInfo, new: VersionInfo) -> list[FieldChange]:
    """The fields of the manifest that differ, without the dependencies."""
    pairs = ((name, _text(old.get(name)), _text(new.get(name))) for name in FIELDS)
    return [FieldChange(name, before, after) for name, before, after in pairs if before != after]


def changed_dependencies(old: VersionInfo, new: VersionInfo) -> list[FieldChange]:
    """The dependencies that were added, removed or got another range, by name."""
    before, after = old["dependencies"], new["dependencies"]
    names = sorted(before.keys() | after.keys())
    return [
        FieldChange(name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)
    ]


def _text(value: Any) -> str | None:
    return ", ".join(value) or None if isinstance(value, list) else value or None
