"""Packs a folder into a tarball. The same files give the same bytes, on every system and at any time."""

import argparse
import hashlib
import os
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from zlib_ng import gzip_ng

from registry.client.client import Client
from registry.client.failures import ClientError, WrongUsage
from registry.client.files import MANIFEST, TEMPORARY, Found, choose
from registry.client.output import Output, size
from registry.errors import FieldError, InvalidInput
from registry.package_format import archive
from registry.package_format.manifest import MAX_MANIFEST, merge, parse_manifest
from registry.package_format.member_names import ArchiveWarning

# 1980-01-01. tar warns about earlier times, and other archives can't store them.
TIME = 315_532_800
# A release of zlib-ng compresses to the same bytes on every system. Python's own zlib differs between systems.
LEVEL = 9


@dataclass(frozen=True)
class Tarball:
    """A tarball that a registry accepts, as far as that can be known here. `sha256` is in hex, `size` in bytes."""

    path: Path
    name: str
    version: str
    sha256: str
    size: int
    warnings: list[ArchiveWarning]

    @property
    def file_name(self) -> str:
        return f"{self.name}-{self.version}.tar.gz"


def pack(client: Client, options: argparse.Namespace) -> None:
    with packed(Path(options.folder), Path.cwd()) as tarball:
        target = Path.cwd() / tarball.file_name
        tarball.path.replace(target)
    show_warnings(client.out, tarball.warnings)
    data = {
        "file": tarball.file_name,
        "name": tarball.name,
        "version": tarball.version,
        "size": tarball.size,
        "checksum": tarball.sha256,
        "warnings": tarball.warnings,
    }
    text = f"{tarball.file_name}: {size(tarball.size)}, SHA-256 {tarball.sha256}"
    client.out.result(data, text)


@contextmanager
def packed(folder: Path, where: Path | None = None) -> Iterator[Tarball]:
    """The tarball of a folder, as a temporary file below `where`. Raises ClientError with every problem."""
    if not folder.is_dir():
        raise WrongUsage(f"There is no folder {folder}.")
    name, problems = _check_manifest(folder / MANIFEST)
    # Earlier tarballs of this package would otherwise be packed into the next one.
    files, bad_entries = choose(folder, (f"/{name}-*.tar.gz",) if name else ())
    problems += bad_entries
    if problems:
        raise refused(problems)
    with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=where, ignore_cleanup_errors=True) as temporary:
        path = Path(temporary) / "package.tar.gz"
        _write(path, files)
        yield inspected(path)


def inspected(path: Path) -> Tarball:
    """Checks a tarball by the registry's own rules. Raises ClientError with every problem."""
    try:
        found = archive.inspect(path)
        meta = merge({}, found.manifest, readme=found.readme)
    except InvalidInput as problem:
        raise refused(problem.errors or [{"field": path.name, "message": problem.detail}]) from problem
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Tarball(path, meta.name, meta.version.text, digest, path.stat().st_size, found.warnings)


def refused(errors: list[FieldError]) -> ClientError:
    text = "; ".join(f"{error['field']}: {error['message']}" for error in errors)
    return ClientError(text, code="invalid_package", errors=errors)


def show_warnings(out: Output, warnings: list[ArchiveWarning]) -> None:
    for warning in warnings:
        out.note(f"warning: {warning['path']}: {warning['message']}")


def _check_manifest(path: Path) -> tuple[str, list[FieldError]]:
    """The package's name, "" when it is not valid, and the problems of synapse.json."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_MANIFEST + 1)
    except FileNotFoundError:
        message = f"is missing. Create {path} with the name, version and description of the package"
        return "", [{"field": MANIFEST, "message": message}]
    if len(data) > MAX_MANIFEST:
        return "", [{"field": MANIFEST, "message": f"has more than {MAX_MANIFEST:,} bytes"}]
    try:
        return merge({}, parse_manifest(data)).name, []
    except InvalidInput as problem:
        return "", problem.errors or [{"field": MANIFEST, "message": problem.detail}]


def _write(path: Path, files: list[Found]) -> None:
    """Writes the tarball. Owners, times and modes don't depend on the system; the name of the gzip header is empty."""
    with (
        path.open("wb") as raw,
        gzip_ng.GzipNGFile("", "wb", LEVEL, raw, mtime=0) as zipped,  # type: ignore[no-untyped-call]
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for found in files:
            with found.path.open("rb") as content:
                tar.addfile(_member(found.name, content), content)


def _member(name: str, content: IO[bytes]) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = os.fstat(content.fileno()).st_size
    info.mtime = TIME
    # Windows has no executable bit, so the content decides: scripts begin with `#!`.
    info.mode = 0o755 if content.read(2) == b"#!" else 0o644
    content.seek(0)
    return info
