"""What a served tarball costs the registry: processor seconds for a gigabyte, with and without nginx fetching it.

    python -m tests.bench.offload --s3 URL [--megabytes 50] [--downloads 20]

Wants an S3 server that runs (the keys of tests/servers.py); starts PostgreSQL, nginx and two registries, the one as
it stands alone and the other as in the compose stack. Prints one JSON line.
"""

import argparse
import asyncio
import contextlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import psutil
from aiohttp import web
from ephemeral_port_reserve import reserve

from registry.db import migrate
from registry.devstack.postgres import Postgres
from registry.settings import Settings
from tests.client import Registry
from tests.deploy.nginx_server import Nginx
from tests.deploy.outside import running
from tests.deploy.stack import ROOT
from tests.deploy.tools import program
from tests.servers import S3Proxy, cache_folder


def large(megabytes: int) -> bytes:
    """A tarball of random bytes, which stays as large when packed."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        manifest = json.dumps({"name": "large", "version": "1.0.0", "description": "Large"}).encode()
        for name, data in (("synapse.json", manifest), ("data", os.urandom(megabytes * 1_000_000))):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


async def seconds_for_a_gigabyte(url: str, pid: int, downloads: int) -> float:
    process, received = psutil.Process(pid), 0
    before = sum(process.cpu_times()[:2])
    async with aiohttp.ClientSession() as session:
        for _ in range(downloads):
            async with session.get(f"{url}/api/v1/packages/large/1.0.0/tarball") as answer:
                answer.raise_for_status()
                async for piece in answer.content.iter_chunked(1 << 20):
                    received += len(piece)
    return (sum(process.cpu_times()[:2]) - before) * 1e9 / received


async def measure(environ: Mapping[str, str], folder: Path, megabytes: int, downloads: int) -> dict[str, float]:
    figures = {}
    for name, redirect in (("registry serves", "false"), ("nginx fetches", "true")):
        port = str(reserve())
        given = {**environ, "REGISTRY_PORT": port, "REGISTRY_S3_REDIRECT": redirect}
        url = f"http://127.0.0.1:{port}"
        serve = [sys.executable, "-m", "registry", "serve"]
        async with running(serve, given, folder / f"{redirect}.log") as pid, aiohttp.ClientSession() as session:
            registry = Registry(web.Application(), session, url)
            await answering(registry)
            if redirect == "false":
                await (await registry.user()).publish("large", data=large(megabytes))
            with Nginx(program("nginx", cache_folder(os.environ)), folder / f"nginx-{redirect}", url) as nginx:
                figures[name] = round(await seconds_for_a_gigabyte(nginx.url, pid, downloads), 3)
    return figures


async def answering(registry: Registry) -> None:
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                await registry.get("/health/live")
                return
            await asyncio.sleep(0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--s3", required=True)
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--downloads", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        folder.chmod(0o755)
        with Postgres(folder / "postgres", durable=False, environ=os.environ) as postgres:
            migrate.upgrade(Settings.read({"REGISTRY_DB_URL": postgres.url()}).database)
            environ = {
                "PATH": os.environ["PATH"],
                "REGISTRY_DB_URL": postgres.url(),
                "REGISTRY_STORAGE_TYPE": "s3",
                "REGISTRY_S3_ENDPOINT": options.s3,
                "REGISTRY_S3_BUCKET": f"offload-{uuid.uuid4().hex[:12]}",
                "REGISTRY_S3_ACCESS_KEY": S3Proxy.access_key,
                "REGISTRY_S3_SECRET_KEY": S3Proxy.secret_key,
                "REGISTRY_SPOOL_PATH": str(folder / "spool"),
                "REGISTRY_RATE_LIMITS": "off",
                "REGISTRY_LOG_LEVEL": "error",
            }
            subprocess.run([sys.executable, ROOT / "deploy" / "oneshots" / "make_bucket.py"], env=environ, check=True)
            figures = asyncio.run(measure(environ, folder, options.megabytes, options.downloads))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
