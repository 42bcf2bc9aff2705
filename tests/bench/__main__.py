"""`make bench`: the figures that matter, each beside a baseline of the same run; see docs/performance.md."""

import argparse
import asyncio
import json
from pathlib import Path

from tests.bench import changes, inspection, pages, peers, plans, reads, searches, webhooks, writes
from tests.bench.catalogue import read_catalogue
from tests.bench.relevance_corpus import of_debian
from tests.bench.stack import brought_up

FIGURES = {
    "package": reads.package,
    "tarballs": reads.tarballs,
    "offloaded": reads.offloaded,
    "publish": writes.publish,
    "found": writes.found,
    "indexing": writes.indexing,
    "inspection": inspection.inspection,
    "plans": plans.plans,
    "changes": changes.pages,
    "listeners": changes.listeners,
    "webhooks": webhooks.deliveries,
}
# These also need to know what is in the catalogue.
OF_CATALOGUE = {"search": searches.search, "pages": pages.pages}
ALL = (*OF_CATALOGUE, *FIGURES)


async def bench(options: argparse.Namespace) -> None:
    entries = read_catalogue(options.tsv) if options.tsv else of_debian()
    async with brought_up(options.data, entries) as stack:
        print(json.dumps({"packages": stack.packages}), flush=True)
        if options.peers:
            await peers.peers(stack, options.peers)
            return
        for name in options.only:
            if name in OF_CATALOGUE:
                await OF_CATALOGUE[name](stack, entries)
            else:
                await FIGURES[name](stack)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--tsv", type=Path, help="a catalogue of packages; else those of Debian's index")
    parser.add_argument("--data", type=Path, default=Path("build/bench"), help="keeps the loaded stack for next time")
    parser.add_argument("--peers", type=peers.checked, help="measure beside these registries, and nothing else")
    parser.add_argument("only", nargs="*", help=f"some of {', '.join(ALL)}; else all")
    options = parser.parse_args()
    options.only = options.only or list(ALL)
    asyncio.run(bench(options))


if __name__ == "__main__":
    main()
