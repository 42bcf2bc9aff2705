"""The command line of the registry in a process that dies, or stands still, at a named point of its work.

    python -m tests.faults.killed FILE serve

Wraps functions, statements and commits from outside; nothing in the registry knows of it. A point is `before` or
`after`, then perhaps `commit of`, then `module:name`: of a function or a statement of a store. When the process gets to
the point that FILE names at that moment, it empties FILE and kills itself. After `freeze POINT` it stops itself
(SIGSTOP) instead, until it gets SIGCONT.
"""

import functools
import importlib
import inspect
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from registry import cli
from registry.db.engine import Connection, Statement

FREEZE = "freeze "

_READ = "registry.packages.publication.store:_READ"
# A first and a further version of a package.
_FIRST = "registry.packages.publication.store:_FIRST"
_NEXT = "registry.packages.publication.store:_NEXT"
_REMEMBER_KEY = "registry.packages.idempotency.store:_REMEMBER_KEY"
_NEXT_SEQ = "registry.events.log:_APPEND_ONE"
_PUT = "registry.storage.local:LocalStorage.put"
_PUBLISH = "registry.packages.publish:publish"
_COUNT = "registry.downloads.store:_ADD"
_JOURNAL = "registry.downloads.journal:File.append"
_JOURNALED = "registry.downloads.record:DownloadRecorder._written"
_CLEAR = "registry.downloads.journal:File.clear"
_DELETE = "registry.packages.store:_DELETE"
_RESTORE = "registry.packages.store:_RESTORE"
_REFRESH = "registry.packages.store:REFRESH"
_INDEX = "registry.search.index:SearchIndex"
_SAVE = "registry.events.consumer:_SAVE"
_END = "aiohttp.web:Response.write_eof"

# Each list is in the order of the work. Up to a commit nothing was done, from it on all of it.
PUBLISH = [
    f"before {_PUBLISH}",
    "before registry.package_format.archive:inspect",
    f"before {_READ}",
    f"after {_READ}",
    f"before {_PUT}",
    "after registry.storage.local:_create",
    "before registry.storage.local:_sync",
    f"after {_PUT}",
    f"before {_REMEMBER_KEY}",
    f"after {_REMEMBER_KEY}",
    f"before {_FIRST}",
    f"before commit of {_FIRST}",
    f"after commit of {_FIRST}",
    f"after {_PUBLISH}",
    f"before {_END}",
    f"after {_END}",
]
NEXT = f"before commit of {_NEXT}"
"""A further version is written, and its transaction is open. Only a publish with an Idempotency-Key gets there."""


def _changing(statement: str, use_case: str) -> list[str]:
    return [
        f"before {use_case}", f"before {statement}", f"after {statement}", f"after {_REFRESH}", f"after {_NEXT_SEQ}",
        f"before commit of {statement}", f"after commit of {statement}", f"after {use_case}", f"after {_END}",
    ]  # fmt: skip


DELETE = _changing(_DELETE, "registry.packages.manage:delete_version")
RESTORE = _changing(_RESTORE, "registry.packages.manage:restore_version")
# A download counts once it is in the journal. PostgreSQL gets it later.
DOWNLOAD = [
    f"before {_JOURNAL}",
    f"after {_JOURNAL}",
    f"before {_JOURNALED}",
    "before aiohttp.web:StreamResponse.write_eof",
    "after aiohttp.web:StreamResponse.write_eof",
    f"before commit of {_COUNT}",
    f"after commit of {_COUNT}",
    f"before {_CLEAR}",
    f"after {_CLEAR}",
]
INDEX = [
    f"before {_INDEX}.bulk",
    f"after {_INDEX}.bulk",
    f"after {_INDEX}.refresh",
    f"before commit of {_SAVE}",
    f"after commit of {_SAVE}",
]
REBUILD = [
    f"after {_INDEX}.create_generation",
    f"after {_INDEX}.bulk",
    f"before {_INDEX}.swap",
    f"before {_INDEX}._drop",
    f"after {_INDEX}.swap",
]
POINTS = {*PUBLISH, NEXT, *DELETE, *RESTORE, *DOWNLOAD, *INDEX, *REBUILD}


def is_done_at(point: str, points: list[str]) -> bool:
    """Whether the work of `points` is done for good when it dies at `point`."""
    [commit] = [index for index, each in enumerate(points) if each.startswith("after commit of ")]
    return points.index(point) >= commit


def is_journaled_at(point: str) -> bool:
    """Whether a download is in the journal when its process dies at `point`."""
    return DOWNLOAD.index(point) >= DOWNLOAD.index(f"after {_JOURNAL}")


class Killer:
    """Wraps what POINTS names, and kills this process at the one that `file` says."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._statements: dict[int, str] = {}

    def wrap(self) -> None:
        for name in sorted({point.rpartition(" ")[2] for point in POINTS}):
            owner, attribute, target = _resolved(name)
            if isinstance(target, Statement):
                self._statements[id(target)] = name
            else:
                setattr(owner, attribute, self._dying(name, target))
        self._wrap_connection()

    def is_due(self, point: str) -> bool:
        return point in POINTS and self._file.read_text("utf-8").removeprefix(FREEZE) == point

    def reach(self, point: str) -> None:
        if self.is_due(point):
            blow = signal.SIGSTOP if self._file.read_text("utf-8").startswith(FREEZE) else signal.SIGKILL
            self._file.write_text("", "utf-8")
            os.kill(os.getpid(), blow)

    def _dying(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def asynchronous(*arguments: Any, **named: Any) -> Any:
            self.reach(f"before {name}")
            due = self.is_due(f"after {name}")  # what began before is not meant
            result = await function(*arguments, **named)
            if due:
                self.reach(f"after {name}")
            return result

        @functools.wraps(function)
        def synchronous(*arguments: Any, **named: Any) -> Any:
            self.reach(f"before {name}")
            result = function(*arguments, **named)
            self.reach(f"after {name}")
            return result

        return asynchronous if inspect.iscoroutinefunction(function) else synchronous

    def _wrap_connection(self) -> None:
        execute, defer, command = Connection._execute, Connection.defer, Connection.command
        finish = Connection.finish

        async def executing(conn: Any, cursor: Any, statement: Statement, values: dict[str, Any]) -> None:
            name = self._statements.get(id(statement), "")
            self.reach(f"before {name}")
            await execute(conn, cursor, statement, values)
            conn.__dict__.setdefault("ran", set()).add(name)
            self.reach(f"after {name}")

        def deferring(conn: Any, statement: Statement, **values: Any) -> None:
            conn.__dict__.setdefault("ran", set()).add(self._statements.get(id(statement), ""))
            defer(conn, statement, **values)

        async def commanding(conn: Any, sql: str, **values: Any) -> None:
            ran = conn.__dict__.get("ran", set()) if sql.endswith("COMMIT") else set()
            for name in ran:
                self.reach(f"before commit of {name}")
            await command(conn, sql, **values)
            for name in ran:
                self.reach(f"after commit of {name}")

        async def finishing(conn: Any, statement: Statement, last: Statement, **values: Any) -> Any:
            name = self._statements.get(id(statement), "")
            self.reach(f"before {name}")
            commits = bool(conn._opening)
            if commits:
                self.reach(f"before commit of {name}")
            row = await finish(conn, statement, last, **values)
            if commits:
                self.reach(f"after commit of {name}")
            else:
                conn.__dict__.setdefault("ran", set()).add(name)
            return row

        Connection.finish = finishing  # type: ignore[method-assign]
        Connection._execute = executing  # type: ignore[method-assign]
        Connection.defer = deferring  # type: ignore[method-assign]
        Connection.command = commanding  # type: ignore[method-assign]


def _resolved(name: str) -> tuple[Any, str, Any]:
    """What holds it, under which name, and what it is."""
    module, _, path = name.partition(":")
    *holders, attribute = path.split(".")
    owner = functools.reduce(getattr, holders, importlib.import_module(module))
    return owner, attribute, getattr(owner, attribute)


if __name__ == "__main__":
    Killer(Path(sys.argv[1])).wrap()
    sys.exit(cli.main(sys.argv[2:]))
