"""The client on a terminal: questions, a progress bar, and tables that fit."""

import asyncio
import fcntl
import os
import pty
import struct
import sys
import termios

from registry.client.failures import NOT_ALLOWED
from tests.client import PASSWORD, Registry
from tests.registry_client.commands import User
from tests.registry_client.conftest import MakeStandIn, MakeUser
from tests.registry_client.stand_in import Answer
from tests.registry_client.test_real_registry import random_bytes
from tests.registry_client.test_stand_in import second_factor

COLUMNS = 60


class Terminal:
    """A command that runs on a terminal of 60 columns."""

    def __init__(self, user: User, *arguments: str) -> None:
        self._user = user
        self._arguments = arguments
        self.screen = ""

    async def run(self, *answers: tuple[str, str]) -> int:
        """The exit status. After each text of `answers` is on the screen, its answer is typed."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "registry", *self._arguments),
            cwd=self._user.folder, env={**self._user.environ, "TERM": "xterm"},
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            # getpass reads from the terminal that controls the process.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(slave)
        reading = asyncio.get_running_loop().run_in_executor(None, self._read, master, list(answers))
        async with asyncio.timeout(60):
            await reading
            return await process.wait()

    def _read(self, master: int, answers: list[tuple[str, str]]) -> None:
        seen = 0
        while True:
            try:
                block = os.read(master, 1 << 16)
            except OSError:  # the last process on the terminal has ended
                block = b""
            if not block:
                os.close(master)
                return
            self.screen += block.decode()
            if answers and answers[0][0] in self.screen[seen:]:
                seen = len(self.screen)
                os.write(master, f"{answers.pop(0)[1]}\n".encode())


async def test_login_asks_and_never_shows_the_password(registry: Registry, make_user: MakeUser):
    await registry.user("ada")
    user = make_user(registry.url)
    terminal = Terminal(user, "login")
    assert await terminal.run(("User name", "ada"), ("Password:", PASSWORD)) == 0
    assert "Signed in to" in terminal.screen
    assert PASSWORD not in terminal.screen
    assert len(user.logins) == 1


async def test_a_wrong_code_is_asked_again(stand_in: MakeStandIn, make_user: MakeUser):
    user = make_user(stand_in(second_factor(["totp"])).url)
    terminal = Terminal(user, "login", "--username", "ada")
    assert await terminal.run(("Password:", "secret"), ("Code of", "000000"), ("Code of", "123456")) == 0
    assert "The code is wrong" in terminal.screen


async def test_after_five_wrong_codes_it_is_over(stand_in: MakeStandIn, make_user: MakeUser):
    server = stand_in(second_factor(["totp"]))
    terminal = Terminal(make_user(server.url), "login", "--username", "ada")
    assert await terminal.run(("Password:", "secret"), *[("Code of", "000000")] * 9) == NOT_ALLOWED
    assert len(server.received) == 6


async def test_transfers_have_a_progress_bar_with_the_rate(registry: Registry, make_user: MakeUser):
    await registry.user("ada")
    user = make_user(registry.url)
    await user.sign_in("ada", PASSWORD)
    user.write_package("demo", "1.0.0", data__bin=random_bytes(3_000_000))
    publishing = Terminal(user, "publish", "demo")
    assert await publishing.run() == 0
    for label in ("Checking", "Publishing"):
        assert f"{label}:" in publishing.screen
    assert "B/s" in publishing.screen
    downloading = Terminal(user, "download", "demo")
    assert await downloading.run() == 0
    assert "Downloading:" in downloading.screen


async def test_a_table_fits_the_terminal(stand_in: MakeStandIn, make_user: MakeUser):
    found = {"name": "demo", "version": "1.0.0", "description": "\x1b[2Jlong " * 50}
    user = make_user(stand_in(lambda _: Answer(body={"results": [found], "total": 1})).url)
    terminal = Terminal(user, "search", "demo")
    assert await terminal.run() == 0
    assert max(map(len, terminal.screen.splitlines())) == COLUMNS
    assert "\x1b" not in terminal.screen
