"""The client's commands as argparse knows them, with their help."""

import argparse
import re
import shutil
import textwrap
from collections.abc import Callable
from typing import Any

from registry.client.address import DEFAULT
from registry.client.failures import EXIT_STATUSES
from registry.client.run import run
from registry.client.spec import ROLES

SHELLS = ("bash", "zsh", "fish")
SORTS = ("relevance", "downloads", "recently-updated", "recently-created", "name")
SCOPES = ("publish", "yank", "read", "manage", "admin")
SCOPE_HELP = (
    "what the token may do; repeatable. yank: also deprecate and delete. read: in a private registry. "
    "manage: owners, webhooks and trusted publishers. admin: what admins may"
)
PACKAGE = "NAME[@VERSION]"

Parser = argparse.ArgumentParser
Commands = Any
"""What argparse's add_subparsers() returns."""


class Adder:
    """Adds commands below one parser and remembers their help for the overview."""

    def __init__(self, commands: Commands, prefix: str = "") -> None:
        self._commands = commands
        self._prefix = prefix
        self.listed: list[tuple[str, str]] = []

    def add(self, name: str, function: str, text: str, examples: str, more: str = "") -> Parser:
        """A command that calls `function`. `text` is its help in one line, `examples` has one per line."""
        command = self._parser(name, text, more)
        command.epilog = f"examples:\n{textwrap.indent(examples.strip(), '  ')}\n\n{EXIT_STATUSES}"
        command.set_defaults(run=run, function=function)
        about = command.add_argument_group("which registry, and how to print")
        about.add_argument(
            "--url",
            help="the registry's address (default: SYNAPSE_REGISTRY_URL, else the only registry that you are signed in "
            f"to, else {DEFAULT})",
        )
        about.add_argument("--json", action="store_true", help="print one JSON value, also for a failure")
        about.add_argument(
            "--allow-http", action="store_true", help="accept an unencrypted connection to another computer"
        )
        return command

    def group(self, name: str, text: str) -> "Adder":
        """A command that only has commands of its own."""
        command = self._parser(name, text, "")
        command.epilog = f"`synapse-registry {self._prefix}{name} ACTION --help` explains an action."
        return Adder(command.add_subparsers(required=True, metavar="ACTION", title="actions"), f"{name} ")

    def _parser(self, name: str, text: str, more: str) -> Parser:
        self.listed.append((name, text))
        width = min(100, shutil.get_terminal_size().columns) - 2  # argparse's own texts have this width, too
        description = textwrap.fill(f"{text[0].upper()}{text[1:]}. {more}".strip(), max(width, 20))
        command: Parser = self._commands.add_parser(
            name, help=text, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        return command


def add_commands(commands: Commands) -> list[tuple[str, str]]:
    """Adds the client's commands. Returns (name, help) of each."""
    adder = Adder(commands)
    _add_account(adder)
    _add_publishing(adder)
    _add_reading(adder)
    _add_managing(adder)
    _add_owners(adder.group("owners", "list, invite and remove the owners of a package"))
    _add_tokens(adder.group("token", "create, list and delete API tokens for machines"))
    completing = adder.add(
        "completion",
        "completion.completion",
        "print the code that completes commands in your shell",
        'eval "$(synapse-registry completion bash)"                        # in ~/.bashrc\n'
        'eval "$(synapse-registry completion zsh)"                         # in ~/.zshrc, after compinit\n'
        "synapse-registry completion fish | source                         # in ~/.config/fish/config.fish",
    )
    completing.add_argument("shell", choices=SHELLS, metavar="SHELL", help="bash, zsh or fish")
    return adder.listed


def _add_account(adder: Adder) -> None:
    login = adder.add(
        "login",
        "account.login",
        "sign in to a registry",
        "synapse-registry login --url https://registry.example.com\n"
        "synapse-registry login --username ada --password-stdin < password.txt\n"
        "synapse-registry login --username ada --password-stdin --code 123456 < password.txt",
        "Asks for name, password and the code of a second factor. The token goes into the system's keyring, or into a "
        "file that only you can read.",
    )
    login.add_argument("--username", metavar="NAME", help="your user name or e-mail address")
    login.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
    login.add_argument("--code", help="a code of your authenticator app, or a recovery code")
    adder.add("logout", "account.logout", "sign out, and end the token at the registry", "synapse-registry logout")
    adder.add(
        "whoami",
        "account.whoami",
        "tell who you are signed in as",
        "synapse-registry whoami\nsynapse-registry whoami --json",
    )


def _add_publishing(adder: Adder) -> None:
    pack = adder.add(
        "pack",
        "pack.pack",
        "pack a folder into NAME-VERSION.tar.gz",
        "synapse-registry pack\nsynapse-registry pack ./my-package",
        "The same files give the same bytes, on every system. Leaves out what .synapseignore names (.gitignore if "
        "there is none; the syntax is the same), and refuses what a registry would refuse.",
    )
    pack.add_argument(
        "folder", nargs="?", default=".", metavar="DIR", help="the folder of synapse.json (default: this)"
    )
    publish = adder.add(
        "publish",
        "publish.publish",
        "publish a folder or a tarball",
        "synapse-registry publish --dry-run          # list every problem, publish nothing\n"
        "synapse-registry publish ./my-package --wait\n"
        "synapse-registry publish my-package-1.0.0.tar.gz",
        "Makes a dry run first, which reports all problems at once. In GitHub Actions (with `id-token: write`) and "
        "GitLab CI (with an id_token named SYNAPSE_ID_TOKEN), a trusted publisher needs no login and no token.",
    )
    publish.add_argument("source", nargs="?", default=".", metavar="DIR|TARBALL", help="default: this folder")
    publish.add_argument("--dry-run", action="store_true", help="stop after the dry run")
    publish.add_argument("--wait", action="store_true", help="wait until search finds it, at most a minute")


def _add_reading(adder: Adder) -> None:
    search = adder.add(
        "search",
        "packages.search",
        "search for packages",
        "synapse-registry search matrix\n"
        "synapse-registry search 'author:ada keyword:ml \"exact phrase\" -excluded'\n"
        "synapse-registry search parser --sort downloads --limit 50",
    )
    search.add_argument("query", nargs="+", metavar="QUERY", help="words, and fields such as author: or keyword:")
    search.add_argument("--limit", type=_number(1, 100), default=20, metavar="N", help="at most N results (1 to 100)")
    search.add_argument("--sort", choices=SORTS, default="relevance", help="the order (default: relevance)")
    search.add_argument(
        "--prerelease", action=argparse.BooleanOptionalAction, help="with or without pre-releases (default: with)"
    )
    info = adder.add(
        "info", "packages.info", "show a package, or one of its versions",
        "synapse-registry info hello-world\nsynapse-registry info hello-world@1.0.0\n"
        "synapse-registry info hello-world@latest --json",
    )  # fmt: skip
    download = adder.add(
        "download",
        "download.download",
        "download a tarball and check it",
        "synapse-registry download hello-world              # the latest version\n"
        "synapse-registry download hello-world@1.0.0 --output /tmp",
        "An interrupted download continues where it stopped. The file appears when its SHA-256 is right.",
    )
    download.add_argument("--output", metavar="PATH", help="a folder or a file (default: NAME-VERSION.tar.gz)")
    for command in (info, download):
        command.add_argument("package", metavar=PACKAGE, help="a package, and one of its versions")


def _add_managing(adder: Adder) -> None:
    yank = adder.add(
        "yank",
        "packages.yank",
        "mark a version as one that nobody should install",
        "synapse-registry yank hello-world@1.0.0 --reason 'loses data'",
        "A yanked version stays downloadable for those who name it.",
    )
    yank.add_argument("--reason", metavar="TEXT", help="why; users see it")
    yank.set_defaults(yanked=True)
    unyank = adder.add("unyank", "packages.yank", "undo a yank", "synapse-registry unyank hello-world@1.0.0")
    unyank.set_defaults(yanked=False, reason=None)
    for command in (yank, unyank):
        command.add_argument("package", metavar="NAME@VERSION", help="the version")
    deprecate = adder.add(
        "deprecate",
        "packages.deprecate",
        "tell users to use something else, or undo that",
        "synapse-registry deprecate hello-world --message 'Use hello-universe.' --successor hello-universe\n"
        "synapse-registry deprecate hello-world --undo",
    )
    deprecate.add_argument("package", metavar="NAME", help="the package")
    deprecate.add_argument("--message", metavar="TEXT", help="what users should do")
    deprecate.add_argument("--successor", metavar="NAME", help="the package to use instead")
    deprecate.add_argument("--undo", action="store_true", help="end the deprecation")


def _add_owners(adder: Adder) -> None:
    run_as = "synapse-registry owners"
    listing = adder.add("list", "owners.list_owners", "list owners and maintainers", f"{run_as} list hello-world")
    inviting = adder.add(
        "invite", "owners.invite", "invite a user, or an e-mail address",
        f"{run_as} invite hello-world grace\n{run_as} invite hello-world grace@example.com --role maintainer",
        "An invitation is valid for 14 days. Maintainers publish, yank and deprecate; owners may do everything.",
    )  # fmt: skip
    withdrawing = adder.add(
        "withdraw", "owners.withdraw", "withdraw an invitation", f"{run_as} withdraw hello-world 17"
    )
    removing = adder.add("remove", "owners.remove", "end a user's role", f"{run_as} remove hello-world grace")
    changing = adder.add(
        "role", "owners.change_role", "change the role of a user", f"{run_as} role hello-world grace maintainer"
    )
    transferring = adder.add(
        "transfer", "owners.transfer", "invite a user to become the only owner", f"{run_as} transfer hello-world grace"
    )
    setting = adder.add(
        "set", "owners.set_owners", "set all owners (admins)",
        f"{run_as} set hello-world grace ada:maintainer --reason 'grace takes over'",
    )  # fmt: skip
    for command in (listing, inviting, withdrawing, removing, changing, transferring, setting):
        command.add_argument("package", metavar="NAME", help="the package")
    for command in (inviting, removing, changing, transferring):
        command.add_argument("user", metavar="USER", help="a user name")
    inviting.add_argument("--role", choices=ROLES, default="owner", help="owner (default) or maintainer")
    withdrawing.add_argument("invitation", metavar="ID", help="the number of the invitation")
    changing.add_argument("role", choices=ROLES, metavar="ROLE", help="owner or maintainer")
    setting.add_argument("users", nargs="+", metavar="USER[:ROLE]", help="a user, who becomes owner or ROLE")
    setting.add_argument("--reason", required=True, metavar="TEXT", help="why; it is kept in the audit log")
    listing_open = adder.add(
        "invitations", "owners.invitations", "list the invitations that you got, or those to a package",
        f"{run_as} invitations\n{run_as} invitations hello-world",
    )  # fmt: skip
    listing_open.add_argument("package", nargs="?", metavar="NAME", help="one of your packages")
    for answer in ("accept", "decline"):
        answering = adder.add(answer, "owners.answer", f"{answer} an invitation", f"{run_as} {answer} 17")
        answering.set_defaults(answer=answer)
        answering.add_argument("invitation", metavar="ID", help="the number of the invitation")


def _add_tokens(adder: Adder) -> None:
    run_as = "synapse-registry token"
    creating = adder.add(
        "create",
        "tokens.create",
        "create an API token and print it",
        f"{run_as} create ci --scope publish --package hello-world --expires-in 90\n"
        f"TOKEN=$({run_as} create ci --scope publish)",
        "You must be signed in with your password.",
    )
    creating.add_argument("name", metavar="NAME", help="what the token is for")
    creating.add_argument("--scope", action="append", required=True, choices=SCOPES, help=SCOPE_HELP)
    creating.add_argument("--package", action="append", metavar="NAME", help="only this package; repeatable")
    creating.add_argument("--expires-in", type=_number(1, 3650), metavar="DAYS", help="ends after so many days")
    adder.add("list", "tokens.list_tokens", "list your API tokens", f"{run_as} list")
    deleting = adder.add("delete", "tokens.delete", "end an API token", f"{run_as} delete 17")
    deleting.add_argument("id", metavar="ID", help="the number that `token list` shows")


def _number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch("[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"must be a whole number from {low} to {high}")
        return int(text)

    return parse
