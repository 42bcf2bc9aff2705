"""How long after the answer to a publish a search finds it.

    python -m tests.bench.publish_to_found [--api http://127.0.0.1:8080] [--times 50]

The service must allow the publishes and searches (REGISTRY_RATE_LIMITS=off). Prints one JSON line.
"""

import argparse
import asyncio
import json
import secrets
import statistics
import time
from typing import Any

import aiohttp

from tests.client import tarball

PASSWORD = "Correct-Horse-42"
GIVE_UP_SECONDS = 30


async def found_after(session: aiohttp.ClientSession, api: str) -> float:
    """Seconds from the 201 to the first search that has it."""
    name = f"found-{secrets.token_hex(5)}"
    data = tarball(name=name, version="1.0.0", description=f"Looked for as {name}")
    address, headers = f"{api}/api/v1/packages/{name}/1.0.0", {"Content-Type": "application/gzip"}
    async with session.put(address, data=data, headers=headers) as response:
        assert response.status == 201, await response.text()
    began = time.perf_counter()
    while time.perf_counter() - began < GIVE_UP_SECONDS:
        async with session.get(f"{api}/api/v1/search", params={"q": name}) as response:
            page = await response.json()
        if any(result["name"] == name for result in page["results"]):
            return time.perf_counter() - began
        await asyncio.sleep(0.005)
    raise AssertionError(f"{name} was not found in {GIVE_UP_SECONDS} s")


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session:
        user = {"username": f"u{secrets.token_hex(6)}", "password": PASSWORD}
        for action in ("register", "login"):
            async with session.post(f"{options.api}/api/v1/auth/{action}", json=user) as response:
                token = (await response.json()).get("token")
        session.headers["Authorization"] = f"Bearer {token}"
        await found_after(session, options.api)
        times = sorted([await found_after(session, options.api) for _ in range(options.times)])
    return {
        "figure": "publish_to_found",
        "times": options.times,
        "median_ms": round(statistics.median(times) * 1000, 1),
        "p95_ms": round(times[int(len(times) * 0.95)] * 1000, 1),
        "max_ms": round(times[-1] * 1000, 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--api", default="http://127.0.0.1:8080")
    parser.add_argument("--times", type=int, default=50)
    print(json.dumps(asyncio.run(measure(parser.parse_args()))))
