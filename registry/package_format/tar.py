"""Reads the members of a tar stream. Refuses each header that different tar programs may interpret differently."""

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

from registry.errors import InvalidArchive
from registry.package_format.gunzip import Gunzip
from registry.package_format.member_names import refusal, safe_parts

BLOCK = 512
MAX_EXTENSION = 1024 * 1024
# The limit for the extension headers of all members together. Parsing them takes longer than skipping content.
MAX_EXTENSIONS = 32 * 1024 * 1024

_MAGIC = slice(257, 263)
_USTAR = b"ustar\x00"
_PREFIX = slice(345, 500)
_SIZE = slice(124, 136)
_CHECKSUM = slice(148, 156)
# Octal digits, or a binary number. Python's int() also accepts "1_0" and "0o10".
_NUMBER = re.compile(rb" *[0-7]+[ \x00]*|[\x80\xff].*", re.DOTALL)
# Programs written in C would end the key at a NUL.
_PAX_RECORD = re.compile(rb"([0-9]{1,10}) ([^=\x00\n]+)=")
_PAX_SIZE = re.compile(rb"[0-9]{1,20}")
_SPARSE = (b"GNU.sparse.", b"SCHILY.realsize", b"SUN.holesdata")
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
class Member:
    """A file or a folder. `parts` is its name split at "/", without "." and "..". `size` is in bytes."""

    parts: tuple[str, ...]
    is_file: bool
    size: int


@dataclass(frozen=True)
class _Header:
    """A member header. `name` includes the ustar prefix. `size` is in bytes."""

    type: bytes
    name: str
    size: int


def read_members(stream: Gunzip) -> Iterator[Member]:
    """Yields the members up to the two zero blocks at the end.

    The caller must move the stream past the content and padding of a member before it takes the next member. Raises
    InvalidArchive for a member that is neither a file nor a folder, that has an unsafe name, or that has two different
    names, sizes or link targets.
    """
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
        raise InvalidArchive("The tarball ends after a pax or long name header, without its member.")


def _read_header(stream: Gunzip) -> _Header | None:
    """The next header, or None at the end of the archive."""
    at_start = stream.count == 0
    block = stream.read(BLOCK)
    if not any(block):
        if any(stream.read(BLOCK)):
            raise InvalidArchive("The tarball has data after its end.")
        return None
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise InvalidArchive(
            "The tarball is not a tar archive." if at_start else "The tarball has a damaged member header."
        ) from error
    if not _NUMBER.fullmatch(block[_SIZE]) or not _NUMBER.fullmatch(block[_CHECKSUM]):
        raise InvalidArchive("The tarball has a damaged member header.")
    if any(block[_PREFIX]) and block[_MAGIC] != _USTAR:
        raise refusal(info.name, "has two names: some programs read a name prefix that others ignore")
    # frombuf() turns a file whose name ends in "/" into a folder and removes the "/". Undo this, because an extension
    # header may still change the name.
    is_old_folder = info.type == tarfile.DIRTYPE and block[156:157] == tarfile.AREGTYPE
    return _Header(block[156:157], f"{info.name}/" if is_old_folder else info.name, info.size)


def _member(header: _Header, extensions: dict[str, bytes]) -> Member:
    """The member that `header` and the extension headers before it describe."""
    name, size = _name_and_size(header, extensions)
    parts = safe_parts(name)
    if header.type == tarfile.AREGTYPE and header.name.endswith("/") != name.endswith("/"):
        raise refusal(name, "is a file by one of its names and a folder by the other")
    if header.type in _FILES and not name.endswith("/"):
        if not parts or size < 0:
            raise refusal(name, "has no file name" if not parts else "has a negative size")
        return Member(parts, is_file=True, size=size)
    if header.type == tarfile.DIRTYPE or header.type in _FILES:
        # Some programs skip the content of a folder, others read it as headers.
        if size:
            raise refusal(name, "is a folder with content")
        return Member(parts, is_file=False, size=0)
    if header.type in _LINKS:
        raise refusal(name, "is a link")
    raise refusal(name, "is a device" if header.type in _DEVICES else "is neither a file nor a folder")


def _name_and_size(header: _Header, extensions: dict[str, bytes]) -> tuple[str, int]:
    """The member's name and size, each from its own header or from an extension header."""
    shared = _pax_records(extensions.get("global pax", b""))
    own = _pax_records(extensions.get("pax", b""))
    if any(key.startswith(_SPARSE) for key in shared | own):
        raise InvalidArchive("The tarball holds sparse files, which are not supported.")
    if shared.keys() & {b"path", b"size", b"linkpath"}:
        raise InvalidArchive("The tarball has a global pax header with a name, size or link target, which is refused.")
    name, size = header.name, header.size
    if "long name" in extensions:
        name = _decode(extensions["long name"].partition(b"\x00")[0])
    if b"path" in own:
        if "long name" in extensions:
            raise refusal(name, "has two names: a GNU long name and a pax path")
        name = _decode(own[b"path"])
    if b"linkpath" in own and "long link" in extensions:
        raise refusal(name, "has two link targets: a GNU long link and a pax linkpath")
    if b"size" in own:
        if not _PAX_SIZE.fullmatch(own[b"size"]):
            raise InvalidArchive("The tarball has a damaged pax header.")
        if int(own[b"size"]) != size:
            raise refusal(name, "has two sizes: its pax header and its own header differ")
    return name, size


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
