"""The commands `user …`, which manage accounts."""

import argparse
import getpass
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from registry.settings import Settings


def add_commands(add: Callable[..., argparse.ArgumentParser], commands: Any) -> None:
    """Adds the commands. `add` makes a command below the subparsers that it is given."""
    group = commands.add_parser("user", help="manage accounts", description="Manage the accounts of the registry.")
    users = group.add_subparsers(required=True, metavar="ACTION", title="actions")
    asks = "Asks for the password, or reads it from a pipe."
    creating = add("create", create, "create an account", users, asks)
    creating.add_argument("--admin", action="store_true", help="give the account the role admin")
    creating.add_argument("--email", help="the account's e-mail address")
    creating.add_argument("--password", help="the password; other users of this machine can see it in the process list")
    resetting = add("password", set_password, "set the password of an account", users, asks)
    role = add("role", set_role, "change the role of an account", users)
    activating = add("activate", set_active, "let an account sign in again", users)
    activating.set_defaults(active=True)
    deactivating = add("deactivate", set_active, "keep an account from signing in, and end its tokens", users)
    deactivating.set_defaults(active=False)
    verifying = add(
        "verify",
        verify,
        "mark the e-mail address of an account as verified",
        users,
        "For a registry without mail, after you have made sure that the address belongs to the user. The user can then "
        "accept invitations that were sent to it.",
    )
    forgetting = add(
        "reset-factors",
        reset_factors,
        "remove the second factors of a user who lost them",
        users,
        "Removes the authenticator app, all passkeys and all recovery codes. Make sure first that it is the user who "
        "asks: the password alone signs in afterwards. The audit log records it.",
    )
    for command in (creating, resetting, role, activating, deactivating, verifying, forgetting):
        command.add_argument("username", metavar="NAME", help="the user name of the account")
    role.add_argument("role", choices=("user", "admin"), metavar="ROLE", help="user or admin")


def create(options: argparse.Namespace) -> None:
    settings = _settings()
    from registry.accounts.register import register

    password = options.password or _ask_password()
    role = "admin" if options.admin else "user"
    _with_database(
        settings, lambda db: register(db, settings.accounts, options.username, password, options.email, role)
    )
    _say(f"{options.username} can sign in ({role}).")


def set_password(options: argparse.Namespace) -> None:
    settings = _settings()
    from registry.accounts import administer

    password = _ask_password()
    _with_database(settings, lambda db: administer.reset_password(db, settings.accounts, options.username, password))
    _say(f"{options.username} has a new password; every login and API token from before has ended.")


def set_role(options: argparse.Namespace) -> None:
    settings = _settings()
    from registry.accounts import administer

    _with_database(settings, lambda db: administer.set_role(db, options.username, options.role))
    _say(f"{options.username} is now {options.role}.")


def set_active(options: argparse.Namespace) -> None:
    settings = _settings()
    from registry.accounts import administer

    change = administer.reactivate if options.active else administer.deactivate
    _with_database(settings, lambda db: change(db, options.username))
    _say(f"{options.username} can{'' if options.active else 'not'} sign in.")


def verify(options: argparse.Namespace) -> None:
    settings = _settings()
    from registry.accounts import administer

    _with_database(settings, lambda db: administer.verify_email(db, options.username))
    _say(f"The e-mail address of {options.username} is verified.")


def reset_factors(options: argparse.Namespace) -> None:
    settings = _settings()
    from registry.factors import administer

    _with_database(settings, lambda db: administer.reset_factors(db, options.username))
    _say(f"{options.username} can sign in with the password alone, and can add a second factor again.")


def _settings() -> "Settings":
    from registry import preflight

    return preflight.settings()


def _with_database(settings: "Settings", work: Callable[[Any], Awaitable[object]]) -> None:
    """Runs `work` with the database."""
    import asyncio  # the client's commands start without it

    from registry.db.engine import open_database

    async def run() -> None:
        async with open_database(settings.database) as db:
            await work(db)

    asyncio.run(run())


def _ask_password() -> str:
    return getpass.getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
