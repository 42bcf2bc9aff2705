"""The console script. `synapse-registry --help` and `synapse-registry COMMAND --help` explain it.

It joins two sets of commands: those of the client, and those that run a registry.
"""

import argparse
import errno
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from registry import __version__, service_commands
from registry.client import commands as client_commands
from registry.client import environment
from registry.client.failures import FAILED, INTERRUPTED, WRONG_USAGE, WrongUsage

DESCRIPTION = """\
Publish, find and install packages, or run a registry.

packages:
{client}

running a registry (pip install 'synapse-registry[server]'):
{service}
"""
EPILOG = """\
first steps with a registry that runs already:
  synapse-registry login --url https://registry.example.com
  synapse-registry search matrix
  synapse-registry publish ./my-package

environment of the commands for packages:
  SYNAPSE_REGISTRY_URL                      the registry's address, for commands without --url
  SYNAPSE_REGISTRY_TOKEN                    an API token to use instead of a login

first steps with a registry of your own, on this computer:
  synapse-registry up                       start PostgreSQL, Elasticsearch and the service
  synapse-registry config                   list every setting, with its environment variable and default

in production, with REGISTRY_DB_URL and the other settings in the environment:
  synapse-registry migrate                  update the database schema, once per release, before it starts
  synapse-registry serve                    run the API and the background work
  synapse-registry user create ada --admin  create the first admin
  synapse-registry doctor                   check everything that is stored
  synapse-registry log key FILE             make a key that signs the log of changes

`synapse-registry COMMAND --help` explains a command.
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the command line; with --json as an object on stdout, like every failure."""

    def error(self, message: str) -> NoReturn:
        if "--json" not in sys.argv:
            super().error(message)
        from registry.client.output import Output

        Output(as_json=True).failure(WrongUsage(f"{self.prog}: {message}"))
        self.exit(WRONG_USAGE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status, which its help explains."""
    top = parser()
    if environment.is_completing():
        import argcomplete

        argcomplete.autocomplete(top)
    _open_closed_streams()
    options = top.parse_args(arguments)
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader closed the pipe (`| head`)
        _discard_output()
        return 0
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename:
            raise
        _discard_output()
        sys.stderr.write(f"error: The output can't be written: {error.strerror}.\n")
        return FAILED
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted.\n")
        return INTERRUPTED
    return status


def _discard_output() -> None:
    """Keeps the interpreter from trying to write the rest when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_closed_streams() -> None:
    """Python has no object for a standard stream that the caller has closed (`>&-`)."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - open until the end


def parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands."""
    top = _Parser(
        prog="synapse-registry",
        usage="%(prog)s [-h] [--version] COMMAND ...",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    # The description lists the commands in two groups, which argparse can't.
    commands = top.add_subparsers(prog=top.prog, required=True, metavar="COMMAND", help=argparse.SUPPRESS)
    client, service = client_commands.add_commands(commands), service_commands.add_commands(commands)
    top.description = DESCRIPTION.format(client=_listed(client), service=_listed(service))
    return top


def _listed(commands: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"    {name:<14}{text}" for name, text in commands)
