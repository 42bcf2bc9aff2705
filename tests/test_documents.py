"""The tables of the documents are complete and true: routes, rate limits, metrics, checks of the doctor, rooms."""

import re
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY

from registry.app import API, LIMITS
from registry.doctor.check import Registry
from registry.doctor.examine import all_checks
from registry.settings import Settings
from registry.web.route import DEFAULT

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
OPERATIONS = (ROOT / "docs" / "operations.md").read_text("utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
METHODS = r"(?:GET|POST|PUT|PATCH|DELETE)"


def section(text: str, title: str) -> str:
    return re.split(r"\n##+ ", text.partition(f"{title}\n")[2])[0]


def test_the_readme_lists_exactly_the_routes_that_exist():
    listed = {
        (method, path)
        for methods, path in re.findall(rf"`({METHODS}(?:, {METHODS})*) (/[^`?]*)[^`]*`", section(README, "## The API"))
        for method in methods.split(", ")
    }
    assert listed == {(route.method, route.path.removeprefix("/api/v1")) for route in API}


def test_the_readme_lists_every_rate_limit_with_its_default():
    listed = dict(re.findall(r"^\| `(\w+)` \| (\d+/\w+) \|", README, re.MULTILINE))
    assert listed == {limit.name: limit.default for limit in (DEFAULT, *LIMITS.values())}


def test_every_metric_of_the_registry_is_explained_to_operators():
    exported = {
        metric.name + ("_total" if metric.type == "counter" else "")
        for metric in REGISTRY.collect()
        if metric.name.startswith("registry_")
    }
    assert len(exported) > 20
    named = set(re.findall(r"`(registry_\w+)", section(OPERATIONS, "### Metrics")))
    assert named == exported


def test_every_check_of_the_doctor_is_explained_to_operators():
    table = OPERATIONS.partition("| Check | Repair |")[2].partition("\n\n")[0]
    listed = {
        name for row in table.splitlines() for name in re.findall("`([a-z ]+)`", row.split("|")[1:2][0] if row else "")
    }
    settings = Settings.read({"REGISTRY_SMTP_URL": "smtp://127.0.0.1"})
    unused: Any = type("Index", (), {"is_configured": True})()
    everything = Registry(settings, unused, unused, unused, unused, print)
    assert listed == {check.name for check in all_checks(everything, deep=True)}


def test_the_architecture_lists_every_room():
    rooms = {path.name for path in (ROOT / "registry").iterdir() if (path / "__init__.py").exists()}
    listed = set(re.findall(r"`(\w+)/`", section(ARCHITECTURE, "## Rooms")))
    assert rooms - listed == set()


def test_each_decision_has_a_number_of_its_own():
    numbers = [path.name[:4] for path in sorted((ROOT / "docs" / "decisions").glob("*.md"))]
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]


def test_every_link_between_documents_leads_to_a_file_and_a_heading():
    wrong = []
    for file in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")):
        for link in re.findall(r"\]\(([^)\s]+)\)", file.read_text("utf-8")):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, heading = link.partition("#")
            target = (file.parent / path) if path else file
            if not target.exists() or (heading and heading not in headings(target)):
                wrong.append(f"{file.relative_to(ROOT)}: {link}")
    assert wrong == []


def headings(file: Path) -> set[str]:
    """The anchors of the headings of a document, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
