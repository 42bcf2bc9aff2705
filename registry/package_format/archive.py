"""Inspects a published tarball in one pass, in bounded memory. Refuses archives that normal tools don't create.

Each limit is checked before the data that it limits is read, so an archive bomb costs neither memory nor time.
"""

import codecs
import io
from dataclasses import dataclass, field
from pathlib import Path

from registry.errors import InvalidArchive, InvalidManifest
from registry.package_format.gunzip import Gunzip
from registry.package_format.manifest import MAX_MANIFEST, MAX_README, Manifest, clip_readme, parse_manifest
from registry.package_format.member_names import ArchiveWarning, Names
from registry.package_format.tar import BLOCK, Member, read_members

_MANIFEST = "synapse.json"
# The README is the first of these that the folder contains.
_READMES = ("readme.md", "readme.rst", "readme.txt", "readme")


@dataclass(frozen=True)
class Archive:
    """The result of inspecting a tarball. `readme` is "" if there is none. `warnings` are about member names.

    `unpacked_size` is the size of the tar archive in bytes, including headers and padding.
    """

    manifest: Manifest
    readme: str
    member_count: int
    unpacked_size: int
    warnings: list[ArchiveWarning]


def inspect(
    tarball: Path | bytes, *, max_unpacked: int = 1 << 30, max_ratio: int = 1000, max_members: int = 100_000
) -> Archive:
    """Reads the gzipped tar, a file or bytes, to its last byte. It blocks: call it in a thread.

    `max_unpacked` is in bytes. `max_ratio` limits the ratio of unpacked to packed size. Raises InvalidArchive or
    InvalidManifest for a file that can't be accepted, and OSError if the file can't be read.
    """
    with tarball.open("rb") if isinstance(tarball, Path) else io.BytesIO(tarball) as file:
        size = tarball.stat().st_size if isinstance(tarball, Path) else len(tarball)
        stream = Gunzip(file, size, max_unpacked=max_unpacked, max_ratio=max_ratio)
        contents, names = _Contents(), Names()
        count = 0
        for count, member in enumerate(read_members(stream), 1):
            if count > max_members:
                raise InvalidArchive(f"The tarball holds more than {max_members:,} members.")
            if member.size > max_unpacked:
                raise InvalidArchive(f"The tarball unpacks to more than {max_unpacked:,} bytes.")
            names.add(member.parts, is_file=member.is_file)
            contents.take(member, stream)
        stream.expect_only_zeros()
        names.raise_conflicts()
        return Archive(contents.manifest(), contents.readme(), count, stream.count, names.warnings())


@dataclass
class _Folder:
    """The manifest and README of the root or of a top folder. A README of a lower rank replaces an earlier one."""

    manifest: bytes | None = None
    manifest_name: str = ""
    readme: bytes = b""
    readme_rank: int = len(_READMES)


@dataclass
class _Contents:
    """The manifests and READMEs of the root and of the first top folder.

    `top_names` has at most two names of the top level. If there are two, there is no single top folder, so the manifest
    must be at the root.
    """

    top_names: set[str] = field(default_factory=set)
    folders: dict[str, _Folder] = field(default_factory=dict)

    def take(self, member: Member, stream: Gunzip) -> None:
        """Stores the content of a manifest or README. Moves the stream past the member's content and padding."""
        content = b""
        folder = self._folder_of(member)
        if folder is not None and member.is_file:
            content = self._read(folder, member, stream)
        stream.skip(member.size - len(content) + -member.size % BLOCK)

    def _folder_of(self, member: Member) -> _Folder | None:
        # macOS stores extended attributes in a file `._name` next to each file or folder.
        if not member.parts or member.parts[0].startswith("._"):
            return None
        if len(self.top_names) < 2:
            self.top_names.add(member.parts[0])
        folder = "/".join(member.parts[:-1])
        if len(member.parts) > 2 or (folder and len(self.top_names) > 1):
            return None
        return self.folders.setdefault(folder, _Folder())

    @staticmethod
    def _read(folder: _Folder, member: Member, stream: Gunzip) -> bytes:
        name = member.parts[-1]
        if name.casefold() == _MANIFEST:
            if folder.manifest_name:
                raise _two_manifests(folder.manifest_name, name)
            folder.manifest_name = name
            if name != _MANIFEST:
                return b""
            folder.manifest = stream.read(min(member.size, MAX_MANIFEST + 1))
            return folder.manifest
        rank = _READMES.index(name.lower()) if name.lower() in _READMES else len(_READMES)
        if rank >= folder.readme_rank:
            return b""
        folder.readme_rank = rank
        folder.readme = stream.read(min(member.size, MAX_README))
        return folder.readme

    def _chosen(self) -> _Folder:
        root = self.folders.get("", _Folder())
        if root.manifest is not None or len(self.top_names) != 1:
            return root
        return self.folders.get(next(iter(self.top_names)), _Folder())

    def manifest(self) -> Manifest:
        data = self._chosen().manifest
        if data is None:
            raise InvalidManifest("The tarball holds no synapse.json at its root or in its single top folder.")
        if len(data) > MAX_MANIFEST:
            raise InvalidManifest(f"synapse.json has more than {MAX_MANIFEST:,} bytes.")
        return parse_manifest(data)

    def readme(self) -> str:
        # If the size limit cut the last character, leave it out instead of replacing it.
        decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        data = self._chosen().readme
        return clip_readme(decoder.decode(data, final=len(data) < MAX_README))


def _two_manifests(first: str, second: str) -> InvalidArchive:
    if first == second:
        return InvalidArchive("The tarball holds synapse.json twice.")
    return InvalidArchive(f"The tarball holds both {first} and {second}, which some systems unpack to the same file.")
