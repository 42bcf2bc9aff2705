"""Downloads a file from Maven Central, with progress and a bounded number of retries."""

import errno
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jgo.maven import MavenContext, PythonResolver
from tqdm import tqdm

from registry.errors import StackError

ATTEMPTS = 4
_BACK_OFF_SECONDS = 2.0
_READ_TIMEOUT_SECONDS = 30
_PLAIN_REPORT_SECONDS = 3.0
_DISK_ERRORS = {errno.ENOSPC: "is full", errno.EDQUOT: "has no quota left", errno.EROFS: "is read-only"}


def download(coordinate: str, into: Path, *, sleep: Callable[[float], None] = time.sleep) -> Path:
    """Downloads `coordinate` (group:artifact:version[:classifier[:packaging]]) into the folder `into`.

    Raises StackError if the download fails ATTEMPTS times or `into` can't be written.
    """
    context = MavenContext(
        resolver=PythonResolver(progress_callback=progress),
        repo_cache=into,
        local_repos=[],
        timeout=_READ_TIMEOUT_SECONDS,
    )
    artifact = context.create_dependency(coordinate).artifact
    unfinished = into / artifact.component.path_prefix / artifact.cached_filename
    for attempt in range(ATTEMPTS):
        try:
            return Path(artifact.resolve())
        except (OSError, RuntimeError) as failure:  # requests raises OSErrors; a refused file is a RuntimeError
            unfinished.unlink(missing_ok=True)
            _raise_if_local(failure, into)
            if attempt == ATTEMPTS - 1:
                raise StackError(
                    f"{coordinate} can't be fetched from Maven Central ({failure}). "
                    "Check the network or the proxy settings and run it again."
                ) from failure
            sleep(_BACK_OFF_SECONDS * 2**attempt)
    raise AssertionError("the last attempt returns or raises")


def _raise_if_local(failure: Exception, folder: Path) -> None:
    code = failure.errno if isinstance(failure, OSError) else None
    if code in _DISK_ERRORS:
        raise StackError(f"The disk that holds {folder} {_DISK_ERRORS[code]}.") from failure
    if isinstance(failure, PermissionError):
        raise StackError(f"{folder} can't be written; choose another cache folder or change its owner.") from failure


@contextmanager
def progress(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows the progress of a download of `total` bytes on stderr: a bar on a terminal, else a line every few seconds.

    Yields a function to call with the number of bytes of each piece.
    """
    if sys.stderr.isatty():
        with tqdm(total=total, unit="B", unit_scale=True, desc=name) as bar:

            def update(count: int) -> None:
                bar.update(count)

            yield update
    else:
        yield _plain_lines(name, total)


def _plain_lines(name: str, total: int) -> Callable[[int], None]:
    done, shown = 0, time.monotonic()

    def update(count: int) -> None:
        nonlocal done, shown
        done += count
        if done == total or time.monotonic() - shown >= _PLAIN_REPORT_SECONDS:
            shown = time.monotonic()
            sys.stderr.write(f"{name}: {done // 2**20} of {total // 2**20} MiB\n")
            sys.stderr.flush()

    return update
