"""Reads the files of a tarball. These functions block and take processor time: call them in a thread.

They are generators, so that a caller can stop between two pieces.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b

from registry.contents.files import SNIFFED, File, Listing, media_type_of
from registry.package_format.gunzip import Gunzip, Readable
from registry.package_format.tar import BLOCK, read_members

PIECE = 128 * 1024
PER_STEP = 8 << 20
"""After so many unpacked bytes a generator yields, so that others get a turn."""

# As many as a published tarball may have (registry/package_format/archive.py).
_MAX_UNPACKED, _MAX_RATIO, _MAX_MEMBERS = 1 << 30, 1000, 100_000
_DIGEST_BYTES = 16
_MANIFEST = "synapse.json"


def opened(file: Readable, packed_size: int) -> Gunzip:
    """The unpacked content of a gzip file of `packed_size` bytes. Raises InvalidArchive."""
    return Gunzip(file, packed_size, max_unpacked=_MAX_UNPACKED, max_ratio=_MAX_RATIO)


def list_files(stream: Gunzip) -> Iterator[Listing | None]:
    """Yields None from time to time, and the listing at the end. Raises InvalidArchive."""
    files: dict[str, File] = {}  # when a tarball has a path twice, unpacking it leaves the last one
    seen = 0
    for count, member in enumerate(read_members(stream), 1):
        if count > _MAX_MEMBERS:
            break
        if member.is_file:
            path = "/".join(member.parts)
            offset = stream.count
            start = stream.read(min(member.size, SNIFFED))
            digest = blake2b(start, digest_size=_DIGEST_BYTES)
            for piece in _pieces(stream, member.size - len(start)):
                digest.update(piece)
                if stream.count - seen > PER_STEP:
                    seen = stream.count
                    yield None
            media_type = media_type_of(start, member.size)
            files[path] = File(path, member.size, media_type, offset, digest.digest())
        stream.skip(-member.size % BLOCK)
    yield Listing(_below_the_manifest(files))


def read_files(stream: Gunzip, files: Sequence[File]) -> Iterator[tuple[File, bytes] | None]:
    """Yields each file with its content, in the order of their offsets, and None in between.

    The caller limits their sizes. Raises InvalidArchive.
    """
    for file in sorted(files, key=lambda each: each.offset):
        yield from _go_to(stream, file)
        yield file, stream.read(file.size)


def stream_file(stream: Gunzip, file: File) -> Iterator[bytes | None]:
    """Yields the content of a file in pieces, and None before it. Raises InvalidArchive."""
    yield from _go_to(stream, file)
    yield from _pieces(stream, file.size)


def _go_to(stream: Gunzip, file: File) -> Iterator[None]:
    while (left := file.offset - stream.count) > 0:
        stream.skip(min(left, PER_STEP))
        yield None


def _pieces(stream: Gunzip, size: int) -> Iterator[bytes]:
    while size > 0:
        piece = stream.read(min(size, PIECE))
        size -= len(piece)
        yield piece


def _below_the_manifest(files: dict[str, File]) -> list[File]:
    """The files below the folder of synapse.json, with paths from there: the root, or else the single top folder."""
    if _MANIFEST in files:
        return list(files.values())
    # macOS stores extended attributes in a file `._name` next to each file or folder.
    tops = {path.partition("/")[0] for path in files if not path.startswith("._")}
    if len(tops) != 1:
        return list(files.values())
    prefix = f"{tops.pop()}/"
    return [
        File(path[len(prefix) :], file.size, file.media_type, file.offset, file.digest)
        for path, file in files.items()
        if path.startswith(prefix)
    ]
