"""The files of a version: their names, their sizes, and what their first bytes say they are."""

import codecs
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

TEXT, BYTES = "text/plain", "application/octet-stream"
SNIFFED = 8192
"""How many bytes `media_type_of` needs."""

# SVG is not among them: it can contain scripts.
_PICTURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# A text contains no control characters but those for tabs, line ends, form feeds and terminals.
_CONTROLS = bytes(set(range(32)) - {9, 10, 12, 13, 27}) + b"\x7f"


@dataclass(frozen=True, slots=True)
class File:
    """A file of a tarball.

    `path` is relative to the folder of synapse.json. `size` is in bytes. `offset` is where its content begins in the
    unpacked tar archive. Files with the same `digest` have the same content.
    """

    path: str
    size: int
    media_type: str
    offset: int
    digest: bytes

    @property
    def is_text(self) -> bool:
        return self.media_type == TEXT

    @property
    def is_picture(self) -> bool:
        return self.media_type.startswith("image/")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or a folder in a folder. `count` is the number of files below a folder; `file` is None for one."""

    name: str
    file: File | None
    count: int


class Listing:
    """All files of a version, sorted by path."""

    def __init__(self, files: Sequence[File]) -> None:
        self.files = sorted(files, key=lambda file: file.path)
        self._paths = [file.path for file in self.files]

    @property
    def weight(self) -> int:
        """The approximate number of bytes in memory."""
        return sum(400 + 2 * len(path) for path in self._paths) + 1000

    def find(self, path: str) -> File | None:
        at = bisect_left(self._paths, path)
        return self.files[at] if at < len(self._paths) and self._paths[at] == path else None

    def folder(self, path: str) -> list[Entry]:
        """The folders of the folder `path` and then its files, each by name. Empty if there is no such folder.

        The path of the top folder is "".
        """
        prefix = f"{path}/" if path else ""
        at, end = self._range(prefix)
        folders, files = [], []
        while at < end:
            name, slash, _ = self._paths[at][len(prefix) :].partition("/")
            if slash:
                after = self._range(f"{prefix}{name}/")[1]
                folders.append(Entry(name, None, after - at))
                at = after
            else:
                files.append(Entry(name, self.files[at], 1))
                at += 1
        return sorted(folders, key=lambda entry: entry.name) + files

    def has_folder(self, path: str) -> bool:
        start, end = self._range(f"{path}/" if path else "")
        return start < end

    def _range(self, prefix: str) -> tuple[int, int]:
        """Where the paths that start with `prefix` begin and end. It is "" or ends with a slash."""
        if not prefix:
            return 0, len(self._paths)
        return bisect_left(self._paths, prefix), bisect_left(self._paths, f"{prefix[:-1]}0")  # "0" follows "/"


def media_type_of(start: bytes, size: int) -> str:
    """The media type of a file of `size` bytes that begins with `start`: TEXT, BYTES, or that of a raster picture."""
    for magic, media_type in _PICTURES:
        if start.startswith(magic):
            return media_type
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "image/webp"
    if start[4:12] in (b"ftypavif", b"ftypavis"):
        return "image/avif"
    return TEXT if _is_text(start, is_whole=len(start) >= size) else BYTES


def decoded(data: bytes) -> tuple[str, str]:
    """The text of a file with the media type TEXT, and its encoding. Bytes that it can't have become U+FFFD."""
    if data.startswith(_UTF16):
        return data.decode("utf-16", "replace"), "UTF-16"
    try:
        return data.decode("utf-8-sig"), "UTF-8"
    except UnicodeDecodeError:
        return data.decode("windows-1252", "replace"), "Windows-1252"


def _is_text(start: bytes, *, is_whole: bool) -> bool:
    if start.startswith(_UTF16):
        return True
    if start.translate(None, _CONTROLS) != start:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start, final=is_whole)
    except UnicodeDecodeError:
        # Texts in an older encoding of Europe are mostly ASCII.
        return sum(byte < 128 for byte in start) * 4 > len(start) * 3
    return True
