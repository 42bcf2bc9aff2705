"""completion: the code that makes a shell complete commands and options."""

import argparse

from registry.client.client import Client


def completion(client: Client, options: argparse.Namespace) -> None:
    from argcomplete.shell_integration import shellcode

    code = shellcode(["synapse-registry"], shell=options.shell).strip()
    client.out.result({"shell": options.shell, "code": code}, code)
