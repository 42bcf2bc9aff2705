"""The help teaches, commands start fast, and shells complete them."""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from registry.cli import parser
from registry.client.failures import EXIT_STATUSES
from registry.client.run import run
from tests.registry_client.conftest import MakeStandIn, MakeUser
from tests.registry_client.stand_in import Answer
from tests.registry_client.test_stand_in import USER

NAMES = (
    "login", "logout", "whoami", "pack", "publish", "search", "info", "download", "yank", "unyank", "deprecate",
    "owners", "token", "completion",
)  # fmt: skip
# What only some commands need. Each takes time to import.
SLOW = {
    "tarfile",
    "zlib_ng",
    "pathspec",
    "tqdm",
    "keyring",
    "nodesemver",
    "argcomplete",
    "asyncio",
    "registry.settings",
}
NETWORK = {"urllib3", "ssl", "platformdirs"}


def commands(
    top: argparse.ArgumentParser, words: tuple[str, ...] = ()
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """(words, parser) of each command that can be run."""
    groups = [action for action in top._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield " ".join(words), top
    for name, command in (pair for group in groups for pair in group.choices.items()):
        yield from commands(command, (*words, name))


CLIENT = {words: command for words, command in commands(parser()) if command.get_default("run") is run}


def test_every_command_is_there():
    assert {words.partition(" ")[0] for words in CLIENT} == set(NAMES)
    overview = parser().format_help()
    assert all(f"\n    {name} " in overview for name in NAMES)


@pytest.mark.parametrize("words", CLIENT)
def test_each_command_explains_itself(words: str):
    text = CLIENT[words].format_help()
    assert f"  synapse-registry {words}" in text[text.index("examples:") :] or words == "token create"
    assert EXIT_STATUSES in text
    assert "--url" in text
    assert "--json" in text
    for action in CLIENT[words]._actions:
        assert action.help, (words, action.dest)
    module, _, name = CLIENT[words].get_default("function").partition(".")
    assert callable(getattr(import_module(f"registry.client.{module}"), name))


@pytest.mark.parametrize("words", CLIENT)
def test_each_example_is_a_valid_command(words: str):
    """As far as argparse can tell."""
    text = CLIENT[words].format_help()
    for line in text[text.index("examples:") : text.index("exit status:")].splitlines()[1:]:
        command = line.partition("  #")[0].partition(" < ")[0].partition(" | ")[0].strip()
        for wrapped in ('eval "$(', "TOKEN=$("):
            command = command.removeprefix(wrapped).removesuffix('"').removesuffix(")")
        if command:
            split = subprocess.run(
                ["/bin/sh", "-c", f"printf '%s\\0' {command}"], capture_output=True, text=True, check=True
            ).stdout.split("\0")[1:-1]
            assert parser().parse_args(split).run is run


def imported(code: str, home: Path, **environ: str) -> set[str]:
    said = subprocess.check_output(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules, file=sys.stderr)"],
        stderr=subprocess.STDOUT, text=True, timeout=60, env={"PATH": os.environ["PATH"], "HOME": str(home), **environ},
    )  # fmt: skip
    return set(said.splitlines()[-1].split())


def test_help_waits_for_nothing(tmp_path: Path):
    code = "from registry.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass"
    assert imported(code, tmp_path) & (SLOW | NETWORK) == set()


def test_the_commands_load_no_room_of_the_service(tmp_path: Path, stand_in: MakeStandIn):
    server = stand_in(lambda _: Answer(body={"user": USER}))
    called = "for words in ('whoami', 'search x', 'download x', 'pack'): main(words.split())"
    given = {"SYNAPSE_REGISTRY_URL": server.url, "SYNAPSE_REGISTRY_TOKEN": "syn_x"}
    found = imported(f"from registry.cli import main\n{called}", tmp_path, **given)
    rooms = {name.split(".")[1] for name in found if name.startswith("registry.")}
    assert rooms == {
        "cli", "client", "errors", "log_commands", "package_format", "service_commands", "setting_files",
        "setting_types", "user_commands",
    }  # fmt: skip


def test_help_fits_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "40")
    for words, command in commands(parser()):
        text = command.format_help()
        described = text[text.index("\n\n") : text.index("options:")]
        assert max(map(len, described.splitlines())) <= 40, words


def test_whoami_waits_for_the_network_only(tmp_path: Path, stand_in: MakeStandIn):
    server = stand_in(lambda _: Answer(body={"user": USER}))
    code = "from registry.cli import main\nassert main(['whoami']) == 0"
    given = {"SYNAPSE_REGISTRY_URL": server.url, "SYNAPSE_REGISTRY_TOKEN": "syn_x"}
    assert imported(code, tmp_path, **given) & SLOW == set()


def complete(make_user: MakeUser, line: str) -> set[str]:
    """What bash offers for `line`."""
    user = make_user(PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    script = f"""
        eval "$(synapse-registry completion bash)"
        COMP_LINE='{line}' COMP_POINT=${{#COMP_LINE}} COMP_WORDS=({line}) COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
        COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; COMP_TYPE=9
        _python_argcomplete synapse-registry
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    ran = subprocess.run(
        ["bash", "-c", script], env=user.environ, cwd=user.folder, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    return {word.strip() for word in ran.stdout.splitlines()}


def test_bash_completes_commands_and_options(make_user: MakeUser):
    assert {"publish", "pack"} <= complete(make_user, "synapse-registry p")
    assert {"--wait", "--dry-run"} <= complete(make_user, "synapse-registry publish --")
    assert {"list", "invite", "remove"} <= complete(make_user, "synapse-registry owners ")


@pytest.mark.parametrize(("shell", "mark"), [("bash", "complete "), ("zsh", "compdef"), ("fish", "complete --command")])
async def test_each_shell_gets_its_code(shell: str, mark: str, make_user: MakeUser):
    code = (await make_user().done("completion", shell)).out
    assert mark in code
    assert "synapse-registry" in code
