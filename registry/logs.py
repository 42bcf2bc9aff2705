"""Logging as JSON lines. `message` is a constant text, values are fields of their own, and secrets are never logged."""

import logging
import sys
from pathlib import Path

from pythonjsonlogger.orjson import OrjsonFormatter

# These libraries log a line per request at level info.
QUIET = ("elastic_transport", "elasticsearch", "botocore", "aiobotocore", "alembic", "asyncio", "urllib3")


def configure(level: str, file: Path | None = None) -> None:
    """Logs everything from `level` up to `file`, or to stderr."""
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
    # It warns of each failed connection, which registry.elastic logs as well.
    logging.getLogger("elastic_transport.node_pool").setLevel(logging.ERROR)
