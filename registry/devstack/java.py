"""Finds a JDK that can run Elasticsearch. Runs each candidate, because paths and names can be misleading."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from registry.errors import StackError

JVM_FOLDER = Path("/usr/lib/jvm")
# Elasticsearch's entitlements load this module. A runtime image made by jlink may lack it.
NEEDED_MODULE = "jdk.jdi"
_TIMEOUT_SECONDS = 30


def find_java(
    candidates: Sequence[Path | None],
    minimum: int = 21,
    *,
    search_path: str = "/usr/local/bin:/usr/bin:/bin",
    jvm_folder: Path = JVM_FOLDER,
) -> Path:
    """The home of the first Java of version `minimum` or newer that has the module NEEDED_MODULE.

    Looks at `candidates`, then at `java` on `search_path` (in the form of PATH), then below `jvm_folder`. Raises
    StackError with the rejected candidates and with what to install.
    """
    rejected: list[str] = []
    for home in _homes(candidates, search_path, jvm_folder):
        reason = _problem(home / "bin" / "java", minimum)
        if reason is None:
            return home
        rejected.append(f"{home} {reason}")
    found = "; ".join(rejected) or "none was found"
    raise StackError(
        f"Elasticsearch needs a JDK of version {minimum} or later. Rejected: {found}. Install one "
        f"(for instance Debian's openjdk-{minimum}-jdk-headless or Eclipse Temurin {minimum}), or set ES_JAVA_HOME."
    )


def _homes(candidates: Sequence[Path | None], search_path: str, jvm_folder: Path) -> Iterator[Path]:
    """Each home once, even if it has several names."""
    on_path = shutil.which("java", path=search_path)
    listed = sorted(jvm_folder.iterdir()) if jvm_folder.is_dir() else []
    named = [*candidates, _home_of(Path(on_path)) if on_path else None, *listed]
    seen: set[Path] = set()
    for home in named:
        if home is None or home.resolve() in seen:
            continue
        seen.add(home.resolve())
        if home not in listed or (home / "bin" / "java").is_file():
            yield home


def _home_of(executable: Path) -> Path | None:
    """Runs Java to find its home: the file on PATH may be a link or the script of a version manager."""
    match = re.search(
        r"^\s*java\.home = (.+)$", _run(executable, "-XshowSettings:properties", "-version"), re.MULTILINE
    )
    return Path(match[1].strip()) if match else None


def _problem(executable: Path, minimum: int) -> str | None:
    if not executable.is_file():
        return "has no bin/java"
    settings = _run(executable, "-XshowSettings:properties", "-version")
    match = re.search(r"^\s*java\.specification\.version = (?:1\.)?(\d+)", settings, re.MULTILINE)
    if match is None:
        return "doesn't report its version"
    if int(match[1]) < minimum:
        return f"is Java {match[1]}"
    if not re.search(rf"^{re.escape(NEEDED_MODULE)}(?:@|\s|$)", _run(executable, "--list-modules"), re.MULTILINE):
        return f"lacks the module {NEEDED_MODULE}"
    return None


def _run(executable: Path, *arguments: str) -> str:
    """The output of `java`, "" if it can't be run."""
    try:
        answer = subprocess.run(  # noqa: S603
            [executable, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout + answer.stderr
