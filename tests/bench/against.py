"""Compares two builds by turns in one run. Both stacks are up, and one at a time is measured.

    python -m tests.bench.against --before TREE --tsv FILE [--copies N] [MEASURE ...]

TREE is another checkout of this project with a .venv that has its test extras. Prints a JSON line for each number of a
measure: its values of both builds in each round, the ratios after:before, and their median.
"""

import argparse
import asyncio
import json
import statistics
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from tests.bench.catalogue import read_catalogue
from tests.bench.measures import MEASURES, Measure, Numbers, measures
from tests.bench.subjects import Build, Subject, started
from tests.deploy.stack import ROOT

BEFORE, AFTER = "before", "after"


async def compare(options: argparse.Namespace) -> None:
    entries = read_catalogue(options.tsv)
    builds = [
        Build(name, tree.resolve(), (options.data / f"{name}-{options.copies}").resolve())
        for name, tree in ((BEFORE, options.before), (AFTER, options.after))
    ]
    chosen = measures(entries, options.only or MEASURES)
    async with AsyncExitStack() as stack:
        subjects = [await stack.enter_async_context(started(each, options.tsv, options.copies)) for each in builds]
        for name, measure in chosen.items():
            rounds = await _by_turns(measure, subjects, options)
            for line in lines(name, rounds):
                print(json.dumps(line), flush=True)


async def _by_turns(
    measure: Measure, subjects: Sequence[Subject], options: argparse.Namespace
) -> list[Mapping[str, Numbers]]:
    """The numbers of each round, by the name of the build. Who begins changes with each round."""
    for subject in subjects:
        await measure(subject, -1, options.warm)
    rounds = []
    for number in range(options.rounds):
        order = subjects if number % 2 == 0 else subjects[::-1]
        rounds.append({subject.name: await measure(subject, number, options.seconds) for subject in order})
    return rounds


def lines(measure: str, rounds: Sequence[Mapping[str, Numbers]]) -> list[dict[str, object]]:
    """One line for each number of the measure."""
    found = []
    for number in rounds[0][AFTER]:
        before, after = ([each[name][number] for each in rounds] for name in (BEFORE, AFTER))
        ratios = [new / old if old else 0.0 for old, new in zip(before, after, strict=True)]
        found.append(
            {
                "measure": measure,
                "number": number,
                BEFORE: [round(each, 3) for each in before],
                AFTER: [round(each, 3) for each in after],
                "ratios": [round(each, 3) for each in ratios],
                "ratio": round(statistics.median(ratios), 3),
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.against", description=__doc__)
    parser.add_argument("--before", type=Path, required=True, help="the tree of the build to compare with")
    parser.add_argument("--after", type=Path, default=ROOT, help="the tree of the new build; else this one")
    parser.add_argument("--tsv", type=Path, required=True, help="the catalogue of packages")
    parser.add_argument("--copies", type=int, default=1, help="how often to load it, under different names")
    parser.add_argument("--data", type=Path, default=Path("build/against"), help="keeps the stacks for the next run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8, help="of each build in each round")
    parser.add_argument("--warm", type=float, default=20, help="seconds of each measure before its first round")
    parser.add_argument("only", nargs="*", help=f"some of {', '.join(MEASURES)}; else all")
    options = parser.parse_args()
    if unknown := set(options.only) - set(MEASURES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    asyncio.run(compare(options))


if __name__ == "__main__":
    main()
