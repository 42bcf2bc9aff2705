"""Runs commands of the client as processes, as users do."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class User:
    """A user of the client, with a home folder of their own. Commands run in `folder`."""

    def __init__(self, home: Path, url: str = "", **environ: str) -> None:
        self.home = home
        self.folder = home / "work"
        self.folder.mkdir(parents=True)
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / "config"),
            "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
            **({"SYNAPSE_REGISTRY_URL": url} if url else {}),
            **environ,
        }

    @property
    def logins(self) -> list[Path]:
        return sorted((self.home / "config" / "synapse-registry" / "logins").glob("*.json"))

    async def run(self, *arguments: str, stdin: str = "", **environ: str) -> Ran:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "registry", *arguments),
            cwd=self.folder,
            env={**self.environ, **environ},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(90):
            out, err = await process.communicate(stdin.encode())
        assert b"Traceback" not in err, err.decode()
        return Ran(process.returncode or 0, out.decode(), err.decode())

    async def done(self, *arguments: str, stdin: str = "", **environ: str) -> Ran:
        """Runs a command that must succeed."""
        ran = await self.run(*arguments, stdin=stdin, **environ)
        assert ran.status == 0, ran
        return ran

    async def sign_in(self, username: str, password: str) -> Ran:
        return await self.done("login", "--username", username, "--password-stdin", stdin=f"{password}\n")

    def write_package(self, name: str = "demo", version: str = "1.0.0", **files: str | bytes) -> Path:
        """A folder with a package. The keys of `files` are names, with `__` for a dot."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        manifest = {"name": name, "version": version, "description": f"About {name}"}
        (folder / "synapse.json").write_text(json.dumps(manifest))
        for key, content in files.items():
            file = folder / key.replace("__", ".")
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return folder
