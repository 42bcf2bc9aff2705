"""Every parser of clients' bytes either reads any bytes or refuses them with a named error, in bounded time.

The examples are the same in each run. A long run (`make fuzz`) uses others. Each failure that it finds gets a test of
its own next to the other tests of its subject.
"""

import asyncio
import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import semver
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from yarl import URL

from registry.errors import FieldError, InvalidInput, RegistryError, TooLarge
from registry.package_format.archive import inspect
from registry.package_format.gunzip import Gunzip
from registry.package_format.manifest import REQUIRED, Manifest, Metadata, merge, parse_manifest, request_problems
from registry.package_format.ranges import range_problem
from registry.package_format.tar import BLOCK, read_members
from registry.package_format.versions import MAX_VERSION, parse
from registry.packages.inspection import InspectionPool
from registry.packages.upload import Receiver
from registry.search.query import build, build_relaxed, build_spelling, build_suggest
from registry.search.request import PARAMETERS, SORTS, SearchRequest, parse_explain, parse_suggest
from registry.web import cursor
from registry.web.parsing import MAX_WINDOW, parse_object, parse_page
from registry.web.spool import Spool
from tests.deadline import deadline
from tests.packages.test_archive import GOOD, MIXED, SYNAPSE, member, mutated, pax, resum, tar
from tests.search.parameters import parameters_of

EXAMPLES = 60
ROUND = 1000
SUBJECTS = 7
MINUTES = float(os.environ.get("REGISTRY_FUZZ_MINUTES", "0"))
Check = Callable[[Any], None]


@pytest.fixture
def explore(capsys: pytest.CaptureFixture[str]) -> Callable[[str, st.SearchStrategy[Any], Check], None]:
    """Runs a check on EXAMPLES values of a strategy. In a long run, each subject gets an equal share of the time."""

    def run(subject: str, inputs: st.SearchStrategy[Any], check: Check) -> None:
        count, end = 0, time.monotonic() + MINUTES * 60 / SUBJECTS

        @settings(
            max_examples=ROUND if MINUTES else EXAMPLES,
            deadline=None,
            derandomize=not MINUTES,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(inputs)
        def holds(data: Any) -> None:
            nonlocal count
            count += 1
            check(data)

        holds()
        while time.monotonic() < end:
            holds()
        if MINUTES:
            with capsys.disabled():
                print(f"\n{subject}: {count:,} inputs")

    return run


def check_words(refusal: RegistryError) -> None:
    """The refusal has a text and can be sent as JSON."""
    assert refusal.detail
    assert orjson.dumps([refusal.detail, refusal.errors])


# Archives

NAMES = (
    st.sampled_from(["synapse.json", "./synapse.json", "Synapse.json", "a/synapse.json", "README.md", "a/README"])
    | st.sampled_from(
        ["a", "a/", "a/b", "b/x", ".", "./", "..", "../x", "/x", "C:/x", "a//b", "aux.py", "b?", "b ", "-x"]
    )
    | st.text("ab/.\\:\u00fc\u202e\x00", max_size=12)
    | st.text(max_size=20)
    | st.integers(80, 300).map(lambda length: "a/" + "b" * length)
)
KINDS = st.sampled_from([tarfile.REGTYPE] * 6 + [tarfile.DIRTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE, b"2", b"S", b"V"])
CONTENTS = st.sampled_from([SYNAPSE, b"{}", b"", b"# Hello"]) | st.binary(max_size=600)
RECORDS = st.dictionaries(
    st.sampled_from(["path", "path", "size", "mtime", "linkpath", "GNU_sparse_major", "hdrcharset", "uid"]),
    NAMES | st.sampled_from(["5", "0", "1.5", "BINARY", "-1"]) | st.text(max_size=8),
    max_size=2,
)


def raw_header(name: str, prefix: str, magic: bytes, kind: bytes) -> bytes:
    """A member whose name field and prefix field are filled to the last byte if the texts are long enough."""
    header = bytearray(member("x", kind=kind))
    header[:100] = name.encode()[:100].ljust(100, b"\0")
    header[257:265] = magic
    header[345:500] = prefix.encode()[:155].ljust(155, b"\0")
    return resum(bytes(header)) if magic[:5] == b"ustar" else summed(header)


def summed(header: bytearray) -> bytes:
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


MEMBERS = st.one_of(
    st.builds(lambda name, data, kind: member(name.encode()[:100], data, kind=kind), NAMES, CONTENTS, KINDS),
    st.builds(
        lambda records: pax(**{key: value.encode("utf-8", "replace") for key, value in records.items()}), RECORDS
    ),
    st.builds(
        lambda name, kind: member("long", name.encode() + b"\0", kind=kind), NAMES, st.sampled_from([b"L", b"L", b"K"])
    ),
    st.builds(raw_header, NAMES, NAMES, st.sampled_from([b"ustar\x0000", b"ustar  \0", bytes(8)]), KINDS),
    st.builds(lambda size, data: member("x", data, size=size), st.integers(-600, 2000), CONTENTS),
)


def long_name(name: str) -> bytes:
    return member("l", name.encode() + b"\0", kind=b"L")


# Names that most archives may have, in each of the forms that packers write.
HONEST_NAMES = st.from_regex(r"[a-c]{1,3}(/[a-c\u00fc:?. x-]{1,90}){0,3}/?", fullmatch=True)
HONEST = st.one_of(
    st.builds(lambda name, data: member(name.encode()[:100], data), HONEST_NAMES, CONTENTS),
    st.builds(lambda name, data: pax(path=name) + member("x", data), HONEST_NAMES, CONTENTS),
    st.builds(lambda name, data: long_name(name) + member("x", data), HONEST_NAMES, CONTENTS),
    st.builds(lambda prefix, name: raw_header(name, prefix, b"ustar\x0000", b"0"), HONEST_NAMES, HONEST_NAMES),
)
# Two of these forms at once: some programs take one name, others the other.
TWICE_NAMED = st.one_of(
    st.builds(lambda a, b: long_name(a) + pax(path=b) + member("x"), HONEST_NAMES, HONEST_NAMES),
    st.builds(lambda a, b: pax(path=a) + long_name(b) + member("x"), HONEST_NAMES, HONEST_NAMES),
    st.builds(lambda prefix: raw_header("x", prefix, b"ustar  \0", b"0"), HONEST_NAMES),
)
ROOT = member("synapse.json", SYNAPSE)
TARS = st.one_of(
    st.lists(MEMBERS, max_size=6).map(lambda members: tar(*members)),
    st.lists(MEMBERS | HONEST, max_size=3).map(lambda members: tar(ROOT, *members)),
    st.lists(HONEST, max_size=5).map(lambda members: tar(ROOT, *members)),
    mutated(MIXED),
    mutated(MIXED).map(resum),
    st.lists(HONEST, max_size=3).flatmap(lambda members: mutated(tar(ROOT, *members))).map(resum),
)
NAMED = st.lists(HONEST | TWICE_NAMED, min_size=1, max_size=2).map(lambda members: gzip.compress(tar(ROOT, *members)))
ARCHIVES = st.one_of(
    TARS.map(gzip.compress),
    TARS.flatmap(lambda data: mutated(gzip.compress(data, mtime=0))),
    mutated(GOOD),
    st.binary(max_size=2000),
)


@pytest.fixture(scope="session")
def gnu_tar() -> str:
    """GNU tar, the second reader of each archive that is accepted."""
    found = shutil.which("tar")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout if found else ""
    if found is None or "GNU tar" not in version:
        pytest.fail("This test needs GNU tar. Install it (Debian: apt-get install tar) and put it on the PATH.")
    return found


def names_here(path: Path) -> list[str]:
    """The members' names as the registry reads them."""
    names = []
    with path.open("rb") as file:
        stream = Gunzip(file, path.stat().st_size, max_unpacked=1 << 20, max_ratio=1000)
        for each in read_members(stream):
            stream.skip(each.size + -each.size % BLOCK)
            names.append("/".join(each.parts))
    return names


def plain(name: str) -> str:
    """A name without what every reader ignores: "." parts and doubled slashes."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def test_archives(explore, tmp_path: Path, gnu_tar: str):
    """Of an accepted archive, Python's tarfile and GNU tar list the same names, and none leads out of the folder."""
    path = tmp_path / "any.tar.gz"
    accepted = 0

    def check(data: bytes) -> None:
        nonlocal accepted
        path.write_bytes(data)
        try:
            found = inspect(path, max_unpacked=1 << 20, max_members=100)
        except InvalidInput as refusal:
            check_words(refusal)
            return
        accepted += 1
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
            members = archive.getmembers()
            manifests = [
                archive.extractfile(each).read()
                for each in members
                if Path(each.name).name == "synapse.json" and each.isfile()
            ]
        listed = subprocess.run(
            [gnu_tar, "--list", "--gzip", "--quoting-style=literal", f"--file={path}"],
            env={**os.environ, "LC_ALL": "C.UTF-8"}, capture_output=True, check=False,
        )  # fmt: skip
        names = names_here(path)
        assert len(names) == found.member_count
        assert [plain(each.name) for each in members] == names
        assert [plain(name) for name in listed.stdout.decode().splitlines()] == names, listed.stderr
        assert not any(".." in name.split("/") or name.startswith("/") or "\\" in name for name in names)
        assert found.manifest.members in [json.loads(text.decode("utf-8-sig")) for text in manifests if readable(text)]
        check_metadata({}, found.manifest, found.readme)

    explore("archives", ARCHIVES, check)
    explore("names in archives", NAMED, check)
    assert accepted


def readable(text: bytes) -> bool:
    try:
        return isinstance(parse_manifest(text), Manifest)
    except InvalidInput:
        return False


# Metadata

TEXTS = st.text(max_size=30) | st.sampled_from(
    ["demo", "1.0.0", "MIT", "https://a.example", "http://[::1", "git@a:b/c", "^1", "\x00", "\ud800", "a" * 3000]
)
SCALARS = TEXTS | st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([2**63, -(2**64), 10**400])
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4))
FIELDS = st.sampled_from(
    [*REQUIRED, "author", "license", "homepage", "repository", "keywords", "dependencies", "readme"]
)
GOOD_FIELDS = {"name": "demo", "version": "1.0.0", "description": "d"}
OBJECTS = st.dictionaries(FIELDS | TEXTS, JSON, max_size=5) | st.dictionaries(FIELDS, JSON, max_size=2).map(
    lambda some: GOOD_FIELDS | some
)
OBJECT_TEXTS = OBJECTS.map(lambda value: json.dumps(value).encode())
LONG = st.builds(bytes.__mul__, st.sampled_from([b"[", b'{"a":', b"9", b"-9"]), st.sampled_from([5000, 100_000]))
JSON_TEXTS = st.one_of(
    OBJECT_TEXTS,
    OBJECT_TEXTS.flatmap(mutated),
    st.binary(max_size=100),
    LONG,
    LONG.map(lambda text: b'{"name": ' + text + b"}"),
    st.sampled_from([b"NaN", b"\xef\xbb\xbf{}"]),
)


def test_metadata(explore):
    def check(texts: tuple[bytes, bytes]) -> None:
        try:
            request = parse_object(texts[0])
            orjson.dumps([*map(dict, request_problems(request, REQUIRED))])
            manifest = parse_manifest(texts[1])
        except InvalidInput as refusal:
            check_words(refusal)
            return
        check_metadata(request, manifest, "")

    explore("metadata", st.tuples(JSON_TEXTS, JSON_TEXTS), check)


def check_metadata(request: dict[str, Any], manifest: Manifest, readme: str) -> None:
    """The metadata is refused with a named error, or it can be stored: UTF-8 and JSON without NUL."""
    try:
        meta = merge(request, manifest, readme=readme)
    except InvalidInput as refusal:
        check_words(refusal)
        return
    assert isinstance(meta, Metadata)
    assert b"\\u0000" not in orjson.dumps(meta)
    assert orjson.loads(meta.manifest) == json.loads(meta.manifest, parse_int=float_beyond_64_bits)


def float_beyond_64_bits(digits: str) -> int | float:
    """As orjson reads whole numbers."""
    return int(digits) if -(2**63) <= int(digits) < 2**64 else float(digits)


# Forms

BOUNDARY = b"b"
PART_NAMES = st.sampled_from([b"metadata", b"tarball"]) | st.binary(max_size=5)
PART_HEADERS = st.sampled_from(
    [
        *(b"Content-Type: application/json", b"Content-Type: multipart/mixed; boundary=c", b"Content-Length: 3"),
        *(
            b"Content-Transfer-Encoding: base64",
            b"Content-Encoding: gzip",
            b"X",
            b": y",
            b" folded",
            b"X: " + b"y" * 9000,
        ),
        b'Content-Disposition: form-data; name="\xff"',
    ]
)
PARTS = st.builds(
    lambda name, headers, data: b"\r\n".join(
        [b"--" + BOUNDARY, b'Content-Disposition: form-data; name="' + name + b'"', *headers, b"", data]
    ),
    PART_NAMES,
    st.lists(PART_HEADERS, max_size=2),
    OBJECT_TEXTS | st.binary(max_size=200) | st.sampled_from([b"\r\n--", b"\r", b"\r\n", b"--b", b"\n--b\n"]),
)
ODD_FORMS = st.lists(PARTS, max_size=4).map(lambda parts: b"\r\n".join([*parts, b"--" + BOUNDARY + b"--", b""]))
LIKE_BOUNDARIES = st.lists(st.sampled_from([b"\r\n", b"--", b"b", b"\r", b"\n", b"-", b"x", bytes(3)]), max_size=30)
CUTS = st.lists(st.integers(0, 400), max_size=20)


def whole_form(fields: bytes, tarball: bytes) -> bytes:
    start = b'--b\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n'
    middle = b'\r\n--b\r\nContent-Disposition: form-data; name="tarball"; filename="x"\r\n\r\n'
    return start + fields + middle + tarball + b"\r\n--b--\r\n"


def bytes_of(content: Path | bytes) -> bytes:
    return content.read_bytes() if isinstance(content, Path) else content


class Forms:
    """Receives multipart bodies as the service does, in the given pieces."""

    def __init__(self, runner: asyncio.Runner, folder: Path) -> None:
        self.run, self.folder = runner.run, folder
        self.receiver = Receiver(Spool(folder), InspectionPool(), max_tarball=2000)

    async def received(self, pieces: list[bytes]) -> tuple[dict[str, Any], bytes]:
        protocol = BaseProtocol(asyncio.get_running_loop())
        protocol.connection_made(asyncio.Transport())
        stream = aiohttp.StreamReader(protocol, 1 << 16)
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        request = make_mocked_request("POST", "/api/v1/packages", headers=headers, payload=stream)

        async def arrive() -> None:
            for piece in pieces:
                stream.feed_data(piece)
                await asyncio.sleep(0)
            stream.feed_eof()

        arriving = asyncio.ensure_future(arrive())
        try:
            async with asyncio.timeout(20), self.receiver.multipart(request) as upload:
                return dict(upload.request), bytes_of(upload.tarball.content)
        finally:
            await arriving

    def files_left(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file() and "lock" not in path.name]


@pytest.fixture
def forms(tmp_path: Path) -> Iterator[Forms]:
    with asyncio.Runner() as runner:
        yield Forms(runner, tmp_path)


def cut(body: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(body), *(edge for edge in cuts if edge < len(body))})
    return [body[start:end] for start, end in pairwise(edges)]


def test_forms(explore, forms: Forms):
    def check(given_: tuple[bytes, list[int]]) -> None:
        try:
            fields, _ = forms.run(forms.received(cut(*given_)))
            assert isinstance(fields, dict)
        except (InvalidInput, TooLarge) as refusal:
            check_words(refusal)
        assert forms.files_left() == []

    whole = st.builds(whole_form, OBJECT_TEXTS, st.binary(max_size=300))
    explore("forms", st.tuples(ODD_FORMS | whole.flatmap(mutated) | st.binary(max_size=300), CUTS), check)


def test_forms_arrive_as_they_were_sent(explore, forms: Forms):
    """Any file content arrives unchanged, however the body is cut."""

    def check(given_: tuple[list[bytes], list[int]]) -> None:
        tarball = b"".join(given_[0])
        assume(b"\r\n--b" not in b"\r\n" + tarball)
        body = whole_form(orjson.dumps(GOOD_FIELDS), tarball)
        assert forms.run(forms.received(cut(body, given_[1]))) == (GOOD_FIELDS, tarball)
        assert forms.files_left() == []

    explore("whole forms", st.tuples(LIKE_BOUNDARIES, CUTS), check)


# Queries

QUERY_NAMES = st.sampled_from([*(parameter["name"] for parameter in PARAMETERS), "name", "x", ""])
QUERY_VALUES = st.one_of(
    st.sampled_from(
        ["1", "0", "9" * 5000, "true", "false", "all", *SORTS, "author:ada", "-keyword:a", '"a%20b"', "%00"]
    ),
    st.lists(
        st.sampled_from(["%", "%2", "%ff", "%ed%a0%80", "+", "&", "=", ";", '"', "-", ":", "a", "\u00e9", "\udcff"])
    ).map("".join),
    st.text(max_size=20),
    st.builds(
        lambda sort, values: cursor.encode(sort, tuple(values)),
        st.sampled_from(SORTS),
        st.lists(st.integers(-(2**63), 2**64 - 1) | st.text("ab\x00", max_size=5), max_size=4),
    ),
)
QUERIES = st.lists(st.builds("{}={}".format, QUERY_NAMES, QUERY_VALUES) | QUERY_VALUES, max_size=6).map("&".join)


def test_queries(explore):
    def check(raw: str) -> None:
        url = URL.build(path="/api/v1/search", query_string=raw, encoded=True)
        pairs = list(url.query.items())
        for understand in (search_body, suggest_body, explain_body):
            try:
                assert len(orjson.dumps(understand(pairs))) < 200_000
            except InvalidInput as refusal:
                check_words(refusal)
        errors: list[FieldError] = []
        limit, offset = parse_page(url.query, errors)
        if errors:
            check_words(InvalidInput.of(errors))
        else:
            assert 1 <= limit <= limit + offset <= MAX_WINDOW

    explore("queries", QUERIES, check)


def search_body(pairs: list[tuple[str, str]]) -> Any:
    request = SearchRequest.parse(pairs)
    assert SearchRequest.parse(parameters_of(request)) == request
    return [build(request, 9.0), build_relaxed(request, 9.0), build_spelling(request)]


def suggest_body(pairs: list[tuple[str, str]]) -> Any:
    return build_suggest(parse_suggest(pairs), 10, 9.0)


def explain_body(pairs: list[tuple[str, str]]) -> Any:
    request, name = parse_explain(pairs)
    return [build(request, 9.0), name]


# Versions

PIECES = ["0", "1", "01", "10", ".", "-", "+", "a", "Z", "x", "*", "^", "~", ">", "<", "=", " ", "||", " - ", "v", "\t"]
VERSION_LIKE = st.lists(st.sampled_from([*PIECES, "1.2.3", "-rc.1", "9" * 30, "\u0663", "\n"]), max_size=14).map(
    "".join
)
VERSIONS = st.from_regex(r"[0-9]{1,2}\.[0-9]\.[0-9](-[0-9a-c-]{1,3}(\.[0-9a]{1,3})?)?(\+[0-9a-]{1,3})?", fullmatch=True)


def test_versions(explore):
    def check(texts: tuple[str, str]) -> None:
        version, range_ = texts
        try:
            parse(version)
        except InvalidInput as refusal:
            assert len(version) > MAX_VERSION or not semver.Version.is_valid(version)
            check_words(refusal)
            return
        assert semver.Version.is_valid(version)
        with deadline(60):
            problem = range_problem(range_)
        assert problem is None or orjson.dumps(problem)

    explore(
        "versions",
        st.tuples(VERSIONS | VERSION_LIKE | st.text(max_size=20), VERSION_LIKE | VERSIONS | st.text()),
        check,
    )
