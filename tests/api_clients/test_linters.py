"""Spectral and Redocly find nothing in the API description, of a public and of a private registry."""

import json
from pathlib import Path

import pytest

from registry.app import description
from tests.api_clients import node

HERE = Path(__file__).parent


@pytest.fixture(params=["public", "private"])
def described(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    file = tmp_path / "openapi.json"
    file.write_text(json.dumps(description(private=request.param == "private")))
    return file


def test_spectral_finds_nothing(described: Path, node_packages: Path):
    spectral = node_packages / "@stoplight/spectral-cli/dist/index.js"
    options = ("--ruleset", HERE / "spectral.yaml", "--fail-severity", "hint")
    printed = node.run(spectral, "lint", *options, described, folder=described.parent)
    assert "No results with a severity of 'hint' or higher found!" in printed


def test_redocly_finds_nothing(described: Path, node_packages: Path):
    redocly = node_packages / "@redocly/cli/bin/cli.js"
    options = ("--config", HERE / "redocly.yaml", "--format", "json")
    printed = node.run(redocly, "lint", *options, described, folder=described.parent)
    found = json.loads(printed[printed.index("{") : printed.rindex("}") + 1])
    assert found["totals"] == {"errors": 0, "warnings": 0, "ignored": 0}
