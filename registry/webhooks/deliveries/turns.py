"""Decides which delivery of a host is attempted next, so that one webhook does not delay the others."""

from collections.abc import Iterable

from registry.db.engine import Row


class Turns:
    """The turns of the webhooks of one host, during one run of a job.

    A webhook has one attempt at a time until one of its attempts succeeds, because a receiver that never answers must
    not occupy all connections to the host. A webhook that fails or is slow has no further turn in this run.
    """

    def __init__(self) -> None:
        self._waiting: list[Row] = []
        self._attempted: dict[int, Row] = {}
        self._proven: set[int] = set()
        self._troubled: set[int] = set()

    def load(self, due: Iterable[Row]) -> None:
        """Replaces the deliveries that wait. Those that are being attempted are left out."""
        self._waiting = [row for row in due if row.id not in self._attempted]

    def next(self) -> Row | None:
        """The next delivery, which counts as being attempted until `finish`; None if no webhook has a turn now."""
        busy = {row.webhook_id for row in self._attempted.values()} - self._proven
        for index, row in enumerate(self._waiting):
            if row.webhook_id not in busy and row.webhook_id not in self._troubled:
                del self._waiting[index]
                self._attempted[row.id] = row
                return row
        return None

    def finish(self, row: Row, *, has_trouble: bool) -> None:
        """Ends an attempt. `has_trouble` says whether it failed or was slow."""
        del self._attempted[row.id]
        (self._troubled if has_trouble else self._proven).add(row.webhook_id)
