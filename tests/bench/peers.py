"""Compares the registry with other registries: the same tarballs and the same load generator, in one run by turns.

`make bench PEERS=verdaccio,devpi` measures nothing else.
"""

import asyncio
import json
import secrets
import sys
import time
from collections.abc import Sequence
from functools import partial

from tests.bench.figure import Measure, compare
from tests.bench.reads import SMALL, packed, throughput
from tests.bench.rivals import KNOWN, Publish, Rival, is_installed, started
from tests.bench.stack import Stack
from tests.client import API

CLIENTS = 8
PUBLISHES = 100
VERSION = "1.0.0"


def checked(text: str) -> list[str]:
    """The names in a list such as `verdaccio,devpi`. Ends the program unless all of them are installed."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in KNOWN]
    if unknown or not names:
        sys.exit(f"PEERS may name {' and '.join(KNOWN)}, not {', '.join(unknown) or 'nothing'}.")
    missing = [name for name in names if not is_installed(name)]
    if missing:
        advice = " and ".join(f"`{KNOWN[name].install}`" for name in missing)
        sys.exit(f"Not installed: {', '.join(missing)}. Install it with {advice}, and put its program on the PATH.")
    return names


async def peers(stack: Stack, names: Sequence[str]) -> None:
    for name in names:
        async with started(name, stack.folder) as rival:
            await _beside(stack, rival)


async def _beside(stack: Stack, rival: Rival) -> None:
    async def publish(name: str, version: str, data: bytes) -> None:
        answer = await stack.user.put(name, version, data=data)
        assert answer.status == 201, answer.body

    beside = partial(compare, unit="requests/s", peer=rival.name)
    name = f"peer-{secrets.token_hex(4)}"
    data = packed(name, VERSION, SMALL)
    await publish(name, VERSION, data)
    await rival.publish(name, VERSION, data)
    ours = f"{API}/packages/{name}"
    await beside(
        "tarball 20 kB",
        throughput(stack.url, f"{ours}/{VERSION}/tarball"),
        throughput(rival.url, await rival.tarball(name, VERSION)),
    )
    await beside("metadata", throughput(stack.url, ours), throughput(rival.url, rival.metadata(name)))
    for clients in (CLIENTS, 1):
        await beside(
            f"publish 20 kB, {clients} at a time",
            _publishing(publish, clients),
            _publishing(rival.publish, clients),
            unit="publishes/s",
        )
    try:
        await beside(
            "search", throughput(stack.url, f"{API}/search?q={name}"), throughput(rival.url, rival.found(name))
        )
    except AssertionError as failure:
        # devpi answers some searches with errors while its index takes in what was just published.
        print(json.dumps({"figure": "search", "peer": rival.name, "failed": str(failure)}), flush=True)


def _publishing(publish: Publish, clients: int) -> Measure:
    """New packages a second, published by some clients at once."""

    async def measure() -> float:
        tag = secrets.token_hex(4)
        names = [f"peer-{tag}-{number}" for number in range(PUBLISHES)]
        waiting = iter([(name, packed(name, VERSION, SMALL)) for name in names])

        async def client() -> None:
            for name, data in waiting:
                await publish(name, VERSION, data)

        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        return PUBLISHES / (time.perf_counter() - began)

    return measure
