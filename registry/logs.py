"""Logs as JSON lines: static text in `message`, values in fields of their own, never a secret."""

import logging
import sys
from pathlib import Path

from pythonjsonlogger.orjson import OrjsonFormatter

# Libraries whose every request would be a line.
QUIET = ("elastic_transport", "elasticsearch", "botocore", "aiobotocore", "alembic", "asyncio", "urllib3")


def configure(level: str, file: Path | None = None) -> None:
    """Sends everything from `level` up to `file`, or to stderr."""
    handler: logging.Handler = logging.FileHandler(file) if file else logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        OrjsonFormatter(
            "%(levelname)s %(name)s %(message)s",
            rename_fields={"levelname": "level", "name": "logger"},
            timestamp="time",
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
