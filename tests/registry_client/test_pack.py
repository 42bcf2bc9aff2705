"""Packing: the same bytes everywhere, the right files, and the registry's own rules."""

import gzip
import hashlib
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from registry.client.failures import ClientError, WrongUsage
from registry.client.pack import packed
from registry.package_format.archive import inspect

MANIFEST = {"name": "demo", "version": "1.0.0", "description": "A demo"}
# The bytes for `make_demo`. They change only with a release of zlib-ng that compresses differently.
DEMO_SHA256 = "c6dde3095373944ac7199b67c248b8c807efeaf3dfcdb978d035bf6745b09679"


def make_demo(folder: Path, *, reverse: bool = False) -> Path:
    """The same files each time, created in one order or the other."""
    files = {
        "synapse.json": json.dumps(MANIFEST).encode(),
        "README.md": "# Démo\n\n".encode() + b"The same words over and over. " * 500,
        "src/main.py": b"print('hello')\n" * 100,
        "src/a/very/deep/" + "long-name-" * 12 + ".txt": b"deep",
        "tool.sh": b"#!/bin/sh\necho hello\n",
        "größe.txt": b"size",
        "data.bin": bytes(range(256)) * 64,
    }
    for name, content in sorted(files.items(), reverse=reverse):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return folder


def names_in(folder: Path) -> list[str]:
    with packed(folder) as tarball, tarfile.open(tarball.path) as tar:
        return tar.getnames()


def digest_of(folder: Path) -> str:
    with packed(folder) as tarball:
        assert tarball.sha256 == hashlib.sha256(tarball.path.read_bytes()).hexdigest()
        return tarball.sha256


def problems_of(folder: Path) -> dict[str, str]:
    with pytest.raises(ClientError) as refused, packed(folder):
        pass
    return {error["field"]: error["message"] for error in refused.value.errors}


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "synapse.json").write_text(json.dumps(MANIFEST))
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def test_the_same_files_give_the_same_bytes(tmp_path: Path):
    first = make_demo(tmp_path / "first")
    second = make_demo(tmp_path / "second", reverse=True)
    for path in second.rglob("*"):
        path.chmod(0o700)
        os.utime(path, (1, 1))
    assert digest_of(first) == digest_of(first) == digest_of(second) == DEMO_SHA256


def test_neither_time_zone_nor_language_nor_umask_changes_the_bytes(tmp_path: Path):
    make_demo(tmp_path / "demo")
    command = f"umask 077; exec {sys.executable} -m registry pack demo --json"
    environ = {"PATH": os.environ["PATH"], "TZ": "Asia/Kolkata", "LC_ALL": "C", "PYTHONHASHSEED": "7"}
    ran = subprocess.run(
        ["/bin/sh", "-c", command], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["checksum"] == DEMO_SHA256
    assert hashlib.sha256((tmp_path / "demo-1.0.0.tar.gz").read_bytes()).hexdigest() == DEMO_SHA256


def test_nothing_of_this_computer_is_in_the_tarball(tmp_path: Path):
    with packed(make_demo(tmp_path / "demo")) as tarball:
        data = tarball.path.read_bytes()
        # gzip: no name, no time, an unknown system.
        assert data[:10] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"
        with tarfile.open(tarball.path) as tar:
            members = tar.getmembers()
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members} == {(0, 0, "", "", 315_532_800)}
    assert {m.name: m.mode for m in members if m.mode != 0o644} == {"tool.sh": 0o755}
    assert [m.name for m in members] == sorted((m.name for m in members), key=str.encode)


def test_the_registry_accepts_what_is_packed(tmp_path: Path):
    with packed(make_demo(tmp_path / "demo")) as tarball:
        found = inspect(tarball.path)
        assert (tarball.name, tarball.version, tarball.size) == ("demo", "1.0.0", tarball.path.stat().st_size)
    assert found.manifest.members == MANIFEST
    assert found.readme.startswith("# Démo")
    assert found.member_count == 7


def test_accents_have_one_form(tmp_path: Path):
    composed = write(tmp_path / "composed", größe__txt="x")
    decomposed = write(tmp_path / "decomposed", größe__txt="x")
    assert digest_of(composed) == digest_of(decomposed)
    (composed / "gro\u0308ße.txt").write_text("y")
    assert "two spellings" in problems_of(composed)["gr\\xf6\\xdfe.txt"]


def test_the_ignore_file_leaves_files_out(tmp_path: Path):
    folder = write(
        tmp_path, __gitignore="kept.txt\n", __synapseignore="*.log\n!important.log\nbuild/\n/only-top.txt\n",
        **{"a__log": "", "important__log": "", "kept__txt": "", "only-top__txt": ""},
    )  # fmt: skip
    for name in ("build/x.txt", "sub/only-top.txt", "sub/b.log"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("")
    assert names_in(folder) == [".gitignore", "important.log", "kept.txt", "sub/only-top.txt", "synapse.json"]


def test_without_an_ignore_file_that_of_git_counts(tmp_path: Path):
    assert names_in(write(tmp_path, __gitignore="*.log\n", a__log="", b__txt="")) == [
        ".gitignore", "b.txt", "synapse.json",
    ]  # fmt: skip


def test_version_control_caches_and_earlier_tarballs_are_left_out(tmp_path: Path):
    folder = write(tmp_path, __synapseignore="!.git\n!__pycache__\n", __DS_Store="", **{"demo-0__9__0__tar__gz": ""})
    for name in (".git/config", "__pycache__/x.pyc", ".synapse-pack-abc/package.tar.gz", "sub/.hg/x"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    assert names_in(folder) == ["synapse.json"]


def test_all_problems_are_named_at_once(tmp_path: Path):
    folder = write(tmp_path)
    (folder / "synapse.json").write_text(json.dumps({"name": "Demo", "version": "1.0", "keywords": "x"}))
    (folder / "link").symlink_to("/etc/passwd")
    (folder / "folder-link").symlink_to("/etc")
    os.mkfifo(folder / "pipe")
    found = problems_of(folder)
    assert set(found) == {"name", "version", "description", "keywords", "link", "folder-link", "pipe"}
    assert "is a link" in found["link"]
    assert "'demo' is valid" in found["name"]
    assert "neither a file nor a folder" in found["pipe"]


def test_the_manifest_is_always_packed(tmp_path: Path):
    folder = write(tmp_path, __synapseignore="*.json\n")
    (folder / "sub").mkdir()
    (folder / "sub" / "synapse.json").write_text("")
    assert names_in(folder) == ["synapse.json"]


def test_folders_may_be_deep(tmp_path: Path):
    deep = write(tmp_path).joinpath(*"a" * 500)
    deep.mkdir(parents=True)
    (deep / "x").write_text("")
    assert names_in(tmp_path) == ["a/" * 500 + "x", "synapse.json"]


def test_an_ignored_link_is_no_problem(tmp_path: Path):
    folder = write(tmp_path, __synapseignore="link\n")
    (folder / "link").symlink_to("/etc/passwd")
    assert names_in(folder) == ["synapse.json"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is missing"),
        ("{", "is not JSON"),
        ("[]", "must hold a JSON object"),
        ("{}" + " " * (1 << 20), "has more than 1,048,576 bytes"),
    ],
)
def test_a_bad_manifest_is_explained(content: str | None, said: str, tmp_path: Path):
    if content is not None:
        (tmp_path / "synapse.json").write_text(content)
    assert said in problems_of(tmp_path)["synapse.json"]


@pytest.mark.parametrize("content", [b"!\n", b"\xff\xfe"])
def test_a_bad_ignore_file_is_named(content: bytes, tmp_path: Path):
    folder = write(tmp_path)
    (folder / ".synapseignore").write_bytes(content)
    with pytest.raises(ClientError, match=r"\.synapseignore can't be read"), packed(folder):
        pass


def test_names_that_the_registry_refuses_are_refused(tmp_path: Path):
    folder = write(tmp_path)
    (folder / "a\\b.txt").write_text("")
    with pytest.raises(ClientError, match="backslash"), packed(folder):
        pass


def test_names_that_some_systems_refuse_are_a_warning(tmp_path: Path):
    folder = write(tmp_path, aux__txt="")
    with packed(folder) as tarball:
        assert [warning["code"] for warning in tarball.warnings] == ["reserved_name"]


def test_a_folder_that_does_not_exist_is_wrong_usage(tmp_path: Path):
    with pytest.raises(WrongUsage, match="no folder"), packed(tmp_path / "nothing"):
        pass


def test_nothing_is_left_behind(tmp_path: Path):
    folder = write(tmp_path / "demo")
    before = sorted(tmp_path.rglob("*"))
    with packed(folder, tmp_path) as tarball:
        assert gzip.decompress(tarball.path.read_bytes())
        assert tarball.path.parent.parent == tmp_path
    assert sorted(tmp_path.rglob("*")) == before
