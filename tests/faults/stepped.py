"""The command line of the registry in a process whose wall clock steps while it runs.

    python -m tests.faults.stepped FILE serve

FILE says by how many seconds the clock is ahead (or behind, when negative). Timers don't step, as with a real clock.
"""

import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import time_machine

from registry import cli

LOOK_SECONDS = 0.05


def follow(file: Path) -> None:
    """Steps the clock each time that `file` says something else."""
    steps, travelling = 0.0, None
    while True:
        if (wanted := float(file.read_text("ascii") or steps)) != steps:
            if travelling is not None:
                travelling.stop()
            travelling = time_machine.travel(datetime.now(UTC) + timedelta(seconds=wanted), tick=True)
            travelling.start()
            steps = wanted
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    threading.Thread(target=follow, args=[Path(sys.argv[1])], daemon=True).start()
    sys.exit(cli.main(sys.argv[2:]))
