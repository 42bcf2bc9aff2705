"""The lock files of the image: exact versions with hashes, and all requirements of setup.py and pyproject.toml."""

import ast
import re
import tomllib
from functools import cache

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.outside import LEFT_OUT
from tests.deploy.stack import ROOT

HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
LOCKS = ("build.lock", "requirements.lock")


@cache
def locked(file: str) -> dict[str, tuple[str, list[str]]]:
    """(version, options) of each package."""
    text = re.sub(r"\\\n", "", (ROOT / "deploy" / file).read_text("utf-8"))
    pins = {}
    for line in text.splitlines():
        pin, *options = line.partition("#")[0].split() or [""]
        if pin:
            name, _, version = pin.partition("==")
            pins[canonicalize_name(name)] = version, options
    return pins


def wanted(file: str) -> list[Requirement]:
    if file == "build.lock":
        texts = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    else:
        lists = [node for node in ast.parse((ROOT / "setup.py").read_text()).body if isinstance(node, ast.Assign)]
        named = {node.targets[0].id: node.value for node in lists if isinstance(node.targets[0], ast.Name)}
        texts = ast.literal_eval(named["CLIENT"]) + ast.literal_eval(named["SERVER"])
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize("file", LOCKS)
def test_each_line_is_a_version_and_the_hashes_of_its_files(file):
    assert locked(file)
    for name, (version, options) in locked(file).items():
        assert re.fullmatch(r"[0-9][0-9a-z.]*", version), name
        assert options, name
        assert all(HASH.fullmatch(option) for option in options), name


@pytest.mark.parametrize("file", LOCKS)
def test_every_requirement_is_locked_within_its_bounds(file):
    """If this fails, run `make lock`."""
    assert wanted(file)
    for requirement in wanted(file):
        version, _ = locked(file)[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), requirement


def test_no_server_or_tool_is_in_the_image():
    assert not set(locked("requirements.lock")) & {canonicalize_name(name) for name in (*LEFT_OUT, "setuptools", "pip")}


def test_the_image_installs_nothing_but_what_is_locked():
    dockerfile = re.sub(r"\s*\\\n\s*", " ", (ROOT / "deploy" / "Dockerfile").read_text())
    runs = [line.removeprefix("RUN ") for line in dockerfile.splitlines() if line.startswith("RUN ")]
    pips = [step.strip() for line in runs for step in line.split("&&") if step.strip().startswith("pip ")]
    assert len(pips) == 4
    assert all("--no-index" in step or "--require-hashes --only-binary :all: -r deploy/" in step for step in pips)


def test_the_lock_is_for_the_python_of_the_image():
    (version,) = re.findall(r"^ARG PYTHON=(3\.\d+)", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE)
    assert f"--python-version {version} " in (ROOT / "Makefile").read_text()
