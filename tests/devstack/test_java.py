"""The choice of a Java: candidates are tried in the documented order, and each reports its version and modules."""

from pathlib import Path

import pytest

from registry.devstack.java import find_java
from registry.errors import StackError


def make_java(home: Path, version: str, *modules: str) -> Path:
    """A `java` that reports `version` and `modules` as the real one does."""
    program = home / "bin" / "java"
    program.parent.mkdir(parents=True)
    listing = "\n".join(f"{module}@{version}" for module in modules)
    program.write_text(
        f"""#!/bin/sh
if [ "$1" = --list-modules ]; then
cat <<END
{listing}
END
else
cat >&2 <<END
Property settings:
    java.home = {home}
    java.specification.version = {version}
END
fi
"""
    )
    program.chmod(0o755)
    return home


def find(*candidates: Path | None, search_path: str = "", jvm_folder: Path = Path("/nonexistent")) -> Path:
    return find_java(candidates, search_path=search_path, jvm_folder=jvm_folder)


def test_the_first_suitable_candidate_is_chosen(tmp_path: Path) -> None:
    old = make_java(tmp_path / "old", "17", "jdk.jdi")
    fit = make_java(tmp_path / "fit", "21", "java.base", "jdk.jdi")
    newer = make_java(tmp_path / "newer", "25", "jdk.jdi")
    assert find(None, old, fit, newer) == fit


def test_java_on_the_path_is_asked_for_its_home(tmp_path: Path) -> None:
    home = make_java(tmp_path / "jdk", "25", "jdk.jdi")
    links = tmp_path / "links"
    links.mkdir()
    (links / "java").write_text(f'#!/bin/sh\nexec {home}/bin/java "$@"\n')
    (links / "java").chmod(0o755)
    assert find(search_path=str(links)) == home


def test_installed_jvms_are_the_last_candidates_and_other_folders_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "jvm" / "notes").mkdir(parents=True)
    make_java(tmp_path / "jvm" / "a-17", "17", "jdk.jdi")
    fit = make_java(tmp_path / "jvm" / "b-25", "25", "jdk.jdi")
    assert find(jvm_folder=tmp_path / "jvm") == fit
    on_path = make_java(tmp_path / "path", "22", "jdk.jdi")
    assert find(search_path=str(on_path / "bin"), jvm_folder=tmp_path / "jvm") == on_path


def test_the_error_lists_rejected_candidates_and_gives_advice(tmp_path: Path) -> None:
    old = make_java(tmp_path / "old", "1.8")
    cut_down = make_java(tmp_path / "cut", "25", "java.base", "jdk.jdi.extras")
    broken = tmp_path / "broken"
    (broken / "bin").mkdir(parents=True)
    (broken / "bin" / "java").write_text("not a program")
    with pytest.raises(StackError) as refusal:
        find(old, cut_down, broken, tmp_path / "absent")
    text = str(refusal.value)
    assert f"{old} is Java 8" in text
    assert f"{cut_down} lacks the module jdk.jdi" in text
    assert f"{broken} doesn't report its version" in text
    assert f"{tmp_path / 'absent'} has no bin/java" in text
    assert "openjdk-21-jdk-headless" in text
    assert "ES_JAVA_HOME" in text


def test_the_error_says_so_if_no_java_was_found() -> None:
    with pytest.raises(StackError, match="Rejected: none was found"):
        find(None)
