"""Runs a command of the client and turns its failures into texts and exit statuses."""

import argparse
from importlib import import_module

from registry.client.failures import FAILED, ClientError
from registry.client.output import Output


def run(options: argparse.Namespace) -> int:
    """Runs the function that `options.function` names as `module.function`. Returns the exit status.

    The module is imported now, so that help and completion don't wait for what only some commands need.
    """
    from registry.client.client import Client

    out = Output(as_json=options.json)
    module, _, name = options.function.partition(".")
    try:
        getattr(import_module(f"registry.client.{module}"), name)(Client(options, out), options)
    except ClientError as error:
        out.failure(error)
        return error.exit_status
    except BrokenPipeError:
        raise
    except OSError as error:  # a file or folder of the user
        where = f"{error.filename}: " if error.filename else ""
        out.failure(ClientError(f"{where}{error.strerror or error}."))
        return FAILED
    return 0
