"""The log of changes in the database, as a source for its verification."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from registry.changes import store
from registry.changes.chain import TYPES
from registry.changes.checkpoints import Checkpoints, checkpoint_of
from registry.changes.log import ChangeLog, content_of
from registry.changes.verify import DoesNotFit
from registry.db.engine import Database, Row

PAGE = 500


class StoredLog:
    """Reads the chain itself, the events that belong to it, and the stored checkpoints. `seeds` sign new ones."""

    def __init__(self, db: Database, seeds: Sequence[bytes] = ()) -> None:
        self._db = db
        self._log = ChangeLog(db)
        self._checkpoints = Checkpoints(db, self._log, seeds)

    async def checkpoint(self) -> Mapping[str, Any] | None:
        return await self._checkpoints.sign() if self._checkpoints.can_sign else None

    async def stored(self) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        after = 0
        while True:
            async with self._db.read() as conn:
                rows = await store.checkpoints(conn, after, PAGE)
            if not rows:
                return found
            found += [checkpoint_of(row) for row in rows]
            after = rows[-1].seq

    async def keys(self) -> list[Mapping[str, Any]]:
        return list(await self._checkpoints.keys())

    async def changes(self) -> AsyncIterator[Mapping[str, Any]]:
        after = 0
        while True:
            async with self._db.read() as conn:
                rows = await store.stored(conn, after, PAGE)
            if not rows:
                return
            for row in rows:
                yield _change_of(row)
            after = rows[-1].chained


def _change_of(row: Row) -> Mapping[str, Any]:
    """The change of a link and of its event. Raises DoesNotFit if the event is gone or is no change."""
    if row.seq is None:
        raise DoesNotFit(row.chained, "its event is missing.")
    if row.type not in TYPES:
        raise DoesNotFit(row.chained, f"its event now has the type {row.type}.")
    return {**content_of(row), "hash": bytes(row.hash).hex()}
