"""How much eight uploads of 100 MB at once raise the peak memory of a running service.

    python -m tests.bench.upload_memory --pid PID [--api http://127.0.0.1:8080] [--uploads 8] [--megabytes 100]

The service must allow the publishes (REGISTRY_RATE_LIMITS=off). Prints one JSON line.
"""

import argparse
import asyncio
import io
import json
import os
import re
import secrets
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp

PASSWORD = "Correct-Horse-42"


def peak_mib(pid: int) -> float:
    """The highest resident size since the process began (or since it was reset), in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


def write_tarball(path: Path, name: str, megabytes: int) -> None:
    """Random content, so that it stays as large when packed."""
    manifest = json.dumps({"name": name, "version": "1.0.0", "description": "Large"}).encode()
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for member, data in (("synapse.json", manifest), ("data.bin", os.urandom(megabytes * 1_000_000))):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


async def upload(session: aiohttp.ClientSession, api: str, name: str, path: Path) -> None:
    with path.open("rb") as file:
        address = f"{api}/api/v1/packages/{name}/1.0.0"
        async with session.put(address, data=file, headers={"Content-Type": "application/gzip"}) as response:
            assert response.status == 201, await response.text()


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    names = [f"large-{secrets.token_hex(4)}" for _ in range(options.uploads)]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in names]
        for name, path in zip(names, paths, strict=True):
            await asyncio.to_thread(write_tarball, path, name, options.megabytes)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=600)) as session:
            user = {"username": f"u{secrets.token_hex(6)}", "password": PASSWORD}
            for action in ("register", "login"):
                async with session.post(f"{options.api}/api/v1/auth/{action}", json=user) as response:
                    assert response.ok, await response.text()
                    token = (await response.json()).get("token")
            session.headers["Authorization"] = f"Bearer {token}"
            before = peak_mib(options.pid)
            began = time.perf_counter()
            await asyncio.gather(*(upload(session, options.api, *item) for item in zip(names, paths, strict=True)))
            seconds = time.perf_counter() - began
    after = peak_mib(options.pid)
    return {
        "figure": "upload_peak_memory",
        "uploads": options.uploads,
        "megabytes_each": options.megabytes,
        "peak_before_mib": round(before, 1),
        "peak_after_mib": round(after, 1),
        "raised_mib": round(after - before, 1),
        "seconds": round(seconds, 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--api", default="http://127.0.0.1:8080")
    parser.add_argument("--uploads", type=int, default=8)
    parser.add_argument("--megabytes", type=int, default=100)
    print(json.dumps(asyncio.run(measure(parser.parse_args()))))
