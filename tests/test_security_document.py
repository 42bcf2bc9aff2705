"""docs/security.md is true: each test that it names exists, and each text of the log that it lists is logged."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCUMENT = (ROOT / "docs" / "security.md").read_text("utf-8")
LEVELS = r"^\| [123](?:–3)? \| [^|]+ \| (met|partly|planned|not applicable)\b(.*) \|$"


@cache
def names_in(file: Path) -> frozenset[str]:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return frozenset(node.name for node in ast.parse(file.read_text("utf-8")).body if isinstance(node, kinds))


def test_every_test_that_is_named_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", DOCUMENT)
    assert len(named) > 40
    assert [f"{file}::{name}" for file, name in named if name not in names_in(ROOT / file)] == []
    assert DOCUMENT.count("::") == len(named)


def test_every_threat_has_a_proof():
    threats = DOCUMENT.partition("## Threats and answers")[2].partition("\nKnown limits")[0]
    rows = [row for row in threats.splitlines() if row.startswith("| ")][1:]
    assert len(rows) > 20
    assert [row for row in rows if "`tests/" not in row.split("|")[3]] == []


def test_every_principle_has_a_state_and_what_is_met_is_shown():
    principles = DOCUMENT.partition("# OpenSSF")[2]
    rows = [row for row in principles.splitlines() if re.match(r"\| [123]", row)]
    states = [re.fullmatch(LEVELS, row) for row in rows]
    assert all(states), [row for row, state in zip(rows, states, strict=True) if not state]
    for state in filter(None, states):
        assert state[1] != "met" or "`tests/" in state[2] or "](" in state[2], state[0]


def test_every_text_of_the_audit_log_is_listed():
    listed = DOCUMENT.partition("The log has these fixed texts")[2].partition("\n## ")[0]
    written = {
        text
        for room in ("accounts", "factors")
        for file in (ROOT / "registry" / room).rglob("*.py")
        for text in re.findall(r'log\.(?:info|warning)\("([^"]+)"', file.read_text("utf-8"))
    }
    assert written - {"last use of a token not recorded"} == set(re.findall(r"`([^`]+)`", re.sub(r"\s+", " ", listed)))
