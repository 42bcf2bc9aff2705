"""The commands that run a registry. Each needs the settings, and most need the service's dependencies.

Each command reads its settings first and then imports its modules. Importing the whole service takes more than a
second, and neither help nor the error text of a wrong setting should wait for that.
"""

import argparse
import getpass
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from registry import log_commands
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


def user_create(options: argparse.Namespace) -> None:
    settings = _settings()
    from registry.accounts.register import register

    password = options.password or _ask_password()
    role = "admin" if options.admin else "user"
    _with_database(
        settings, lambda db: register(db, settings.accounts, options.username, password, options.email, role)
    )
    _say(f"{options.username} can sign in ({role}).")


def user_password(options: argparse.Namespace) -> None:
    settings = _settings()
    from registry.accounts import administer

    password = _ask_password()
    _with_database(settings, lambda db: administer.reset_password(db, settings.accounts, options.username, password))
    _say(f"{options.username} has a new password; every login and API token from before has ended.")


def user_role(options: argparse.Namespace) -> None:
    settings = _settings()
    from registry.accounts import administer

    _with_database(settings, lambda db: administer.set_role(db, options.username, options.role))
    _say(f"{options.username} is now {options.role}.")


def user_active(options: argparse.Namespace) -> None:
    settings = _settings()
    from registry.accounts import administer

    change = administer.reactivate if options.active else administer.deactivate
    _with_database(settings, lambda db: change(db, options.username))
    _say(f"{options.username} can{'' if options.active else 'not'} sign in.")


def user_verify(options: argparse.Namespace) -> None:
    settings = _settings()
    from registry.accounts import administer

    _with_database(settings, lambda db: administer.verify_email(db, options.username))
    _say(f"The e-mail address of {options.username} is verified.")


def user_reset_factors(options: argparse.Namespace) -> None:
    settings = _settings()
    from registry.factors.administer import reset_factors

    _with_database(settings, lambda db: reset_factors(db, options.username))
    _say(f"{options.username} can sign in with the password alone, and can add a second factor again.")


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
        about = f"{text[0].upper()}{text[1:]}. {more}"
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
    _add_user(add, commands)
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


def _add_user(add: Add, commands: Any) -> None:
    users = commands.add_parser("user", help="manage accounts").add_subparsers(required=True, metavar="ACTION")
    asks = "Asks for the password, or reads it from a pipe."
    creating = add("create", user_create, "create an account", users, asks)
    creating.add_argument("--admin", action="store_true", help="give the account the role admin")
    creating.add_argument("--email", help="the account's e-mail address")
    creating.add_argument("--password", help="the password; other users of this machine can see it in the process list")
    resetting = add("password", user_password, "set the password of an account", users, asks)
    role = add("role", user_role, "change the role of an account", users)
    activating = add("activate", user_active, "let an account sign in again", users)
    activating.set_defaults(active=True)
    deactivating = add("deactivate", user_active, "keep an account from signing in, and end its tokens", users)
    deactivating.set_defaults(active=False)
    verifying = add("verify", user_verify, "mark the e-mail address of an account as verified", users)
    forgetting = add("reset-factors", user_reset_factors, "remove the second factors of a user who lost them", users)
    for command in (creating, resetting, role, activating, deactivating, verifying, forgetting):
        command.add_argument("username")
    role.add_argument("role", choices=("user", "admin"))


def _with_database(settings: "Settings", work: Callable[[Any], Awaitable[object]]) -> None:
    """Runs `work` with the database."""
    from registry.db.engine import open_database

    async def run() -> None:
        async with open_database(settings.database) as db:
            await work(db)

    _await(run())


def _ask_password() -> str:
    return getpass.getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")


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
