"""The cache: each server is downloaded once, verified, and stored completely or not at all."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from registry.devstack import distribution
from registry.devstack.__main__ import main
from registry.devstack.distribution import S3PROXY, elasticsearch_home, maven_jar, tree_digest
from registry.errors import StackError
from tests.devstack.conftest import PROJECT

FILES = {"config/jvm.options": b"-Xmx1g", "lib/server.jar": b"\x00\x01", "modules/a/b.jar": b"b"}


def carrier_in(folder: Path) -> Path:
    """A zip like the real one, with Elasticsearch and other files."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "carrier.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("sonarqube-1/bin/other", b"other")
        archive.writestr("sonarqube-1/web/elasticsearch/trap", b"other")
        for name, content in FILES.items():
            archive.writestr(f"sonarqube-1/elasticsearch/{name}", content)
    return path


def tree_in(folder: Path) -> Path:
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    digest = tree_digest(tree_in(tmp_path / "expected"))
    monkeypatch.setattr(distribution, "ELASTICSEARCH_TREE_SHA256", digest)
    return digest


def test_the_digest_depends_only_on_names_and_contents(tmp_path: Path) -> None:
    first, second = tree_in(tmp_path / "first"), tree_in(tmp_path / "second")
    (second / "plugins").mkdir()
    assert tree_digest(first) == tree_digest(second)
    (second / "lib" / "server.jar").rename(second / "lib" / "renamed.jar")
    assert tree_digest(first) != tree_digest(second)
    (second / "lib" / "renamed.jar").rename(second / "lib" / "server.jar")
    (second / "lib" / "server.jar").write_bytes(b"\x00\x02")
    assert tree_digest(first) != tree_digest(second)


def test_only_elasticsearch_is_kept_and_it_is_downloaded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pinned: str
) -> None:
    fetches: list[str] = []

    def download(coordinate: str, into: Path) -> Path:
        fetches.append(coordinate)
        return carrier_in(into)

    monkeypatch.setattr(distribution, "download", download)
    cache = tmp_path / "cache"
    home = elasticsearch_home(cache)
    assert elasticsearch_home(cache) == home
    assert fetches == [distribution.ELASTICSEARCH_ARCHIVE]
    assert {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()} == set(FILES)
    assert {path.stat().st_mode & 0o777 for path in home.rglob("*") if path.is_file()} == {0o644}
    assert {path.stat().st_mode & 0o777 for path in [home, *home.rglob("*")] if path.is_dir()} == {0o755}
    assert sorted(path.name for path in cache.iterdir()) == [home.name, "lock"]
    assert pinned[:16] in home.name


def test_content_with_another_digest_is_refused_and_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribution, "ELASTICSEARCH_TREE_SHA256", "f" * 64)
    monkeypatch.setattr(distribution, "download", lambda _coordinate, into: carrier_in(into))
    with pytest.raises(StackError, match=r"SHA-256 .* is pinned"):
        elasticsearch_home(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_damaged_zip_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pinned: str) -> None:
    def download(_coordinate: str, into: Path) -> Path:
        path = carrier_in(into)
        path.write_bytes(path.read_bytes()[:-30])
        return path

    monkeypatch.setattr(distribution, "download", download)
    with pytest.raises(StackError, match="was damaged during the download"):
        elasticsearch_home(tmp_path / "cache")


def test_a_full_disk_is_reported_before_the_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribution.shutil, "disk_usage", lambda _folder: SimpleNamespace(free=5_000_000))
    monkeypatch.setattr(distribution, "download", lambda *_: pytest.fail("it downloaded"))
    with pytest.raises(StackError, match=r"has 5 MB free\. The download of Elasticsearch needs 1300 MB"):
        elasticsearch_home(tmp_path)


def test_a_cache_folder_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StackError, match="can't be written"):
        elasticsearch_home(tmp_path / "file" / "cache")


def test_a_jar_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(_coordinate: str, into: Path) -> Path:
        (into / "fetched").write_bytes(b"jar")
        return into / "fetched"

    monkeypatch.setattr(distribution, "download", download)
    with pytest.raises(StackError, match=r"org\.gaul:s3proxy was downloaded with the SHA-256"):
        maven_jar(tmp_path, S3PROXY)
    monkeypatch.setitem(distribution._JAR_SHA256, S3PROXY, hashlib.sha256(b"jar").hexdigest())
    assert maven_jar(tmp_path, S3PROXY).read_bytes() == b"jar"


RACERS = 3
RACER = """
import sys, time
from pathlib import Path
from registry.devstack import distribution
from tests.devstack.test_distribution import RACERS, carrier_in

def download(coordinate, into):
    with (into.parent / "fetches").open("a") as file:
        file.write("x")
    while len(started.read_text()) < RACERS:
        time.sleep(0.01)
    return carrier_in(into)

started = Path(sys.argv[1]).with_name("started")
with started.open("a") as file:
    file.write("x")
distribution.ELASTICSEARCH_TREE_SHA256 = sys.argv[2]
distribution.download = download
print(distribution.elasticsearch_home(Path(sys.argv[1])))
"""


def test_only_one_of_several_processes_downloads(tmp_path: Path, pinned: str) -> None:
    cache = tmp_path / "cache"
    racers = [
        subprocess.Popen([sys.executable, "-c", RACER, cache, pinned], stdout=subprocess.PIPE, text=True, cwd=PROJECT)
        for _ in range(RACERS)
    ]
    homes = {racer.communicate(timeout=60)[0] for racer in racers}
    assert [racer.returncode for racer in racers] == [0] * RACERS
    assert len(homes) == 1
    assert (cache / "fetches").read_text() == "x"


def test_the_command_prints_the_error_and_exits_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert main(["fetch", "--cache", str(tmp_path / "file")]) == 1
    assert "can't be written" in capsys.readouterr().err
