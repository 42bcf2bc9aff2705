"""The spool folders of processes."""

import multiprocessing
from pathlib import Path

from registry.web.spool import Spool

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
