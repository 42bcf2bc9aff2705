"""The command line: `synapse-registry --help` teaches it.

Each command imports what it alone needs: all of the service takes more than a second, for which help need not wait.
"""

import argparse
import asyncio
import getpass
import json
import os
import sys
from collections.abc import Sequence

from registry import __version__, logs
from registry.errors import RegistryError, SettingsError, StackError
from registry.setting_types import integer
from registry.settings import ADDRESSES, Settings, environment, variables

EPILOG = """\
first steps:
  synapse-registry up                       everything on this machine, nothing to set up
  synapse-registry config                   every setting, with its variable and default
in production:
  synapse-registry migrate                  bring the schema up to date, once per release
  synapse-registry serve                    the API, with the background work
  synapse-registry user create ada --admin  the first admin
  synapse-registry doctor                   is everything that is stored as it should be?
"""

DOCTOR_STATUS = """\
exit status:
  0  nothing is wrong, or nothing any more
  1  something is wrong
  2  not everything could be checked
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0, or 1 after a sentence on stderr that says what to change. `doctor` has its own."""
    options = parser().parse_args(arguments)
    status: int | None
    try:
        status = options.run(options)
        sys.stdout.flush()
    except (SettingsError, StackError, RegistryError) as problem:
        sys.stderr.write(f"{problem}\n")
        return int(options.failed)
    except BrokenPipeError:
        # Whoever reads the output has enough (`| head`); the interpreter must not try to flush the rest at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return status or 0


def up(_: argparse.Namespace) -> None:
    try:
        from registry.devstack.up import up as start_everything
    except ModuleNotFoundError as missing:
        raise StackError(
            f"`up` brings servers along and needs {missing.name} for it. Run pip install 'synapse-registry[devstack]'."
        ) from missing
    start_everything(environment())


def serve(options: argparse.Namespace) -> None:
    from registry import server, supervisor

    settings = _settings()
    _require_schema(settings)
    background = not options.web_only
    if options.processes > 1:
        supervisor.supervise(settings, options.processes, with_background=background)
    else:
        server.run(server.serve(settings, with_background=background), debug=settings.web.debug)


def worker(_: argparse.Namespace) -> None:
    from registry import server

    settings = _settings()
    _require_schema(settings)
    server.run(server.work(settings))


def _require_schema(settings: Settings) -> None:
    from registry.db import migrate as migrations

    if migrations.pending(settings.database):
        raise StackError("The database schema is not up to date. Run `synapse-registry migrate` first.")


def migrate(_: argparse.Namespace) -> None:
    from registry.db import migrate as migrations

    _say(f"The schema is at revision {migrations.upgrade(_settings().database, say=_note)}.")


def reindex(options: argparse.Namespace) -> None:
    from registry.analytics import consumer as analytics
    from registry.db.engine import open_database
    from registry.search.index import open_search
    from registry.search.rebuild import rebuild, rollback
    from registry.search.reconcile import reconcile

    settings = _settings()

    async def work() -> str:
        async with open_database(settings.database) as db, open_search(settings.search) as index:
            if options.dashboards:
                await analytics.replay(db)
                return "The worker writes every download and event once more; what is there stays."
            if options.check:
                found = await reconcile(db, index)
                return ", ".join(f"{count} {what}" for what, count in found.items()) + "."
            await (rollback(db, index) if options.rollback else rebuild(db, index, _progress))
            return "\nThe former index serves again." if options.rollback else "\nThe new index serves."

    _say(asyncio.run(work()))


def doctor(options: argparse.Namespace) -> int:
    from registry.doctor import examine
    from registry.doctor.report import as_json, as_text

    report = asyncio.run(examine.doctor(_settings(), _show, repair=options.repair, deep=options.deep))
    _show("")
    _say(as_json(report) if options.json else as_text(report))
    return report.status


def user_create(options: argparse.Namespace) -> None:
    from registry.accounts.register import register
    from registry.db.engine import open_database

    settings = _settings()
    password = options.password or _ask_password()
    role = "admin" if options.admin else "user"

    async def work() -> None:
        async with open_database(settings.database) as db:
            await register(db, settings.accounts, options.username, password, options.email, role)

    asyncio.run(work())
    _say(f"{options.username} can sign in ({role}).")


def user_password(options: argparse.Namespace) -> None:
    from registry.accounts import administer
    from registry.db.engine import open_database

    settings = _settings()
    password = _ask_password()

    async def work() -> None:
        async with open_database(settings.database) as db:
            await administer.reset_password(db, settings.accounts, options.username, password)

    asyncio.run(work())
    _say(f"{options.username} has a new password; every login and API token from before has ended.")


def user_role(options: argparse.Namespace) -> None:
    from registry.accounts import administer
    from registry.db.engine import open_database

    settings = _settings()

    async def work() -> None:
        async with open_database(settings.database) as db:
            await administer.set_role(db, options.username, options.role)

    asyncio.run(work())
    _say(f"{options.username} is now {options.role}.")


def user_active(options: argparse.Namespace) -> None:
    from registry.accounts import administer
    from registry.db.engine import open_database

    settings = _settings()

    async def work() -> None:
        async with open_database(settings.database) as db:
            await (administer.reactivate if options.active else administer.deactivate)(db, options.username)

    asyncio.run(work())
    _say(f"{options.username} can{'' if options.active else 'not'} sign in.")


def config(_: argparse.Namespace) -> None:
    for part, item in variables():
        meta = item.metadata
        files = f" (or {meta['name']}_FILE)" if meta["secret"] else ""
        _say(f"{meta['name']}{files}\n    {meta['doc']}. Part: {part}. Default: {meta['default'] or 'none'}")


def parser() -> argparse.ArgumentParser:
    """Every command with what it is for."""
    top = argparse.ArgumentParser(
        prog="synapse-registry",
        description="Publish, find and install packages.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, run: object, text: str, under: object = commands) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = under.add_parser(name, help=text, description=text)  # type: ignore[attr-defined]
        command.set_defaults(run=run, failed=1)
        return command

    add("up", up, "start PostgreSQL, Elasticsearch and the service on this machine")
    serving = add("serve", serve, "serve the API against the servers that the settings name")
    serving.add_argument("--web-only", action="store_true", help="leave the background work to `worker` processes")
    serving.add_argument(
        "--processes", type=integer(1, 64), default=1, metavar="N", help="serve by N processes on one port; needs Redis"
    )
    add("worker", worker, "run the background work alone: indexing and periodic jobs")
    add("migrate", migrate, "bring the database schema up to date")
    reindexing = add("reindex", reindex, "build a new search index while the old one serves, then swap")
    instead = reindexing.add_mutually_exclusive_group()
    instead.add_argument("--rollback", action="store_true", help="let the former index serve again")
    instead.add_argument("--check", action="store_true", help="compare the index with PostgreSQL, mend what differs")
    instead.add_argument("--dashboards", action="store_true", help="write what dashboards read once more")
    checking = add("doctor", doctor, "compare everything that is stored, while it is in use; repair what differs")
    checking.formatter_class, checking.epilog = argparse.RawDescriptionHelpFormatter, DOCTOR_STATUS
    checking.set_defaults(failed=2)  # what could not be checked: see DOCTOR_STATUS
    checking.add_argument("--repair", action="store_true", help="mend what can be mended")
    checking.add_argument("--deep", action="store_true", help="read every tarball and compare its SHA-256")
    checking.add_argument("--json", action="store_true", help="for machines")
    add("config", config, "list every setting")
    users = commands.add_parser("user", help="manage accounts").add_subparsers(required=True, metavar="ACTION")
    creating = add("create", user_create, "create an account; asks for the password or reads it from a pipe", users)
    creating.add_argument("--admin", action="store_true", help="with the role admin")
    creating.add_argument("--email")
    creating.add_argument("--password", help="other users of this machine can see it; asked for, or read, when absent")
    resetting = add("password", user_password, "set an account's password, asked for or read from a pipe", users)
    role = add("role", user_role, "change an account's role", users)
    for name, active in (("activate", True), ("deactivate", False)):
        command = add(name, user_active, f"{name} an account; its tokens end with a deactivation", users)
        command.set_defaults(active=active)
        command.add_argument("username")
    for command in (creating, resetting, role):
        command.add_argument("username")
    role.add_argument("role", choices=("user", "admin"))
    return top


def _settings() -> Settings:
    """The settings; without REGISTRY_DB_URL the servers are those of an `up` that runs on the same data folder."""
    settings = Settings.read()
    running = settings.stack.data_dir / ADDRESSES
    if not settings.database.url and running.exists():
        settings = Settings.read({**json.loads(running.read_text(encoding="utf-8")), **environment()})
    if not settings.database.url:
        raise StackError("REGISTRY_DB_URL is not set. `synapse-registry up` brings a PostgreSQL of its own.")
    logs.configure(settings.web.log_level)
    return settings


def _ask_password() -> str:
    return getpass.getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")


def _progress(*figures: object) -> None:
    sys.stderr.write("\r" + " ".join(str(figure) for figure in figures) + "   ")
    sys.stderr.flush()


def _note(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _show(what: str) -> None:
    """The line on a terminal that says what goes on just now."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{what:<70}" if what else f"\r{what:<70}\r")
        sys.stderr.flush()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
