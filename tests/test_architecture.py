"""The laws of the house that a machine can check."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
REGISTRY = ROOT / "registry"
MOST_LINES = 350


def modules() -> Iterator[tuple[str, Path]]:
    """(path below registry, file) of each module."""
    for file in sorted(REGISTRY.rglob("*.py")):
        yield str(file.relative_to(REGISTRY)), file


def nodes(file: Path) -> Iterator[ast.AST]:
    yield from ast.walk(ast.parse(file.read_text("utf-8")))


def test_rooms_import_only_as_the_contracts_say():
    ran = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " 0 broken" in ran.stdout


def test_only_two_modules_read_the_environment():
    names = {"environ", "environb", "getenv", "getenvb", "putenv"}
    readers = {
        path
        for path, file in modules()
        for node in nodes(file)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
        and node.attr in names
    }
    assert readers == {"client/environment.py", "settings.py"}


def test_only_the_command_line_reads_arguments():
    readers = {
        path
        for path, file in modules()
        for node in nodes(file)
        if (isinstance(node, ast.Import) and any(name.name == "argparse" for name in node.names))
        or (isinstance(node, ast.Attribute) and node.attr == "argv")
    }
    readers = {path for path in readers if not path.startswith("client/")}  # its functions get parsed options
    assert readers == {
        "cli.py", "devstack/__main__.py", "devstack/guard.py", "log_commands.py", "service_commands.py",
        "user_commands.py",
    }  # fmt: skip


def test_the_client_imports_only_what_it_may():
    """It is installed without the service's dependencies."""
    shared = {"client", "errors", "package_format"}
    rooms = {path.partition("/")[0].removesuffix(".py") for path, _ in modules()} - {"__init__", "__main__", "cli"}
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    [contract] = [each for each in contracts if each.get("source_modules") == ["registry.client"]]
    assert set(contract["forbidden_modules"]) == {f"registry.{room}" for room in rooms - shared} | {"es_mappings"}


def test_stores_never_commit():
    """The edge does: a store gets a connection in a transaction that is somebody else's."""
    for path, file in modules():
        if Path(path).name == "store.py":
            called = {node.attr for node in nodes(file) if isinstance(node, ast.Attribute)}
            assert not called & {"transaction", "command", "session"}, path


def test_every_store_function_takes_its_connection_first():
    for path, file in modules():
        if Path(path).name != "store.py":
            continue
        for node in nodes(file):
            if isinstance(node, ast.AsyncFunctionDef):
                assert node.args.args, (path, node.name)
                assert node.args.args[0].arg == "conn", (path, node.name)


def test_no_use_case_knows_of_requests():
    """What is neither handlers nor a way in takes plain values."""
    allowed = {"app.py", "keys.py", "server.py", "packages/upload.py"}
    for path, file in modules():
        speaks_http = path.startswith(("pages/", "web/")) or Path(path).name in ("handlers.py", "requests.py")
        if path in allowed or speaks_http:
            continue
        names = {node.attr for node in nodes(file) if isinstance(node, ast.Attribute)}
        assert not names & {"match_info", "rel_url", "StreamResponse"}, path


def test_only_stores_name_the_column_that_package_owners_replaced():
    """Who may do what with a package is decided by packages/rights.py from the table of owners."""
    for path, file in modules():
        if re.search(r"\bowner_id\b", file.read_text("utf-8")):
            assert path.startswith("db/tables/") or "migrations" in path or Path(path).name == "store.py", path


def test_only_the_announcement_hub_listens():
    """Each LISTEN needs a connection that stays open: there is one per process."""
    listening = {path for path, file in modules() if "LISTEN {" in file.read_text("utf-8")}
    assert listening == {"events/announcements.py"}


def test_modules_stay_small():
    for path, file in modules():
        if "migrations" not in path:
            assert len(file.read_text("utf-8").splitlines()) <= MOST_LINES, path


def test_errors_are_never_swallowed_wholesale():
    """A handler of everything either raises again or says why it may not."""
    for path, file in modules():
        lines = file.read_text("utf-8").splitlines()
        for node in nodes(file):
            if not isinstance(node, ast.ExceptHandler):
                continue
            caught = node.type.id if isinstance(node.type, ast.Name) else None
            if node.type is None or caught in ("Exception", "BaseException"):
                raises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
                assert raises or "#" in lines[node.lineno - 1], f"{path}:{node.lineno}"
