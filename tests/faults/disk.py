"""A small disk, which a test may fill."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def mounted(folder: Path, size: str) -> Iterator[None]:
    """An empty file system of `size` (such as 4m) in memory, at `folder`. Fails where it can't be mounted."""
    assert os.geteuid() == 0, "REGISTRY_FAULTS=all fills a disk of its own, which only root can mount: run it as root."
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"REGISTRY_FAULTS=all fills a disk of its own, which can't be mounted: {done.stderr}"
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def filled(folder: Path, spare: int = 0) -> Iterator[None]:
    """The file system of `folder` has `spare` bytes left in the block."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 20))
        # What a whole piece has no room for still has room for smaller ones.
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        assert os.statvfs(folder).f_bavail == 0
        file.truncate(file.tell() - spare)
    try:
        yield
    finally:
        ballast.unlink()
