"""The templates of deploy/ci: the script against the real service, the others against their schemas."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from ephemeral_port_reserve import reserve

from tests.client import Registry, tarball
from tests.publishers.issuer import AUDIENCE, Issuer, github
from tests.publishers.test_forgeries import TRUSTED

CI = Path(__file__).parents[2] / "deploy" / "ci"


async def publish(registry: Registry, file: Path, **variables: str) -> tuple[int, str]:
    """Runs the script. Returns (exit code, output)."""
    environment = {"PATH": os.environ["PATH"], "SYNAPSE_REGISTRY_URL": registry.url, **variables}
    process = await asyncio.create_subprocess_exec(
        *("sh", str(CI / "publish.sh"), str(file)),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


def pack_in_folder(file: Path, source: Path, folder: str) -> None:
    """Packs the tarball again, with its files in `folder`."""
    (source / folder).mkdir(parents=True)
    subprocess.run(["tar", "-xzf", file, "-C", source / folder], check=True)
    subprocess.run(["tar", "-czf", file, "-C", source, folder.rstrip("/")], check=True)


@pytest.mark.parametrize("folder", ["", "./", "demo-1/"])
async def test_the_script_publishes_with_an_id_token(trusting: Registry, issuer: Issuer, tmp_path: Path, folder: str):
    ada = await trusting.user("ada")
    made = await ada.call("POST", "/auth/publishers", json={**TRUSTED, "package": "demo"})
    assert made.status == 201
    file = tmp_path / "demo.tar.gz"
    file.write_bytes(tarball({"name": "demo", "version": "1.0.0", "description": "A demo"}))
    if folder:
        pack_in_folder(file, tmp_path / "source", folder)
    code, output = await publish(trusting, file, SYNAPSE_ID_TOKEN=issuer.token(github()))
    assert (code, output) == (0, f"published demo 1.0.0: {trusting.url}/api/v1/packages/demo/1.0.0\n")
    assert (await trusting.get("/packages/demo/1.0.0")).json["provenance"]["repository"] == "org/repo"
    code, output = await publish(trusting, file, SYNAPSE_ID_TOKEN=issuer.token(github(environment="x")))
    assert code == 1
    assert "exchanging the ID token: status 401: The nearest trusted publisher" in output


async def test_the_script_requests_githubs_id_token(trusting: Registry, issuer: Issuer, tmp_path: Path):
    ada = await trusting.user("ada")
    assert (await ada.call("POST", "/auth/publishers", json={**TRUSTED, "package": "demo"})).status == 201
    file = tmp_path / "demo.tar.gz"
    file.write_bytes(tarball())
    asked: list[tuple[Any, Any]] = []

    async def give(request: web.Request) -> web.Response:
        asked.append((request.headers["Authorization"], request.query["audience"]))
        return web.json_response({"value": issuer.token(github(aud=request.query["audience"]))})

    app = web.Application()
    app.router.add_get("/token", give)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        port = reserve()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        code, output = await publish(
            trusting,
            file,
            ACTIONS_ID_TOKEN_REQUEST_URL=f"http://127.0.0.1:{port}/token?api-version=2",
            ACTIONS_ID_TOKEN_REQUEST_TOKEN="hush",
            SYNAPSE_AUDIENCE=AUDIENCE,
        )
    finally:
        await runner.cleanup()
    assert code == 0, output
    assert asked == [("Bearer hush", AUDIENCE)]


async def test_the_script_says_what_is_missing(trusting: Registry, tmp_path: Path):
    file = tmp_path / "demo.tar.gz"
    file.write_bytes(tarball())
    for wanted, variables in (
        ("there are no credentials", {}),
        ("set SYNAPSE_REGISTRY_URL", {"SYNAPSE_REGISTRY_URL": ""}),
        ("publishing demo 1.0.0: status 401", {"SYNAPSE_TOKEN": "syn_wrong"}),
    ):
        code, output = await publish(trusting, file, **variables)
        assert (code, wanted in output) == (1, True), output
    assert (await publish(trusting, tmp_path / "nothing"))[0] == 1


@pytest.mark.parametrize(
    ("file", "schema"), [("github.yml", "vendor.github-workflows"), ("gitlab.yml", "vendor.gitlab-ci")]
)
def test_templates_fit_their_schemas(file: str, schema: str):
    check = Path(sys.executable).with_name("check-jsonschema")
    ran = subprocess.run(
        [
            check,
            "--builtin-schema",
            schema,
            *(["--data-transform", "gitlab-ci"] if "gitlab" in file else []),
            CI / file,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
