"""`python -m registry.devstack fetch --cache DIR [--tests]` downloads the servers into the cache ahead of time."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from registry.devstack.distribution import S3PROXY, elasticsearch_home, maven_jar
from registry.errors import StackError


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 if everything is in the cache, 1 after an error text on stderr."""
    options = _parser().parse_args(arguments)
    try:
        found = [elasticsearch_home(options.cache)]
        if options.tests:
            found.append(maven_jar(options.cache, S3PROXY))
    except StackError as failure:
        sys.stderr.write(f"{failure}\n")
        return 1
    sys.stdout.writelines(f"{path}\n" for path in found)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m registry.devstack")
    fetch = parser.add_subparsers(required=True, metavar="fetch").add_parser(
        "fetch", help="download Elasticsearch into the cache"
    )
    fetch.add_argument("--cache", type=Path, required=True, help="the cache folder; it is created if missing")
    fetch.add_argument("--tests", action="store_true", help="also download what only the tests need (the S3 server)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
