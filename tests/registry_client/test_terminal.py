"""The client on a terminal: questions, a progress bar, and tables that fit."""

import asyncio
import fcntl
import os
import pty
import struct
import sys
import termios

from registry.client.failures import INTERRUPTED, NOT_ALLOWED, WRONG_USAGE
from tests.client import PASSWORD, Registry
from tests.factors.conftest import add_app
from tests.registry_client.commands import User
from tests.registry_client.conftest import MakeStandIn, MakeUser
from tests.registry_client.stand_in import Answer
from tests.registry_client.test_real_registry import random_bytes

COLUMNS = 60
CTRL_C, CTRL_D, NEWLINE = "\x03", "\x04", "\n"


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
                answer = answers.pop(0)[1]
                os.write(master, f"{answer}{'' if answer in (CTRL_C, CTRL_D) else NEWLINE}".encode())


async def test_login_asks_and_never_shows_the_password(registry: Registry, make_user: MakeUser):
    await registry.user("ada")
    user = make_user(registry.url)
    terminal = Terminal(user, "login")
    assert await terminal.run(("User name", "ada"), ("Password:", PASSWORD)) == 0
    assert "Signed in to" in terminal.screen
    assert PASSWORD not in terminal.screen
    assert len(user.logins) == 1


async def test_a_wrong_code_is_asked_again_until_it_is_over(registry: Registry, make_user: MakeUser):
    app, _ = await add_app(await registry.user("ada"))
    user = make_user(registry.url)
    terminal = Terminal(user, "login", "--username", "ada")
    wrong = ("Code of", app.wrong())
    assert await terminal.run(("Password:", PASSWORD), wrong, ("Code of", app.code())) == 0
    assert "clock" in terminal.screen
    await user.done("logout")
    terminal = Terminal(user, "login", "--username", "ada")
    assert await terminal.run(("Password:", PASSWORD), *[wrong] * 9) == NOT_ALLOWED
    assert terminal.screen.count("Code of") == 5
    assert user.logins == []


async def test_no_answer_is_no_login(registry: Registry, make_user: MakeUser):
    terminal = Terminal(make_user(registry.url), "login", "--username", "ada")
    assert await terminal.run(("Password:", CTRL_D)) == WRONG_USAGE
    assert "error: There is no answer." in terminal.screen
    terminal = Terminal(make_user(registry.url), "login")
    assert await terminal.run(("User name", CTRL_C)) == INTERRUPTED
    assert terminal.screen.endswith("Interrupted.\r\n")


async def test_transfers_have_a_progress_bar_with_the_rate(registry: Registry, make_user: MakeUser):
    await registry.user("ada")
    user = make_user(registry.url)
    await user.sign_in("ada", PASSWORD)
    user.write_package("demo", "1.0.0", data__bin=random_bytes(3_000_000))
    publishing = Terminal(user, "publish", "demo")
    assert await publishing.run() == 0
    for label in ("Checking", "Publishing"):
        assert f"{label}:" in publishing.screen
    downloading = Terminal(user, "download", "demo")
    assert await downloading.run() == 0
    assert "Downloading:" in downloading.screen
    for screen in (publishing.screen, downloading.screen):
        bars = [line for line in screen.replace("\n", "\r").split("\r") if "B/s" in line]
        assert bars
        assert max(map(len, bars)) <= COLUMNS
        # The bar is gone at the end: only the result stays.
        assert screen.rstrip().splitlines()[-1].rpartition("\r")[2].startswith(("Published demo", "demo-1.0.0.tar.gz"))


async def test_a_table_fits_the_terminal(stand_in: MakeStandIn, make_user: MakeUser):
    found = {"name": "demo", "version": "1.0.0", "description": "\x1b[2Jlong " * 50}
    user = make_user(stand_in(lambda _: Answer(body={"results": [found], "total": 1})).url)
    terminal = Terminal(user, "search", "demo")
    assert await terminal.run() == 0
    assert max(map(len, terminal.screen.splitlines())) == COLUMNS
    assert "\x1b" not in terminal.screen
