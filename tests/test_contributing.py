"""CONTRIBUTING.md names files and folders that exist, and commands that the Makefile has."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
NAMED = re.compile(r"`([\w./-]*[\w-]+\.(?:py|md|toml|mako|yml)|[\w./-]+/)`")


def test_every_named_file_exists():
    named = set(NAMED.findall(TEXT))
    assert len(named) > 20
    # Rooms are named without the folder that holds them.
    missing = {path for path in named if not ((ROOT / path).exists() or (ROOT / "registry" / path).exists())}
    assert missing - {"store.py", "handlers.py"} == set()


def test_every_named_make_target_exists():
    named = set(re.findall(r"make ([a-z]+)", TEXT))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert len(named) > 5
    assert named - targets == set()


def test_every_link_leads_to_a_file():
    links = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
