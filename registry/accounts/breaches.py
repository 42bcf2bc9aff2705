"""Looks passwords up in a local file of breached passwords. No password leaves the machine.

The file is a sorted list of SHA-1 hashes in hex, one `HASH:COUNT` on each line, as written by the downloader of Have I
Been Pwned. It can be tens of gigabytes long, so it is never loaded. A binary search takes about 40 short reads.
"""

import hashlib
import logging
from pathlib import Path

log = logging.getLogger(__name__)

_HEX_DIGITS = 40
# More than the length of a hash, a colon and a count.
_LONGEST_LINE = 100


def is_listed(password: str, file: Path) -> bool:
    """Whether `file` lists the password. Blocks: call it in a thread.

    Logs an error and returns False if the file can't be read, so that users can still register.
    """
    # The list uses SHA-1. Stored passwords are protected by another hash.
    wanted = hashlib.sha1(password.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest().upper().encode()
    try:
        return _search(file, wanted)
    except OSError as error:
        log.error("breached passwords can't be read", extra={"reason": error.strerror})  # noqa: TRY400 - a traceback adds nothing
        return False


def _search(file: Path, wanted: bytes) -> bool:
    with file.open("rb") as lines:
        # The wanted line, if it exists, begins at an offset from low to high - 1.
        low, high = 0, lines.seek(0, 2)
        while low < high:
            middle = (low + high) // 2
            lines.seek(max(middle - 1, 0))
            if middle:
                lines.readline(_LONGEST_LINE)
            start = lines.tell()
            line = lines.readline(_LONGEST_LINE)
            found = line[:_HEX_DIGITS].upper()
            if start < high and found == wanted:
                return True
            if start < high and line and found < wanted:
                low = start + len(line)
            else:
                high = middle
    return False
