"""What must be true of a registry, kept beside it by whoever uses it."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.client import tarball

ABSENT, LIVE, DELETED = "absent", "live", "deleted"
LARGEST = 300_000


@dataclass(eq=False)
class Version:
    """One version of a package. Its bytes follow from its name and number, so that none are kept.

    `downloads` were answered whole; `doubtful` more were cut off and may have been counted. While `changing`, a request
    that changes it is under way; `changes` tells whether there was one meanwhile.
    """

    package: str
    number: int
    state: str = ABSENT
    yanked: bool = False
    downloads: int = 0
    doubtful: int = 0
    changing: bool = False
    changes: int = 0
    changed_at: float = 0.0

    @property
    def is_prerelease(self) -> bool:
        return self.number % 7 == 3

    @property
    def text(self) -> str:
        return f"1.{self.number}.0" + ("-rc.1" if self.is_prerelease else "")

    @property
    def path(self) -> str:
        return f"/packages/{self.package}/{self.text}"

    @property
    def description(self) -> str:
        return f"Number {self.number} of {self.package}"

    def data(self) -> bytes:
        chance = random.Random(self.path)
        files = {"data": chance.randbytes(int(LARGEST ** chance.random()))}
        return tarball(files=files, name=self.package, version=self.text, description=self.description)


@dataclass(eq=False)
class Package:
    name: str
    owner: int
    versions: list[Version] = field(default_factory=list)

    def new_version(self) -> Version:
        self.versions.append(Version(self.name, len(self.versions)))
        return self.versions[-1]

    @property
    def live(self) -> list[Version]:
        return [version for version in self.versions if version.state == LIVE]

    @property
    def latest(self) -> Version | None:
        """The one that the package shows: rather one that is not yanked, rather a stable one, then the highest."""
        return max(self.live, key=lambda v: (not v.yanked, not v.is_prerelease, v.number), default=None)

    @property
    def changing(self) -> bool:
        return any(version.changing for version in self.versions)

    @property
    def changed_at(self) -> float:
        return max(version.changed_at for version in self.versions)

    @property
    def is_found_by_name(self) -> bool:
        """Whether a search for the name must show it: what is yanked or unfinished may sink out of sight."""
        return self.latest is not None and not self.latest.yanked and not self.latest.is_prerelease


@dataclass(eq=False)
class Model:
    """Every package, and how many events there must be: one for each change, besides those of new packages."""

    packages: list[Package] = field(default_factory=list)
    events: int = 0

    def versions(self) -> Iterator[Version]:
        return (version for package in self.packages for version in package.versions)

    def live(self) -> list[Version]:
        return [version for version in self.versions() if version.state == LIVE]

    def downloads(self) -> tuple[int, int]:
        """How many must have been counted at least, and at most."""
        least = sum(version.downloads for version in self.versions())
        return least, least + sum(version.doubtful for version in self.versions())
