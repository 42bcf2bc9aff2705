"""Checks the files and folders that settings name. Each check raises ValueError with what the setting wants."""

import re
import ssl
import tempfile
from pathlib import Path
from typing import BinaryIO

from registry.setting_types import has_controls

MAX_SECRET_BYTES = 65_536
HASHES_SAMPLED = 64


def folder(value: str) -> Path:
    if has_controls(value):
        raise ValueError("the path of a folder, without control characters")
    return Path(value).expanduser()


def read_secret(path: str) -> str:
    """The content of a secret's file without the line break at its end, which editors add."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise ValueError(f"a file that can be read ({error.strerror})") from None
    try:
        content = data.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("a file of UTF-8 text") from None
    content = content.removesuffix("\n").removesuffix("\r")
    if not content or has_controls(content) or len(data) > MAX_SECRET_BYTES:
        raise ValueError("a file that holds the value in one line and nothing else")
    return content


def sorted_hashes(value: str) -> Path | None:
    """A file of SHA-1 hashes in hex, one in each line, in ascending order.

    Only a sample of the lines is checked, because the file may be huge.
    """
    if not value:
        return None
    path = folder(value)
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            sample = [_line_after(file, size * part // HASHES_SAMPLED) for part in range(HASHES_SAMPLED)]
    except OSError as error:
        raise ValueError(f"a file that can be read ({error.strerror})") from None
    seen = [line for line in sample if line]
    if not seen or not all(re.fullmatch(rb"[0-9A-Fa-f]{40}(:[0-9]+)?\r?\n?", line) for line in seen):
        raise ValueError("a file of lines such as HASH:COUNT, where HASH is 40 hex digits of SHA-1")
    hashes = [line[:40].upper() for line in seen]
    if hashes != sorted(hashes):
        raise ValueError("a file with ascending hashes, such as the single file of the Have I Been Pwned downloader")
    return path


def require_certificates(path: str) -> None:
    """Checks a file of CA certificates in PEM."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        raise ValueError("a file of CA certificates in PEM") from None
    except OSError as error:
        raise ValueError(f"a file that can be read ({error.strerror})") from None


def require_writable(path: Path) -> None:
    """Makes the folder if it is missing, and writes a file into it that is removed at once."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ValueError(f"a folder that can be written ({error.strerror})") from None


def _line_after(file: BinaryIO, offset: int) -> bytes:
    """The first whole line that begins at `offset` or after it."""
    file.seek(max(offset - 1, 0))
    if offset:
        file.readline(100)
    return file.readline(100)
