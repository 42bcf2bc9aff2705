"""Whether this process takes requests. A balancer asks it before it sends clients here.

Servers that all processes share don't count: if PostgreSQL is away, another process could not serve any better.
"""

import asyncio

from typing_extensions import TypedDict

from registry.db import migrate
from registry.errors import StackError
from registry.setting_parts import DatabaseSettings
from registry.web.context import InFlight


class Ready(TypedDict):
    """`status` is ready, starting or stopping. `detail` says why it is not ready."""

    status: str
    detail: str


class Readiness:
    """Checks the schema until it fits, then only whether the process shuts down."""

    def __init__(self, database: DatabaseSettings, in_flight: InFlight) -> None:
        self._database = database
        self._in_flight = in_flight
        self._schema_fits = False
        self._checking = asyncio.Lock()

    async def check(self) -> Ready:
        if self._in_flight.closing:
            return {"status": "stopping", "detail": "The process is shutting down."}
        async with self._checking:
            if self._schema_fits:
                return {"status": "ready", "detail": ""}
            try:
                pending = await asyncio.to_thread(migrate.pending, self._database)
            except StackError:
                return {"status": "starting", "detail": "The database schema can't be read yet."}
            if pending:
                return {"status": "starting", "detail": "The schema is too old. Run `synapse-registry migrate`."}
            self._schema_fits = True
            return {"status": "ready", "detail": ""}
