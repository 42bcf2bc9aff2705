"""Which versions a range allows, and whether two ranges allow a common version. By the rules of npm's package `semver`.

A range is a list of alternatives. A version is allowed if it satisfies every limit of one alternative. A prerelease is
allowed only by an alternative that names a prerelease of the same MAJOR.MINOR.PATCH.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import nodesemver

from registry.package_format.ranges import parsed
from registry.package_format.versions import Version

_FIRST = Version("0.0.0", "0", "0", "0", "", "")
MAX_CACHED = 10_000


@dataclass(frozen=True, slots=True)
class _Point:
    """A version as it is compared. `core` is MAJOR.MINOR.PATCH."""

    key: str
    core: tuple[str, str, str]
    is_prerelease: bool


def _point(version: Version) -> _Point:
    return _Point(version.sort_key, (version.major, version.minor, version.patch), version.is_prerelease)


@dataclass(frozen=True, slots=True)
class _Limit:
    """A comparison with a version, such as `>=1.2.3`. The operator of an exact version is ``=``."""

    operator: str
    version: Version
    point: _Point

    def holds(self, key: str) -> bool:
        if self.operator == "=":
            return key == self.point.key
        if self.operator == ">":
            return key > self.point.key
        if self.operator == ">=":
            return key >= self.point.key
        return key < self.point.key if self.operator == "<" else key <= self.point.key


@dataclass(frozen=True)
class Range:
    """A version range. Make it with `parse`."""

    alternatives: tuple[tuple[_Limit, ...], ...]

    def allows(self, version: Version) -> bool:
        return self._allows(_point(version))

    def _allows(self, point: _Point) -> bool:
        return any(_satisfies(point, limits) for limits in self.alternatives)

    def meets(self, other: "Range") -> bool:
        """Whether both ranges allow a common version, published or not.

        If there is one, then the lowest version that satisfies two alternatives is a candidate of one of the ranges.
        """
        return any(self._allows(point) and other._allows(point) for point in (*self._candidates, *other._candidates))

    @cached_property
    def _candidates(self) -> tuple[_Point, ...]:
        limits = [limit.version for limits in self.alternatives for limit in limits]
        found = {_FIRST.text: _FIRST} | {near.text: near for version in limits for near in _around(version)}
        return tuple(map(_point, found.values()))

    @property
    def highest_key(self) -> str | None:
        """No allowed version has a higher `sort_key`. None if there is no upper limit."""
        highest = [
            min((limit.point.key for limit in limits if limit.operator in ("=", "<", "<=")), default=None)
            for limits in self.alternatives
        ]
        return max(key for key in highest if key is not None) if highest and None not in highest else None


@lru_cache(MAX_CACHED)
def parse(text: str) -> Range:
    """The range in `text`. Raises ValueError, with a text for the client, if it is none."""
    return Range(
        tuple(
            tuple(_limit(comparator) for comparator in group if comparator.semver is not nodesemver.ANY)
            for group in parsed(text)
        )
    )


def _limit(comparator: nodesemver.Comparator) -> _Limit:
    semver = comparator.semver
    version = _version(str(semver.major), str(semver.minor), str(semver.patch), ".".join(map(str, semver.prerelease)))
    return _Limit(comparator.operator or "=", version, _point(version))


def _version(major: str, minor: str, patch: str, prerelease: str = "") -> Version:
    core = f"{major}.{minor}.{patch}"
    return Version(f"{core}-{prerelease}" if prerelease else core, major, minor, patch, prerelease, "")


def _satisfies(point: _Point, limits: tuple[_Limit, ...]) -> bool:
    if not all(limit.holds(point.key) for limit in limits):
        return False
    return not point.is_prerelease or any(
        limit.point.is_prerelease and limit.point.core == point.core for limit in limits
    )


def _around(version: Version) -> Iterator[Version]:
    """`version`, the next release, and the lowest prereleases that may follow a lower limit at `version`."""
    core = (version.major, version.minor, version.patch)
    yield version
    yield _version(version.major, version.minor, str(int(version.patch) + 1))
    if version.is_prerelease:
        yield _version(*core)
        yield _version(*core, "0")
        yield _version(*core, f"{version.prerelease}.0")
