"""Fixtures: programs that check files, and the secrets that `deploy/make-env` writes."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.deploy.stack import ROOT, read_env
from tests.deploy.tools import program
from tests.servers import cache_folder


@pytest.fixture(scope="session")
def nginx() -> Path:
    return program("nginx", cache_folder(os.environ))


@pytest.fixture(scope="session")
def promtool() -> Path:
    return program("promtool", cache_folder(os.environ))


@pytest.fixture(scope="session")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables of a new .env."""
    file = tmp_path_factory.mktemp("env") / ".env"
    subprocess.run([ROOT / "deploy" / "make-env", file], check=True, capture_output=True)
    return read_env(file)
