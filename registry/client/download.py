"""download: a tarball, continued where an earlier download stopped, and checked against its SHA-256."""

import argparse
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from urllib3 import BaseHTTPResponse

from registry.client.address import api_path
from registry.client.api import Api
from registry.client.client import Client
from registry.client.failures import ClientError, TryLater
from registry.client.output import deprecation, size
from registry.client.spec import parse
from registry.client.transport import BLOCK

LATEST = "latest"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE_NAME = re.compile(r"[A-Za-z0-9._+-]{1,240}\.tar\.gz")


def download(client: Client, options: argparse.Namespace) -> None:
    spec = parse(options.package)
    about = client.read(api_path("packages", spec.name, spec.version or LATEST))
    target = _target(about, options.output)
    if about["yanked"]:
        client.out.note(f"warning: {about['name']} {about['version']} is yanked: {about['yank_reason'] or 'no reason'}")
    if about["deprecated"]:
        client.out.note(f"warning: {about['name']} is deprecated: {deprecation(about)}")
    data = {"file": str(target), "name": about["name"], "version": about["version"], "checksum": about["checksum"]}
    if not target.exists():
        _fetch(client, about, target)
        client.out.result(data, f"{target}: {size(about['tarball_size'])}, SHA-256 {about['checksum']}")
        return
    with target.open("rb") as file:
        if _sha256(file) != about["checksum"]:
            raise ClientError(f"{target} exists and has other content. Move it away first.", code="file_exists")
    client.out.result(data, f"{target} is here already.")


def _target(about: dict[str, Any], output: str | None) -> Path:
    name = f"{about['name']}-{about['version']}.tar.gz"
    # Both become part of a file's name.
    if not _FILE_NAME.fullmatch(name) or not _SHA256.fullmatch(about["checksum"]):
        raise ClientError(
            f"The registry names a file {name!r} with the SHA-256 {about['checksum']!r}, which is refused."
        )
    if output is None:
        return Path(name)
    return Path(output) / name if Path(output).is_dir() else Path(output)


def _fetch(client: Client, about: dict[str, Any], target: Path) -> None:
    # The name is the checksum, so that only a download of the same bytes is continued.
    part = target.with_name(f".{about['checksum'][:32]}.part")
    with _exclusive(part) as file:
        if file.seek(0, os.SEEK_END) > about["tarball_size"]:
            _empty(file)
        client.transport.retry(lambda: _fetch_rest(client, about, file))
        file.seek(0)
        is_right = _sha256(file) == about["checksum"]
    if not is_right:
        part.unlink(missing_ok=True)
        raise ClientError(
            f"The SHA-256 of the downloaded bytes is not {about['checksum']}. They are deleted; download again.",
            code="checksum_mismatch",
        )
    try:
        part.replace(target)
    except FileNotFoundError:
        if not target.exists():
            raise  # else another process has finished the same download


@contextmanager
def _exclusive(path: Path) -> Iterator[IO[bytes]]:
    """A file to read and write, for one process at a time. Others wait."""
    try:
        # In a folder that others write to, a link with this name could lead to another file of the user.
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(path, flags, 0o666)
        with os.fdopen(descriptor, "r+b") as file:
            _lock(file)
            yield file
    except OSError as error:
        error.filename = error.filename or str(path)  # writing to a full disk names no file
        raise


def _lock(file: IO[bytes]) -> None:
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows: two downloads at once end with wrong bytes, which are found
        return
    with suppress(OSError):  # a file system without locks
        fcntl.flock(file, fcntl.LOCK_EX)


def _fetch_rest(client: Client, about: dict[str, Any], file: IO[bytes]) -> None:
    """Appends what is missing at the end of `file`. Raises TryLater when the connection breaks off."""
    total = int(about["tarball_size"])
    start = file.tell()
    if start == total:
        return
    api: Api = client.api
    request = api.request(
        "GET",
        api_path("packages", about["name"], about["version"], "tarball"),
        headers={"Accept": "*/*", **({"Range": f"bytes={start}-"} if start else {})},
        elsewhere=True,
    )

    def write(response: BaseHTTPResponse) -> None:
        nonlocal start
        if start and response.status != 206:
            _empty(file)  # the server sends everything again
            start = 0
        elif start and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise ClientError("The server sent another part of the file than the client asked for.")
        with client.out.progress("Downloading", total, start) as bar:
            while block := response.read(BLOCK, decode_content=False):
                if file.tell() + len(block) > total:
                    raise ClientError(f"The server sends more than the {total:,} bytes of the tarball.")
                file.write(block)
                bar.update(len(block))

    try:
        api.send(request, write)
    finally:
        file.flush()
    if file.tell() < total:
        raise TryLater("The download stopped early.", code="no_connection")


def _empty(file: IO[bytes]) -> None:
    file.seek(0)
    file.truncate()


def _sha256(file: IO[bytes]) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
