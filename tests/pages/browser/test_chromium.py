"""The browser is found, or installed where that is possible."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.pages.browser import chromium


def _program(folder: Path, name: str) -> Path:
    program = folder / name
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return program


def test_an_installed_browser_is_used(tmp_path: Path) -> None:
    there = _program(tmp_path, "google-chrome")
    assert chromium.install(str(tmp_path), is_root=False) == there


def test_root_gets_it_from_debian(tmp_path: Path) -> None:
    _program(tmp_path, "apt-get")
    ran: list[str] = []

    def run(command: Sequence[str]) -> None:
        ran.append(command[2])
        if "install" in command:
            _program(tmp_path, command[-1])

    assert chromium.install(str(tmp_path), is_root=True, run=run) == tmp_path / "chromium"
    assert ran == ["update", "install"]


def test_others_learn_what_to_install(tmp_path: Path) -> None:
    _program(tmp_path, "apt-get")
    with pytest.raises(RuntimeError, match="sudo apt-get install chromium"):
        chromium.install(str(tmp_path), is_root=False)
