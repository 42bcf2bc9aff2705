"""Finds a Java that can run Elasticsearch; asks each candidate itself, since names and paths lie."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from registry.errors import StackError

JVM_FOLDER = Path("/usr/lib/jvm")
# Elasticsearch's entitlements load it; a runtime image cut down by jlink may lack it.
NEEDED_MODULE = "jdk.jdi"
_TIMEOUT_SECONDS = 30


def find_java(
    candidates: Sequence[Path | None],
    minimum: int = 21,
    *,
    search_path: str = "/usr/local/bin:/usr/bin:/bin",
    jvm_folder: Path = JVM_FOLDER,
) -> Path:
    """The home of the first Java of at least version `minimum` that has all of a JDK's modules.

    Asked in this order: the explicit homes, `java` on `search_path` (as PATH is written), the folders below
    `jvm_folder`. Raises StackError that says what was found instead and what to install.
    """
    rejected: list[str] = []
    for home in _homes(candidates, search_path, jvm_folder):
        reason = _why_unfit(home / "bin" / "java", minimum)
        if reason is None:
            return home
        rejected.append(f"{home} {reason}")
    found = "; ".join(rejected) or "none was found"
    raise StackError(
        f"Elasticsearch needs a JDK of version {minimum} or later, and of those looked at {found}. Install one "
        f"(for instance Debian's openjdk-{minimum}-jdk-headless or Eclipse Temurin {minimum}), or set ES_JAVA_HOME."
    )


def _homes(candidates: Sequence[Path | None], search_path: str, jvm_folder: Path) -> Iterator[Path]:
    """Each home once: two names of one folder count as one."""
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
    """Asks Java itself: what is on PATH may be a link or a version manager's script."""
    match = re.search(
        r"^\s*java\.home = (.+)$", _ask(executable, "-XshowSettings:properties", "-version"), re.MULTILINE
    )
    return Path(match[1].strip()) if match else None


def _why_unfit(executable: Path, minimum: int) -> str | None:
    if not executable.is_file():
        return "has no bin/java"
    settings = _ask(executable, "-XshowSettings:properties", "-version")
    match = re.search(r"^\s*java\.specification\.version = (?:1\.)?(\d+)", settings, re.MULTILINE)
    if match is None:
        return "doesn't tell its version"
    if int(match[1]) < minimum:
        return f"is Java {match[1]}"
    if not re.search(rf"^{re.escape(NEEDED_MODULE)}(?:@|\s|$)", _ask(executable, "--list-modules"), re.MULTILINE):
        return f"lacks the module {NEEDED_MODULE}"
    return None


def _ask(executable: Path, *arguments: str) -> str:
    """All that `java` prints; nothing when it can't be run, which then reads as a Java without a version."""
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
