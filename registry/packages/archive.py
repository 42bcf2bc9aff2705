"""Reads a published tarball once, in constant memory, and refuses what no honest packer writes.

Every limit is checked before what it bounds is read, so that a bomb costs neither memory nor time.
"""

import codecs
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from registry.errors import InvalidArchive, InvalidManifest
from registry.packages.gunzip import Gunzip
from registry.packages.manifest import MAX_MANIFEST, MAX_README, Manifest, clip_readme, parse_manifest

BLOCK = 512
MAX_EXTENSION = 1024 * 1024
# All of them together: reading them takes most of the time an archive may cost.
MAX_EXTENSIONS = 32 * 1024 * 1024

_MANIFEST = "synapse.json"
_READMES = ("readme.md", "readme.rst", "readme.txt", "readme")
_PAX_RECORD = re.compile(rb"([0-9]{1,10}) ([^=]+)=")
_PAX_SIZE = re.compile(rb"[0-9]{1,20}")
_UNSAFE_NAMES = [
    (re.compile(r"\A\Z"), "has an empty name"),
    (re.compile(r".{1025}", re.DOTALL), "has a name of more than 1,024 characters"),
    (re.compile("[\ud800-\udfff]"), "has a name that is not UTF-8"),
    (re.compile("[\x00-\x1f\x7f-\x9f]"), "has a control character in its name"),
    (re.compile(r"\\"), "has a backslash in its name"),
    # Windows takes C: for a drive behind ./ as well.
    (re.compile(r"\A(?:/|[./]*[A-Za-z]:)"), "has an absolute name"),
    (re.compile(r"(?:\A|/)\.\.(?:/|\Z)"), "leads out of the package by '..'"),
]
_EXTENSIONS = {
    tarfile.XHDTYPE: "pax",
    tarfile.SOLARIS_XHDTYPE: "pax",
    tarfile.XGLTYPE: "global pax",
    tarfile.GNUTYPE_LONGNAME: "long name",
    tarfile.GNUTYPE_LONGLINK: "long link",
}
_FILES = frozenset({tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE})
_LINKS = frozenset({tarfile.SYMTYPE, tarfile.LNKTYPE})
_DEVICES = frozenset({tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE})


@dataclass(frozen=True)
class Archive:
    """What a tarball holds: its synapse.json, the README beside it ("" without one) and its measures.

    `unpacked_size` counts every byte under the gzip layer, headers and padding included.
    """

    manifest: Manifest
    readme: str
    member_count: int
    unpacked_size: int


def inspect(path: Path, *, max_unpacked: int = 1 << 30, max_ratio: int = 1000, max_members: int = 100_000) -> Archive:
    """Read the gzipped tar at `path` to its last byte; blocks, so call it in a thread.

    Sizes are in bytes; `max_ratio` is unpacked to packed. Raises InvalidArchive and InvalidManifest only, whatever
    the file's bytes are (and OSError when the file itself can't be read).
    """
    with path.open("rb") as file:
        stream = Gunzip(file, path.stat().st_size, max_unpacked=max_unpacked, max_ratio=max_ratio)
        found = _Found()
        count = 0
        for count, member in enumerate(_members(stream), 1):
            if count > max_members:
                raise InvalidArchive(f"The tarball holds more than {max_members:,} members.")
            if member.size > max_unpacked:
                raise InvalidArchive(f"The tarball unpacks to more than {max_unpacked:,} bytes.")
            found.take(member, stream)
        stream.expect_only_zeros()
        return Archive(found.manifest(), found.readme(), count, stream.count)


@dataclass(frozen=True)
class _Member:
    """A file or a folder: the parts of its name, none of them "." or "..", and its content's size in bytes."""

    parts: tuple[str, ...]
    is_file: bool
    size: int


def _members(stream: Gunzip) -> Iterator[_Member]:
    """The members up to the two zero blocks behind them; who takes one moves the stream to the end of its content."""
    extensions: dict[str, bytes] = {}
    extended = 0
    while (header := _read_header(stream)) is not None:
        kind = _EXTENSIONS.get(header.type)
        if kind is None:
            yield _member(header, extensions)
            extensions = {}
            continue
        if kind in extensions:
            raise InvalidArchive(f"The tarball gives one member two {kind} headers.")
        if not 0 <= header.size <= MAX_EXTENSION:
            raise InvalidArchive(f"The tarball has a {kind} header of more than {MAX_EXTENSION:,} bytes.")
        extended += header.size
        if extended > MAX_EXTENSIONS:
            raise InvalidArchive(f"The tarball has more than {MAX_EXTENSIONS:,} bytes of pax and long name headers.")
        extensions[kind] = stream.read(header.size)
        stream.skip(-header.size % BLOCK)
    if extensions:
        raise InvalidArchive("The tarball ends in a header without its member.")


def _read_header(stream: Gunzip) -> tarfile.TarInfo | None:
    at_start = stream.count == 0
    block = stream.read(BLOCK)
    if not any(block):
        if any(stream.read(BLOCK)):
            raise InvalidArchive("The tarball goes on behind its end.")
        return None
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise InvalidArchive(
            "The tarball is not a tar archive." if at_start else "The tarball has a damaged member header."
        ) from error


def _member(header: tarfile.TarInfo, extensions: dict[str, bytes]) -> _Member:
    """The member `header` and the extension headers before it describe, if it is one we take."""
    name, size = _name_and_size(header, extensions)
    parts = _safe_parts(name)
    if header.type in _FILES and not name.endswith("/"):
        if not parts or size < 0:
            raise _refusal(name, "has no file name" if not parts else "has a negative size")
        return _Member(parts, is_file=True, size=size)
    if header.isdir() or header.type in _FILES:
        # Readers disagree on whether a folder's content is skipped: then two of them see two archives.
        if size:
            raise _refusal(name, "is a folder with content")
        return _Member(parts, is_file=False, size=0)
    if header.type in _LINKS:
        raise _refusal(name, "is a link")
    raise _refusal(name, "is a device" if header.type in _DEVICES else "is neither a file nor a folder")


def _name_and_size(header: tarfile.TarInfo, extensions: dict[str, bytes]) -> tuple[str, int]:
    """What the extension headers make of the member's name and size."""
    name, size = header.name, header.size
    if "long name" in extensions:
        name = _decode(extensions["long name"].partition(b"\x00")[0])
    shared = _pax_records(extensions.get("global pax", b""))
    own = _pax_records(extensions.get("pax", b""))
    if b"path" in shared or b"size" in shared or any(key.startswith(b"GNU.sparse.") for key in shared | own):
        raise InvalidArchive("The tarball uses sparse files or a shared name or size, which are not supported.")
    if b"path" in own:
        name = _decode(own[b"path"])
    if b"size" in own:
        if not _PAX_SIZE.fullmatch(own[b"size"]):
            raise InvalidArchive("The tarball has a damaged pax header.")
        size = int(own[b"size"])
    return name, size


def _safe_parts(name: str) -> tuple[str, ...]:
    """The parts of a member's name; refused unless it stays below the folder it is unpacked in, on any system."""
    for pattern, problem in _UNSAFE_NAMES:
        if pattern.search(name):
            raise _refusal(name, problem)
    return tuple(part for part in name.split("/") if part not in ("", "."))


def _pax_records(data: bytes) -> dict[bytes, bytes]:
    records: dict[bytes, bytes] = {}
    start = 0
    while start < len(data):
        match = _PAX_RECORD.match(data, start)
        end = start + int(match[1]) if match else 0
        if match is None or not match.end() < end <= len(data) or data[end - 1 : end] != b"\n":
            raise InvalidArchive("The tarball has a damaged pax header.")
        if match[2] in records:
            raise InvalidArchive("The tarball has a pax header with a repeated record.")
        records[match[2]] = data[match.end() : end - 1]
        start = end
    return records


def _decode(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _refusal(name: str, problem: str) -> InvalidArchive:
    return InvalidArchive(f"The tarball's member {name[:100]!a} {problem}.")


@dataclass
class _Place:
    """The root or the top folder: what lies in it that we look for."""

    manifest: bytes | None = None
    readme: bytes = b""
    readme_rank: int = len(_READMES)


@dataclass
class _Found:
    """Manifests and READMEs seen so far. Only the first top folder is followed: with a second there's no single one."""

    tops: set[str] = field(default_factory=set)
    places: dict[str, _Place] = field(default_factory=dict)

    def take(self, member: _Member, stream: Gunzip) -> None:
        """Keep the member's content if we look for it, and leave the stream behind its padding."""
        content = b""
        place = self._place_of(member)
        if place is not None and member.is_file:
            content = self._keep(place, member, stream)
        stream.skip(member.size - len(content) + -member.size % BLOCK)

    def _place_of(self, member: _Member) -> _Place | None:
        # macOS puts a ._twin of extended attributes beside the folder it packs.
        if not member.parts or member.parts[0].startswith("._"):
            return None
        if len(self.tops) < 2:
            self.tops.add(member.parts[0])
        folder = "/".join(member.parts[:-1])
        if len(member.parts) > 2 or (folder and len(self.tops) > 1):
            return None
        return self.places.setdefault(folder, _Place())

    @staticmethod
    def _keep(place: _Place, member: _Member, stream: Gunzip) -> bytes:
        name = member.parts[-1]
        if name == _MANIFEST:
            if place.manifest is not None:
                raise InvalidArchive("The tarball holds synapse.json twice.")
            place.manifest = stream.read(min(member.size, MAX_MANIFEST + 1))
            return place.manifest
        rank = _READMES.index(name.lower()) if name.lower() in _READMES else len(_READMES)
        if rank >= place.readme_rank:
            return b""
        place.readme_rank = rank
        place.readme = stream.read(min(member.size, MAX_README))
        return place.readme

    def _chosen(self) -> _Place:
        root = self.places.get("", _Place())
        if root.manifest is not None or len(self.tops) != 1:
            return root
        return self.places.get(next(iter(self.tops)), _Place())

    def manifest(self) -> Manifest:
        data = self._chosen().manifest
        if data is None:
            raise InvalidManifest("The tarball holds no synapse.json at its root or in its single top folder.")
        if len(data) > MAX_MANIFEST:
            raise InvalidManifest(f"synapse.json has more than {MAX_MANIFEST:,} bytes.")
        return parse_manifest(data)

    def readme(self) -> str:
        # A character cut in two at the limit is left out, not replaced.
        decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        data = self._chosen().readme
        return clip_readme(decoder.decode(data, final=len(data) < MAX_README))
