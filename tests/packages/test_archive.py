import gzip
import io
import json
import subprocess
import tarfile
import tracemalloc
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.errors import InvalidArchive, InvalidManifest
from registry.package_format.archive import inspect
from registry.package_format.manifest import MAX_MANIFEST, MAX_README
from registry.package_format.member_names import Names

MANIFEST = {"name": "my-library", "version": "1.0.0", "description": "A library"}
SYNAPSE = json.dumps(MANIFEST).encode()
END = bytes(1024)
# All examples share one file. Hypothesis warns about that, but each example overwrites the file.
same_file = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def member(name, data=b"", *, kind=tarfile.REGTYPE, size=None, **fields):
    """The header and padded content of a member, in GNU format. The checksum is always correct."""
    info = tarfile.TarInfo()
    info.type = kind
    info.size = len(data) if size is None else size
    for field, value in fields.items():
        setattr(info, field, value)
    name = name if isinstance(name, bytes) else name.encode()
    info.name = "x" * len(name)
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[: len(name)] = name
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data + bytes(-len(data) % 512)


def pax(**records):
    """A pax header with `records` for the next member."""
    data = b""
    for key, value in records.items():
        value = value if isinstance(value, bytes) else value.encode()
        body = b" " + key.replace("_", ".").encode() + b"=" + value + b"\n"
        length = len(body) + len(str(len(body)))
        length += len(str(length)) > len(str(len(body)))
        data += b"%d" % length + body
    return member("pax", data, kind=tarfile.XHDTYPE)


def tar(*members, end=END):
    return b"".join(members) + end


@pytest.fixture
def look(tmp_path):
    """Calls inspect() on a file of the given bytes."""
    path = tmp_path / "package.tar.gz"

    def look(data, **limits):
        path.write_bytes(data)
        return inspect(path, **limits)

    return look


@pytest.fixture
def refused(look):
    """The error text for a file of the given bytes, or for a gzipped tar of the given members."""

    def refused(*content, packed=None, error=InvalidArchive, **limits):
        with pytest.raises(error) as refusal:
            look(gzip.compress(tar(SYNAPSE_MEMBER, *content)) if packed is None else packed, **limits)
        assert refusal.type is error
        return refusal.value.detail

    return refused


SYNAPSE_MEMBER = member("synapse.json", SYNAPSE)
GOOD = gzip.compress(
    tar(SYNAPSE_MEMBER, member("README.md", b"# Hello"), member("src/", kind=tarfile.DIRTYPE)), mtime=0
)


def test_inspect_reads_manifest_readme_and_sizes(look):
    found = look(GOOD)
    assert (found.manifest.members, found.readme) == (MANIFEST, "# Hello")
    assert (found.member_count, found.unpacked_size) == (3, 5 * 512 + 1024)


@pytest.mark.parametrize("form", ["gnu", "posix", "ustar", "v7", "oldgnu"])
@pytest.mark.parametrize("what", [".", "./synapse.json", "../package"])
def test_archives_of_gnu_tar_are_accepted(tmp_path, form, what):
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "synapse.json").write_bytes(SYNAPSE)
    (folder / "a long name ".ljust(80, ".")).touch()
    target = tmp_path / "x.tgz"
    subprocess.run(["tar", "--create", "--gzip", f"--file={target}", f"--format={form}", what], cwd=folder, check=True)
    assert inspect(target).manifest.members == MANIFEST


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_archives_of_python_are_accepted(tmp_path, form):
    target = tmp_path / "x.tgz"
    with tarfile.open(target, "w:gz", format=form) as archive:
        for name, data in {
            "top/synapse.json": SYNAPSE,
            f"top/{'ü' * 40}/README": b"Hello",
            "top/big": bytes(10**6),
        }.items():
            info = tarfile.TarInfo(name)
            info.size, info.uname, info.mtime = len(data), "jérôme", 1.5 if form == tarfile.PAX_FORMAT else 1
            archive.addfile(info, io.BytesIO(data))
    assert (inspect(target).manifest.members, inspect(target).member_count) == (MANIFEST, 3)


# Made by `npm pack` 11, and by libarchive 3, the library of bsdtar, with extended attributes and long names.
@pytest.mark.parametrize(
    ("file", "name", "count"), [("npm-pack", "packed-by-npm", 3), ("libarchive", "packed-by-libarchive", 4)]
)
def test_archives_of_other_programs_are_accepted(file, name, count):
    found = inspect(Path(__file__).parent / "tarballs" / f"{file}.tgz")
    assert (found.manifest.members["name"], found.member_count) == (name, count)


@pytest.mark.parametrize(
    "members",
    [
        ["./synapse.json"],
        ["./", "./synapse.json"],
        ["package/", "package/synapse.json", "package/examples/x/synapse.json"],
        ["./package//./synapse.json"],
        ["examples/synapse.json", "synapse.json"],
        ["synapse.json", "examples/synapse.json"],
        ["._package", "package/synapse.json", "package/._synapse.json"],
    ],
)
def test_the_manifest_is_found_at_the_root_or_in_the_top_folder(look, members):
    wrong = json.dumps({"name": "example"}).encode()
    files = [member(n, wrong if "examples" in n else SYNAPSE) if n.endswith("json") else member(n) for n in members]
    assert look(gzip.compress(tar(*files))).manifest.members == MANIFEST


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["package.json"],
        ["a/b/synapse.json"],
        ["a/synapse.json", "b/synapse.json"],
        ["a/synapse.json", "LICENSE"],
        ["LICENSE", "a/synapse.json"],
        ["Synapse.json"],
        ["synapse.json/x"],
        ["._synapse.json"],
    ],
)
def test_an_archive_without_a_manifest_is_refused(refused, names):
    packed = gzip.compress(tar(*(member(name, SYNAPSE) for name in names)))
    assert "holds no synapse.json" in refused(packed=packed, error=InvalidManifest)


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"{", "not JSON"), (b"[]", "object"), (b"\xff", "UTF-8"), (b" " * MAX_MANIFEST + SYNAPSE, "1,048,576")],
)
def test_an_unreadable_manifest_is_refused(refused, data, message):
    packed = gzip.compress(tar(member("synapse.json", data)))
    assert message in refused(packed=packed, error=InvalidManifest)


def test_two_manifests_are_refused(refused):
    assert "twice" in refused(member("./synapse.json", SYNAPSE))


@pytest.mark.parametrize(
    ("files", "readme"),
    [
        ({}, ""),
        ({"README": b"plain", "readme.TXT": b"text", "ReadMe.md": b"markdown", "README.rst": b"rst"}, "markdown"),
        ({"README.rst": b"rst", "README": b"plain"}, "rst"),
        ({"docs/README.md": b"not this", "README": b"this"}, "this"),
        ({"README.md": b"\xef\xbb\xbfa\xffb\x00c"}, "a\ufffdbc"),
        ({"README.md": b"x" + "ü".encode() * MAX_README}, "x" + "ü" * (MAX_README // 2 - 1)),
        ({"README.md": b"\xff" * MAX_README}, "\ufffd" * (MAX_README // 3)),
    ],
)
@pytest.mark.parametrize("top", ["", "package/"])
def test_the_best_readme_is_found_and_decoded(look, files, readme, top):
    members = [member(f"{top}{name}", data) for name, data in {"synapse.json": SYNAPSE, **files}.items()]
    assert look(gzip.compress(tar(*members))).readme == readme


@pytest.mark.parametrize(
    "data", [b"", b"\x1f", b"PK\x03\x04", b"BZh9", SYNAPSE, tar(SYNAPSE_MEMBER), zlib.compress(SYNAPSE)]
)
def test_a_file_that_is_not_gzip_is_refused(refused, data):
    assert "not gzip" in refused(packed=data)


@pytest.mark.parametrize("data", [SYNAPSE * 20, b"x" * 512 * 3, b"\xff" * 512])
def test_content_that_is_not_tar_is_refused(refused, data):
    assert "not a tar" in refused(packed=gzip.compress(data))


@pytest.mark.parametrize(
    "data", [b"", b"x", bytes(512), SYNAPSE_MEMBER, SYNAPSE_MEMBER[:700], tar(SYNAPSE_MEMBER, end=bytes(512))]
)
def test_a_truncated_tar_is_refused(refused, data):
    assert "truncated" in refused(packed=gzip.compress(data))


@pytest.mark.parametrize("cut", [*range(1, 12), len(GOOD) // 2, len(GOOD) - 10])
def test_a_truncated_gzip_is_refused(refused, cut):
    assert "truncated" in refused(packed=GOOD[:-cut])


@pytest.mark.parametrize(("position", "message"), [(-8, "data check"), (-1, "length check"), (3, ""), (20, "")])
def test_a_damaged_gzip_is_refused(refused, position, message):
    damaged = bytearray(GOOD)
    damaged[position] ^= 0xFF
    assert message in refused(packed=bytes(damaged))


@pytest.mark.parametrize("garbage", [b"\x00", b"x", bytes(100_000), GOOD, gzip.compress(b"", mtime=0)])
def test_data_after_the_gzip_stream_is_refused(refused, garbage):
    assert "after its gzip stream" in refused(packed=GOOD + garbage)


@pytest.mark.parametrize("garbage", [b"x", bytes(10_000) + b"x", SYNAPSE_MEMBER])
def test_data_after_the_end_of_the_tar_is_refused(refused, garbage):
    assert "after its end" in refused(packed=gzip.compress(tar(SYNAPSE_MEMBER) + garbage))


def test_a_single_zero_block_is_not_the_end(refused):
    assert "after its end" in refused(packed=gzip.compress(tar(SYNAPSE_MEMBER, bytes(512), member("x"))))


def test_zeros_after_the_end_of_the_tar_are_padding(look):
    assert look(gzip.compress(tar(SYNAPSE_MEMBER, end=bytes(100_001)))).unpacked_size == 101_025


def test_a_damaged_member_header_is_refused(refused):
    damaged = member("x")[:100] + b"8" + member("x")[101:]
    assert "damaged member header" in refused(damaged)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (tarfile.SYMTYPE, "link"),
        (tarfile.LNKTYPE, "link"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.BLKTYPE, "device"),
        (tarfile.FIFOTYPE, "device"),
        (tarfile.GNUTYPE_SPARSE, "neither"),
        (b"V", "neither"),
        (b"M", "neither"),
        (b"\xff", "neither"),
    ],
)
def test_members_other_than_files_and_folders_are_refused(refused, kind, message):
    assert message in refused(member("x", kind=kind, linkname="synapse.json"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "empty"),
        ("/etc/passwd", "absolute"),
        ("C:/x", "absolute"),
        ("./c:x", "absolute"),
        ("..", ".."),
        ("../x", ".."),
        ("a/../../x", ".."),
        ("a/..", ".."),
        ("a\\..\\x", "backslash"),
        ("a\nb", "control"),
        ("a\x1b[2J", "control"),
        ("a\x7f", "control"),
        ("a\u0085", "control"),
        *[(f"a{chr(code)}b", "bidirectional") for code in (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F))],
        *[(f"a{chr(code)}b", "bidirectional") for code in range(0x2066, 0x206A)],
        (b"a\xff", "not UTF-8"),
        (b"a\xed\xa0\x80", "UTF-8"),
        ("a" * 1025, "1,024"),
    ],
)
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE])
def test_unsafe_names_are_refused(refused, name, message, kind):
    raw = name if isinstance(name, bytes) else name.encode()
    if len(raw) <= 100:
        assert message in refused(member(raw, kind=kind))
    assert message in refused(member("long", raw + b"\0", kind=b"L"), member("x", kind=kind))
    assert message in refused(pax(path=raw), member("x", kind=kind))


@pytest.mark.parametrize("name", [".", "./."])
def test_only_a_folder_may_be_the_root(look, refused, name):
    assert "no file name" in refused(member(name))
    assert look(gzip.compress(tar(SYNAPSE_MEMBER, member(name, kind=tarfile.DIRTYPE)))).member_count == 2


def test_a_pax_name_with_a_nul_is_refused(refused):
    assert "control" in refused(pax(path=b"a\x00b"), member("x"))


@pytest.mark.parametrize("size", ["9" * 20, "9" * 29, "-1", "x", "1.5", "", "0x10"])
def test_invalid_pax_sizes_are_refused(refused, size):
    assert refused(pax(size=size), member("x"))


def test_a_pax_size_must_equal_the_size_in_the_header(look, refused):
    assert look(gzip.compress(tar(pax(size="5") + member("x", b"hello"), SYNAPSE_MEMBER))).member_count == 2
    for size in (0, 4, 6):
        assert "two sizes" in refused(pax(size="5") + member("x", b"hello", size=size))


@pytest.mark.parametrize("size", [-1, -512, 2**40, 2**62])
def test_impossible_sizes_in_headers_are_refused(refused, size):
    assert refused(member("x", size=size))


EVIL = "../../tmp/evil.sh"


@pytest.mark.parametrize(
    ("extensions", "message"),
    [
        ((member("long", EVIL.encode() + b"\0", kind=b"L"), pax(path="harmless")), "two names"),
        ((pax(path="harmless"), member("long", EVIL.encode() + b"\0", kind=b"L")), "two names"),
        ((pax(path="same"), member("long", b"same\0", kind=b"L")), "two names"),
        ((pax(linkpath="a"), member("long", b"b\0", kind=b"K")), "two link targets"),
        ((member("long", b"b\0", kind=b"K"), pax(linkpath="a")), "two link targets"),
        ((pax(path="a"), member("pax", b"8 path=b\n", kind=b"X")), "two pax headers"),
    ],
)
def test_a_member_with_two_names_or_link_targets_is_refused(refused, extensions, message):
    assert message in refused(*extensions, member("x"))
    assert message in refused(*extensions, member("x", kind=tarfile.SYMTYPE, linkname="c"))


@pytest.mark.parametrize("magic", [b"ustar  \0", bytes(8)])
def test_a_name_prefix_that_only_some_programs_read_is_refused(refused, magic):
    header = bytearray(member("evil"))
    header[257:265] = magic
    header[345:348] = b"../"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    assert "two names" in refused(bytes(header))


@pytest.mark.parametrize("size", [b"0o5", b"1_0", b"+5", b"\x005", b"5\x00x", bytes(11), b" " * 11])
def test_sizes_that_only_some_programs_read_are_refused(refused, size):
    header = bytearray(member("x", b"hello"))
    header[124:136] = size.ljust(12, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    assert "damaged member header" in refused(bytes(header))


def test_a_pax_key_with_a_nul_is_refused(refused):
    record = b"path\0x=../evil\n"
    assert "damaged pax header" in refused(member("pax", b"%d " % (len(record) + 3) + record, kind=b"x"), member("x"))


def test_a_member_that_is_a_file_or_a_folder_depending_on_the_name_is_refused(refused):
    for name in (pax(path="x"), member("long", b"x\0", kind=b"L")):
        assert "folder by the other" in refused(name, member("x/", kind=tarfile.AREGTYPE))
    assert "folder by the other" in refused(pax(path="x/"), member("x", kind=tarfile.AREGTYPE))


@pytest.mark.parametrize("top", ["", "package/"])
@pytest.mark.parametrize("twin", ["Synapse.json", "SYNAPSE.JSON", "\u017fynapse.json"])
def test_two_manifests_whose_names_differ_by_case_are_refused(refused, top, twin):
    for names in ((twin, "synapse.json"), ("synapse.json", twin)):
        files = [member(f"{top}{name}", SYNAPSE) for name in names]
        detail = refused(packed=gzip.compress(tar(*files)))
        assert all(name in detail for name in names), detail


def test_readmes_whose_names_differ_by_case_are_accepted(look):
    files = [member(name, b"text") for name in ("README.md", "readme.md")]
    assert look(gzip.compress(tar(SYNAPSE_MEMBER, *files))).member_count == 3


@pytest.mark.parametrize(
    "names",
    [
        ["a", "a/b"],
        ["a/b", "a"],
        ["./a", "a!", "a-b", "a/b/c"],
        ["a/b/", "a"],
        ["a", "a/"],
        ["a", "a", "a/b"],
        [*(f"f{number}" for number in range(5000)), "f17/x"],
    ],
)
def test_a_name_used_for_a_file_and_a_folder_is_refused(refused, names):
    members = [member(name, kind=tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE) for name in names]
    assert "is a file" in refused(*members)


def test_names_that_only_begin_alike_do_not_conflict(look):
    names = ["a", "a!", "a.b", "a-b/c", "ab/c", "b/", "b/c", "c/d", "a", "b/c"]
    members = [member(name, kind=tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE) for name in names]
    assert look(gzip.compress(tar(SYNAPSE_MEMBER, *members))).member_count == len(names) + 1


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("docs/a:b", "reserved_character"),
        ("x?", "reserved_character"),
        ('src/"x".py', "reserved_character"),
        ("notes.", "trailing_dot_or_blank"),
        ("folder /x", "trailing_dot_or_blank"),
        ("aux.py", "reserved_name"),
        ("src/NUL", "reserved_name"),
        ("com1.tar.gz/x", "reserved_name"),
        ("lpt\u00b9", "reserved_name"),
        ("x" * 256, "long_name"),
        ("\u00fc" * 128, "long_name"),
    ],
)
def test_names_that_some_systems_can_not_unpack_get_a_warning(look, name, code):
    for path in (name, f"top/{name}"):
        found = look(gzip.compress(tar(SYNAPSE_MEMBER, pax(path=path), member("x")))).warnings
        assert [(each["code"], each["path"]) for each in found] == [(code, path)]
        assert found[0]["message"]


def test_portable_names_get_no_warning(look):
    names = [
        "x" * 255,
        "\u00fc" * 127,
        "auxiliary.py",
        ".hidden",
        "a b",
        "a..b",
        "com10",
        "conf",
        "console.log",
        "a'b(c)[d]",
    ]
    members = [part for name in names for part in (pax(path=name), member("x"))]
    assert look(gzip.compress(tar(SYNAPSE_MEMBER, *members))).warnings == []


def test_the_number_of_warnings_is_limited(look):
    found = look(gzip.compress(tar(SYNAPSE_MEMBER, *(member(f"{number}?") for number in range(1234))))).warnings
    assert len(found) == 101
    assert found[-1]["code"] == "more_warnings"
    assert "1,134" in found[-1]["message"]


def test_a_folder_with_content_is_refused(refused):
    assert "folder with content" in refused(member("x/", b"hello", kind=tarfile.DIRTYPE))
    assert "folder with content" in refused(pax(path="x/"), member("x", b"hello"))


@pytest.mark.parametrize("kind", [b"x", b"X", b"g", b"L", b"K"])
def test_the_size_and_number_of_extension_headers_are_limited(refused, kind):
    assert "1,048,576" in refused(member("x", size=2**20 + 1, kind=kind))
    assert "1,048,576" in refused(member("x", size=-1, kind=kind))
    assert "two" in refused(member("x", b"", kind=kind), member("x", b"", kind=kind), member("x"))
    assert "without its member" in refused(member("x", b"", kind=kind))


def test_the_total_size_of_extension_headers_is_limited(refused):
    padding = pax(comment="x" * 2**19)
    assert "33,554,432" in refused(*[padding + member("x")] * 64)


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"5 a=",
        b"9 a=b\n",
        b"3 a=b\n",
        b"0 a=b\n",
        b"6 a=bc\n",
        b"6 ab\n6 a=b\n",
        bytes(9),
        b"6 a=b\n" * 2,
        b"99999999999 a=b\n",
    ],
)
def test_damaged_pax_headers_are_refused(refused, data):
    assert "pax header" in refused(member("x", data, kind=b"x"), member("x"))


def test_sparse_files_and_global_names_are_refused(refused):
    for key in ("GNU_sparse_major", "SCHILY_realsize", "SUN_holesdata"):
        assert "sparse" in refused(pax(**{key: "1"}), member("x"))
    for record in (b"10 path=x\n", b"10 size=5\n", b"14 linkpath=x\n"):
        assert "global pax" in refused(member("x", record, kind=b"g"), member("x"))


def test_a_global_comment_as_git_archive_writes_it_is_accepted(look):
    comment = member("pax_global_header", b"52 comment=" + b"0" * 40 + b"\n", kind=b"g")
    assert look(gzip.compress(tar(comment, SYNAPSE_MEMBER))).member_count == 1


def test_too_many_members_are_refused(look, refused):
    assert look(gzip.compress(tar(SYNAPSE_MEMBER, *[member("x")] * 9)), max_members=10).member_count == 10
    assert "more than 10 members" in refused(*[member("x")] * 10, max_members=10)


def test_too_many_unpacked_bytes_are_refused(look, refused):
    whole = gzip.compress(tar(SYNAPSE_MEMBER))
    assert look(whole, max_unpacked=2048).unpacked_size == 2048
    assert "more than 2,047 bytes" in refused(packed=whole, max_unpacked=2047)


def test_the_ratio_is_limited_only_above_one_mebibyte(look, refused):
    assert look(gzip.compress(tar(SYNAPSE_MEMBER, member("zeros", bytes(900_000)))), max_ratio=100)
    assert "100 times" in refused(member("zeros", bytes(1_100_000)), max_ratio=100)


def bomb(path, unpacked, start):
    """Writes a gzip file of `start` and then zeros. It repeats one compressed mebibyte, because that is fast."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = deflate.compress(start) + deflate.flush(zlib.Z_FULL_FLUSH)
    block = deflate.compress(bytes(2**20)) + deflate.flush(zlib.Z_FULL_FLUSH)
    path.write_bytes(head + block * (unpacked >> 20))


@pytest.mark.parametrize(
    "start",
    [
        SYNAPSE_MEMBER,
        SYNAPSE_MEMBER + member("zeros", size=10 * 2**30)[:512],
        SYNAPSE_MEMBER + pax(size=str(99 * 2**20)) + member("zeros", size=99 * 2**20)[:512],
        member("synapse.json", size=99 * 2**20)[:512],
        member("README", size=99 * 2**20)[:512],
        member("x", size=2**30, kind=b"x")[:512],
    ],
    ids=["padding", "file", "pax", "manifest", "readme", "extension"],
)
def test_a_bomb_uses_little_memory(tmp_path, start):
    """The file unpacks to ten gibibytes of zeros. At most a hundred mebibytes of them are read."""
    path = tmp_path / "bomb.gz"
    bomb(path, 10 * 2**30, start)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidArchive, match=r"more than 1[\d,]+ bytes"):
            inspect(path, max_unpacked=100 * 2**20)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


def test_the_highest_possible_ratio_is_refused(refused):
    assert "1,000 times its size" in refused(packed=gzip.compress(tar(SYNAPSE_MEMBER, end=bytes(2**25)), 9))


@st.composite
def mutated(draw, original):
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        position = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 20))
        data[position : position + length] = draw(st.binary(max_size=20))
    return bytes(data)


def resum(data):
    """The tar with correct header checksums, so that mutated headers are not refused because of their checksum."""
    blocks = bytearray(data[: len(data) // 512 * 512])
    for start in range(0, len(blocks), 512):
        if blocks[start + 257 : start + 262] == b"ustar":
            blocks[start + 148 : start + 156] = b" " * 8
            blocks[start + 148 : start + 156] = b"%06o\0 " % sum(blocks[start : start + 512])
    return bytes(blocks)


MIXED = tar(
    pax(path="package/synapse.json", size=str(len(SYNAPSE))),
    member("x", SYNAPSE),
    member("long", b"package/README.md\0", kind=b"L"),
    member("x", b"# Hello"),
    member("package/src/", kind=tarfile.DIRTYPE),
)


@same_file
@given(
    st.binary(max_size=2000)
    | mutated(GOOD)
    | st.binary(max_size=3000).map(gzip.compress)
    | mutated(MIXED).map(gzip.compress)
    | mutated(MIXED).map(resum).map(gzip.compress)
)
def test_any_bytes_are_an_archive_or_a_named_error(tmp_path, data):
    path = tmp_path / "any"
    path.write_bytes(data)
    try:
        assert isinstance(inspect(path).manifest.members, dict)
    except (InvalidArchive, InvalidManifest) as refusal:
        refusal.detail.encode()


@same_file
@given(st.integers(0, 511), st.binary(min_size=1, max_size=12))
def test_tarfile_finds_the_same_manifest_in_every_accepted_archive(tmp_path, position, change):
    """The header is changed at random. If `inspect` accepts the archive, tarfile must find the same manifest."""
    header = bytearray(SYNAPSE_MEMBER)
    header[position : position + len(change)] = change
    path = tmp_path / "any"
    path.write_bytes(gzip.compress(resum(tar(bytes(header[: len(SYNAPSE_MEMBER)]), member("other", b"x" * 600)))))
    try:
        found = inspect(path)
    except (InvalidArchive, InvalidManifest):
        return
    with tarfile.open(path) as archive:
        assert len(archive.getmembers()) == found.member_count
        names = [info for info in archive if Path(info.name).name == "synapse.json"]
        assert [json.load(archive.extractfile(info)) for info in names] == [found.manifest.members]


def test_a_hundred_thousand_names_use_little_memory():
    tracemalloc.start()
    try:
        names = Names()
        for number in range(100_000):
            names.add(("folder", f"{number:060}"), is_file=True)
        names.raise_conflicts()
        assert tracemalloc.get_traced_memory()[1] < 24 * 2**20
    finally:
        tracemalloc.stop()
