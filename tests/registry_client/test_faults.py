"""Faults of the computer that the client runs on: full disks, missing folders, broken keyrings, Ctrl-C, two at once."""

import asyncio
import contextlib
import signal
import stat
import sys

import pytest

from registry.client.failures import FAILED, INTERRUPTED
from tests.client import PASSWORD, Registry, sha256
from tests.registry_client.commands import Ran, User
from tests.registry_client.conftest import MakeUser
from tests.registry_client.test_real_registry import random_bytes

BROKEN_KEYRING = """
import keyring.backend

class Broken(keyring.backend.KeyringBackend):
    priority = 9
    def get_password(self, service, username):
        raise OSError("the bus is gone")
    set_password = delete_password = get_password
"""


async def shell(user: User, script: str) -> Ran:
    """Runs a script of the shell in which `registry` is the client."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", f'registry() {{ "{sys.executable}" -m registry "$@"; }}\n{script}'),
        cwd=user.folder, env=user.environ,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(90):
        out, err = await process.communicate()
    assert b"Traceback" not in err, err.decode()
    return Ran(process.returncode or 0, out.decode(), err.decode())


@pytest.fixture
async def ada(registry: Registry, make_user: MakeUser) -> User:
    """A signed-in user whose package demo has 300 kB."""
    user = make_user(registry.url)
    await registry.user("ada")
    await user.sign_in("ada", PASSWORD)
    user.write_package("demo", "1.0.0", data__bin=random_bytes(300_000))
    return user


async def test_a_full_disk_is_named_and_the_download_continues(registry: Registry, ada: User):
    await ada.done("publish", "demo")
    # A file may have 100 kB: as with a full disk, the write that goes beyond fails.
    full = await shell(ada, "ulimit -f 100; registry download demo")
    assert full.status == FAILED
    assert ".part: File too large" in full.err
    [part] = ada.folder.glob(".*.part")
    assert 0 < part.stat().st_size <= 100 * 1024
    done = await ada.done("download", "demo", "--json")
    assert sha256((ada.folder / "demo-1.0.0.tar.gz").read_bytes()) == done.json["checksum"]
    packing = await shell(ada, "rm *.tar.gz; ulimit -f 100; registry pack demo")
    assert (packing.status, "File too large" in packing.err) == (FAILED, True)
    assert [path.name for path in ada.folder.iterdir()] == ["demo"]


async def test_a_link_with_the_name_of_the_part_is_not_followed(registry: Registry, ada: User):
    await ada.done("publish", "demo")
    checksum = (await registry.get("/packages/demo/1.0.0")).json["checksum"]
    other = ada.folder / "other"
    other.write_text("mine")
    (ada.folder / f".{checksum[:32]}.part").symlink_to(other)
    refused = await shell(ada, "registry download demo")
    assert (refused.status, ".part" in refused.err) == (FAILED, True)
    assert other.read_text() == "mine"


async def test_two_downloads_at_once_share_the_work(registry: Registry, ada: User):
    await ada.done("publish", "demo")
    ran = await asyncio.gather(*(ada.done("download", "demo") for _ in range(3)))
    assert all("demo-1.0.0.tar.gz" in each.out for each in ran)
    assert sorted(path.name for path in ada.folder.iterdir()) == ["demo", "demo-1.0.0.tar.gz"]
    await registry.flush()
    version = (await registry.get("/packages/demo/1.0.0")).json
    assert sha256((ada.folder / "demo-1.0.0.tar.gz").read_bytes()) == version["checksum"]
    assert version["downloads"] == 1


async def test_a_download_of_the_longest_name(registry: Registry, ada: User):
    name, version = "n" * 214, "1.0.0"
    ada.write_package(name, version)
    await ada.done("publish", name)
    await ada.done("download", name)
    assert (ada.folder / f"{name}-{version}.tar.gz").is_file()
    assert len((await ada.run("info", "n" * 10_000)).err) < 200


async def test_ctrl_c_during_an_upload_publishes_nothing(registry: Registry, ada: User):
    received = asyncio.Event()

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Takes the beginning of an upload and never answers."""
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            received.set()
            await reader.read()
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    temporary = ada.home / "tmp"
    temporary.mkdir()
    async with server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "registry", "publish", "demo"),
            cwd=ada.folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={
                **ada.environ, "TMPDIR": str(temporary), "SYNAPSE_REGISTRY_TOKEN": "syn_x",
                "SYNAPSE_REGISTRY_URL": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}",
            },
        )  # fmt: skip
        async with asyncio.timeout(60):
            await received.wait()
            process.send_signal(signal.SIGINT)
            out, err = await process.communicate()
    assert (process.returncode, out, err) == (INTERRUPTED, b"", b"\nInterrupted.\n")
    assert list(temporary.iterdir()) == []


async def test_a_login_that_can_not_be_kept_is_ended(registry: Registry, make_user: MakeUser):
    ada = await registry.user("ada")
    user = make_user(registry.url)
    (user.home / "config").write_text("a file, where a folder should be")
    login = ("login", "--username", "ada", "--password-stdin")
    kept = await user.run(*login, stdin=PASSWORD)
    assert kept.status == FAILED
    assert "can't be kept, so it is ended" in kept.err
    assert "SYNAPSE_REGISTRY_TOKEN" in kept.err
    assert len((await ada.call("GET", "/auth/sessions")).json["sessions"]) == 1  # its own
    await user.done("search", "x")


@pytest.mark.parametrize("backend", ["broken_keyring.Broken", "no.such.Keyring", "json.JSONDecoder", "nonsense"])
async def test_a_broken_keyring_is_none(backend: str, registry: Registry, make_user: MakeUser):
    await registry.user("ada")
    plugins = make_user().home
    (plugins / "broken_keyring.py").write_text(BROKEN_KEYRING)
    user = make_user(registry.url, PYTHON_KEYRING_BACKEND=backend, PYTHONPATH=str(plugins))
    assert "in a file that only you can read" in (await user.sign_in("ada", PASSWORD)).out
    assert [stat.S_IMODE(file.stat().st_mode) for file in user.logins] == [0o600]
    await user.done("logout")


async def test_two_logins_at_once_leave_one_that_works(registry: Registry, make_user: MakeUser):
    await registry.user("ada")
    user = make_user(registry.url)
    await asyncio.gather(*(user.sign_in("ada", PASSWORD) for _ in range(3)))
    assert (await user.done("whoami")).out == f"ada at {registry.url}\n"
    assert [file.suffix for file in user.logins[0].parent.iterdir()] == [".json"]


async def test_output_that_can_not_be_written(make_user: MakeUser):
    user = make_user()
    full = await shell(user, "registry completion bash > /dev/full")
    assert (full.status, full.err) == (FAILED, "error: The output can't be written: No space left on device.\n")
    assert (await shell(user, "registry completion bash | head -1")).err == ""
    for closed in (">&-", "2>&-", "<&-", "<&- >&- 2>&-"):
        assert (await shell(user, f"registry completion bash {closed}")).status == 0
        assert (await shell(user, f"registry info {closed} demo@")).status == 2
