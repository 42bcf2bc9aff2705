"""What the dependencies of a version mean here: whether each package exists, and the version that its range selects."""

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from registry.db.engine import Connection, Database, Row
from registry.package_format import versions
from registry.package_format.names import similarity_key
from registry.package_format.range_sets import Range, parse
from registry.packages.dependencies import store

# The versions that are read at once, of all packages together, and how often.
BATCH = 5_000
MAX_BATCHES = 10
_ABOVE_ALL = "~"


@dataclass(frozen=True, slots=True)
class Dependency:
    """A dependency of a version.

    `package` is the name of the package here, None if there is none that the reader may see. `selected` is the version
    that the range selects now: the latest one if the range allows it, or else the highest allowed version that is not
    yanked. A yanked version is selected only if no other is allowed; `is_yanked` says so. "" means that the range
    allows no version here.
    """

    name: str
    range: str
    package: str | None = None
    description: str = ""
    is_deprecated: bool = False
    latest: str = ""
    selected: str = ""
    is_yanked: bool = False


@dataclass(slots=True)
class _Search:
    """The search for the version that a range selects. `below` is the sort key below which it goes on."""

    range: Range
    below: str
    selected: str = ""
    yanked: str = ""
    is_done: bool = False


async def resolve(
    db: Database, dependencies: Mapping[str, str], visible: Collection[str] | None = None
) -> list[Dependency]:
    """The dependencies in the order of their names. `visible` restricts the packages that are shown; None means all."""
    shown = None if visible is None else set(map(similarity_key, visible))
    keys = {similarity_key(name) for name in dependencies}
    async with db.read(snapshot=True) as conn:
        rows = await store.targets(conn, sorted(keys if shown is None else keys & shown))
        targets: dict[str, Row] = {row.key: row for row in rows}
        searches = {
            name: _start(text, targets[similarity_key(name)])
            for name, text in dependencies.items()
            if similarity_key(name) in targets
        }
        await _search(conn, [(targets[similarity_key(name)].id, search) for name, search in searches.items()])
    return [
        _dependency(name, dependencies[name], targets.get(similarity_key(name)), searches.get(name))
        for name in sorted(dependencies)
    ]


def _start(text: str, target: Row) -> _Search:
    try:
        wanted = parse(text)
    except ValueError:  # published before this kind of range was refused
        wanted = Range(())
    highest = wanted.highest_key
    search = _Search(wanted, _ABOVE_ALL if highest is None else highest + _ABOVE_ALL, is_done=not wanted.alternatives)
    if not target.yanked and wanted.allows(versions.parse(target.latest_version)):
        search.selected, search.is_done = target.latest_version, True
    return search


async def _search(conn: Connection, searches: list[tuple[int, _Search]]) -> None:
    """Reads the versions of each package, given by its id, from the highest on until its search is done."""
    for _ in range(MAX_BATCHES):
        searches = [(package, search) for package, search in searches if not search.is_done]
        if not searches:
            return
        count = max(BATCH // len(searches), 5)
        rows = await store.versions_below(
            conn, [package for package, _ in searches], [search.below for _, search in searches], count
        )
        await asyncio.to_thread(_look, [search for _, search in searches], rows, count)


def _look(searches: Sequence[_Search], rows: list[Row], count: int) -> None:
    """Continues `searches` with up to `count` rows for each."""
    read = Counter(row.position for row in rows)
    for row in rows:
        search = searches[row.position - 1]
        search.below = row.sort_key
        if search.selected or not search.range.allows(versions.parse(row.version)):
            continue
        if row.yanked:
            search.yanked = search.yanked or row.version
        else:
            search.selected = row.version
    for position, search in enumerate(searches, 1):
        search.is_done = bool(search.selected) or read[position] < count


def _dependency(name: str, text: str, target: Row | None, search: _Search | None) -> Dependency:
    if target is None or search is None:
        return Dependency(name, text)
    return Dependency(
        name,
        text,
        target.name,
        target.description,
        target.deprecated is not None,
        target.latest_version,
        search.selected or search.yanked,
        is_yanked=not search.selected and bool(search.yanked),
    )
