"""Runs the commands of CI jobs, as a CI service would."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web
from ephemeral_port_reserve import reserve

from tests.client import Registry
from tests.conftest import MakeRegistry
from tests.publishers.conftest import settings_of
from tests.publishers.issuer import Issuer

CI = Path(__file__).parents[2] / "deploy" / "ci"


async def run(script: str, folder: Path, **variables: str) -> tuple[int, str]:
    """Runs a script of a shell, which ends at the first failure. Returns (exit code, output)."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(folder.parent),
        "CI": "true",
        "GIT_CONFIG_GLOBAL": os.devnull,
        **{f"GIT_{who}_{what}": "ada@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
        **variables,
    }
    process = await asyncio.create_subprocess_exec(
        *("bash", "-eu", "-o", "pipefail", "-c", script),
        cwd=folder,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def registry_for_jobs(
    make_registry: MakeRegistry, issuer: Issuer, kind: str = "github", more_issuers: str = ""
) -> tuple[Registry, str]:
    """(a registry that trusts the issuer, its public address, which is the audience of ID tokens)."""
    settings = settings_of(issuer, kind)
    del settings["REGISTRY_PUBLIC_URL"]
    settings["REGISTRY_OIDC_ISSUERS"] += more_issuers
    registry = await make_registry(**settings)
    return registry, registry.url.replace("127.0.0.1", "localhost")


@asynccontextmanager
async def github_identity(issuer: Issuer, claims: dict[str, Any]) -> AsyncIterator[tuple[dict[str, str], list[str]]]:
    """GitHub's service that gives ID tokens to jobs: (the variables of a job, the audiences that it requested)."""
    audiences: list[str] = []

    async def give(request: web.Request) -> web.Response:
        if request.headers["Authorization"] != "Bearer hush":
            raise web.HTTPUnauthorized
        audiences.append(request.query["audience"])
        return web.json_response({"value": issuer.token({**claims, "aud": audiences[-1]})})

    app = web.Application()
    app.router.add_get("/token", give)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        port = reserve()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield (
            {
                "ACTIONS_ID_TOKEN_REQUEST_URL": f"http://127.0.0.1:{port}/token?api-version=2",
                "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "hush",
            },
            audiences,
        )
    finally:
        await runner.cleanup()


async def github_job(workflow: str, url: str, issuer: Issuer, folder: Path, claims: dict[str, Any]) -> str:
    """Runs the commands of a workflow's only job in `folder`. Returns their output; fails unless they succeed.

    The client is installed already. As at GitHub, only a job with `id-token: write` gets ID tokens.
    """
    [job] = yaml.safe_load(workflow.replace("https://registry.example", url))["jobs"].values()
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert commands[0] == 'pip install "$SYNAPSE_CLIENT"'
    async with github_identity(issuer, {**claims, "environment": job["environment"]}) as (variables, audiences):
        given = variables if job["permissions"].get("id-token") == "write" else {}
        code, output = await run("\n".join(commands[1:]), folder, **job["env"], **given)
    assert code == 0, output
    assert audiences == [url]
    return output
