"""Compares what a search answers, and what it costs, with a file that another build recorded."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from urllib.parse import urlsplit

import psutil

from tests.bench.relevance_queries import NONSENSE, Case

TEXTS = frozenset(("recalled", "topic"))
# The least share of the former first ten names that a cheaper search must still find.
KEPT_GATE = {"names": 0.92, "texts": 0.99}


@dataclass(frozen=True)
class Answer:
    """The first ten names of a query, best first, and how many packages it finds."""

    names: list[str]
    total: int


@dataclass(frozen=True)
class Record:
    """The answers by seed and query, and the processor time of a query in milliseconds by server."""

    answers: dict[str, dict[str, Answer]]
    milliseconds: dict[str, float]

    def save(self, file: Path) -> None:
        file.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, file: Path) -> "Record":
        found = json.loads(file.read_text(encoding="utf-8"))
        answers = {
            seed: {q: Answer(**answer) for q, answer in by_query.items()} for seed, by_query in found["answers"].items()
        }
        return cls(answers, found["milliseconds"])


def group_of(kind: str) -> str:
    """`names`, `texts` or `nonsense`."""
    if kind == NONSENSE:
        return kind
    return "texts" if kind in TEXTS else "names"


def kept(former: Answer, now: Answer) -> float | None:
    """The share of the former names that are still found; None if there were none."""
    return len(set(former.names) & set(now.names)) / len(former.names) if former.names else None


def compare(cases: Mapping[str, Iterable[Case]], former: Record, now: Record) -> bool:
    """Prints shares, totals and costs for the cases of each seed. Returns whether enough names are kept."""
    pairs: dict[str, list[tuple[Answer, Answer]]] = {"names": [], "texts": [], NONSENSE: []}
    for seed, of_seed in cases.items():
        for case in of_seed:
            if earlier := former.answers.get(seed, {}).get(case.q):
                pairs[group_of(case.kind)].append((earlier, now.answers[seed][case.q]))
    print(f"\n{'':14}{'queries':>10}{'kept':>10}{'gate':>8}{'found before':>16}{'found now':>12}")
    good = True
    for group, both in pairs.items():
        shares = [share for earlier, later in both if (share := kept(earlier, later)) is not None]
        share, gate = mean(shares) if shares else 1.0, KEPT_GATE.get(group)
        before, after = sum(earlier.total for earlier, _ in both), sum(later.total for _, later in both)
        short = gate is not None and share < gate
        bar = "" if gate is None else f"{gate:.2f}"
        print(f"{group:14}{len(both):>10}{share:>10.3f}{bar:>8}{before:>16,}{after:>12,}{'  below' if short else ''}")
        good &= not short
    print_costs(now, former)
    return good


def print_costs(now: Record, former: Record | None = None) -> None:
    for server, milliseconds in now.milliseconds.items():
        before = former.milliseconds.get(server) if former else None
        ratio = f", before {before:.2f} ms, ratio {milliseconds / before:.2f}" if before else ""
        print(f"processor time of {server} for a query: {milliseconds:.2f} ms{ratio}")


def processor_seconds(address: str) -> float | None:
    """User and system time so far of the processes that listen on the address's port; None if none is seen."""
    port = urlsplit(address).port
    listening = {
        connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid
    }
    times = [psutil.Process(pid).cpu_times() for pid in listening]
    return sum(each.user + each.system for each in times) if times else None
