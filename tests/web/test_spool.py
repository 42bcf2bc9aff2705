"""The spool folders of processes."""

import hashlib
import multiprocessing
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from registry.errors import TooLarge
from registry.web.spool import PIECE, SMALL, Spool

PROCESSES, ROUNDS = 4, 50


def start_and_end(root: Path) -> bool:
    """Whether each process's folder existed until that process ended."""
    for _ in range(ROUNDS):
        spool = Spool(root)
        if not (spool._folder / "lock").exists():
            return False
        spool.close()
    return True


def test_processes_that_start_together_keep_their_own_folders(tmp_path: Path):
    with multiprocessing.get_context("forkserver").Pool(PROCESSES) as pool:
        assert pool.map(start_and_end, [tmp_path] * PROCESSES) == [True] * PROCESSES
    assert not list(tmp_path.glob("process-*"))


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 1 << 16):
        yield data[start : start + (1 << 16)]


@pytest.mark.parametrize("size", [0, 1, SMALL, SMALL + 1, PIECE, PIECE + 1, 3 * PIECE])
async def test_only_a_large_body_has_a_file(tmp_path: Path, size: int):
    spool, data = Spool(tmp_path), bytes(range(251)) * (size // 251 + 1)
    data = data[:size]
    async with spool.receive(pieces(data), limit=size, too_large="too large") as body:
        is_file = isinstance(body.content, Path)
        assert is_file == (size > SMALL)
        assert (body.content.read_bytes() if isinstance(body.content, Path) else body.content) == data
        assert (body.size, body.sha256) == (size, hashlib.sha256(data).hexdigest())
        assert len(list(spool._folder.iterdir())) == 1 + is_file  # the lock, and the body
    assert [path.name for path in spool._folder.iterdir()] == ["lock"]
    spool.close()


@pytest.mark.parametrize("size", [1, SMALL + 1, 3 * PIECE])
async def test_a_body_above_the_limit_leaves_no_file(tmp_path: Path, size: int):
    spool = Spool(tmp_path)
    with pytest.raises(TooLarge):
        async with spool.receive(pieces(b"x" * size), limit=size - 1, too_large="too large"):
            pass
    assert [path.name for path in spool._folder.iterdir()] == ["lock"]
    spool.close()
