"""The folders that uploads wait in."""

import multiprocessing
from pathlib import Path

from registry.web.spool import Spool

PROCESSES, ROUNDS = 4, 50


def start_and_end(root: Path) -> bool:
    """Whether the folder of each start was there until its end."""
    for _ in range(ROUNDS):
        spool = Spool(root)
        if not (spool._folder / "lock").exists():
            return False
        spool.close()
    return True


def test_processes_that_start_at_once_leave_each_other_their_folders(tmp_path: Path):
    with multiprocessing.get_context("forkserver").Pool(PROCESSES) as pool:
        assert pool.map(start_and_end, [tmp_path] * PROCESSES) == [True] * PROCESSES
    assert not list(tmp_path.glob("process-*"))
