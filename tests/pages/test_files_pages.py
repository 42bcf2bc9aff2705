"""The files of a version as pages, and their bytes."""

import zlib

import pytest
from yarl import URL

from registry.pages.files.handlers import MAX_SHOWN, PER_PAGE
from tests.client import Registry, tarball
from tests.conftest import MakeRegistry
from tests.pages import hostile
from tests.pages.harmless import assert_harmless
from tests.pages.visitor import Visitor, signed_in

FILES = "/packages/demo/1.0.0/files"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>hacked()</script></svg>'
HTML = b"<!DOCTYPE html><script>hacked()</script><h1>Mine</h1>\n"
CODE = b'import os\n\n\ndef main() -> str:\n    return "<b>"\n'
ODD = "<img src=x onerror=hacked()>?raw=1#100%é.txt"
CONTENTS = {
    "README.md": b"# Demo\n",
    "src/main.py": CODE,
    "src/deep/er/x.txt": b"deep\n",
    "docs/logo.png": PNG,
    "docs/logo.svg": SVG,
    "fake.png": HTML,
    "page.html": HTML,
    "data.bin": bytes(200),
    "empty.txt": b"",
    "latin.txt": "Viele Grüße\n".encode("latin-1"),
    "wide.txt": "Grüße\n".encode("utf-16"),
    "long.txt": b"x" * 100_000,
    "lines.txt": b"\n" * 30_000,
    "limit.txt": b"a line of text\n" * (MAX_SHOWN // 15) + b"x" * (MAX_SHOWN % 15),
    "big.txt": b"a line of text\n" * (MAX_SHOWN // 15 + 1),
    "%2e%2e/%2fetc": b"1",
    ODD: b"odd\n",
}  # fmt: skip


def publishable(names: list[str]) -> list[str]:
    """The names that a tarball may have."""
    return [name for name in names if not set(name) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2069\u200e\u200f\\")]


@pytest.fixture
async def visitor(registry: Registry):
    ada = await registry.user("ada")
    await ada.publish("demo", data=tarball(files=CONTENTS))
    async with Visitor(registry.url) as browser:
        yield browser


async def test_folders_list_their_files_and_lead_to_them(visitor: Visitor):
    page = await visitor.get("/packages/demo/files")
    assert page.url.endswith(FILES)
    assert page.texts("tbody td:first-child")[:3] == ["%2e%2e (folder)", "docs (folder)", "src (folder)"]
    assert page.texts("tbody td:last-child")[2] == "2 files"
    assert page.heading == "demo"
    page = await visitor.get(page.link("src (folder)"))
    page = await visitor.get(page.link("deep (folder)"))
    page = await visitor.get(page.link("er (folder)"))
    page = await visitor.get(page.link("x.txt"))
    assert page.url.endswith(f"{FILES}/src/deep/er/x.txt")
    assert page.texts(".source .l") == ["deep"]
    assert page.texts(".breadcrumb li") == ["demo 1.0.0", "src", "deep", "er", "x.txt"]
    page = await visitor.get(page.link("src"))
    assert page.url.endswith(f"{FILES}/src")


async def test_source_code_has_colours_and_line_numbers(visitor: Visitor):
    page = await visitor.get(f"{FILES}/src/main.py")
    assert [each.get("id") for each in page.all(".source .l")] == ["L1", "L2", "L3", "L4", "L5"]
    assert page.texts(".source .kn") == ["import"]
    assert page.texts(".source .s2") == ['"<b>"']
    assert "48 B · 5 lines" in page.text.replace("\N{NO-BREAK SPACE}", " ")
    assert_harmless(page.body.decode())


async def test_raw_text_is_plain_text_without_rights(visitor: Visitor):
    page = await visitor.get(f"{FILES}/page.html")
    raw = await visitor.get(page.link("Raw"))
    assert raw.body == HTML
    assert raw.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert raw.headers["X-Content-Type-Options"] == "nosniff"
    assert raw.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert raw.headers["Cache-Control"] == "public, max-age=60"
    assert "Cookie" in raw.headers["Vary"]
    again = await visitor.get(page.link("Raw"), status=304, headers={"If-None-Match": raw.headers["ETag"]})
    assert again.body == b""


MEDIA_TYPES = {
    "docs/logo.png": "application/octet-stream",
    "docs/logo.svg": "text/plain; charset=utf-8",
    "fake.png": "text/plain; charset=utf-8",
    "data.bin": "application/octet-stream",
    "latin.txt": "text/plain; charset=windows-1252",
    "wide.txt": "text/plain; charset=utf-16",
    "big.txt": "text/plain; charset=utf-8",
    "empty.txt": "text/plain; charset=utf-8",
}


async def test_the_bytes_of_each_kind_are_text_or_a_download(visitor: Visitor):
    for path, media_type in MEDIA_TYPES.items():
        raw = await visitor.get(f"{FILES}/{path}?raw=1")
        assert raw.body == CONTENTS[path]
        assert raw.headers["Content-Type"] == media_type, path
        assert "sandbox" in raw.headers["Content-Security-Policy"]
        kind = "attachment" if media_type == "application/octet-stream" else "inline"
        assert raw.headers["Content-Disposition"] == f"{kind}; filename*=UTF-8''{path.rpartition('/')[2]}"
        head = await visitor.call("HEAD", f"{FILES}/{path}?raw=1")
        assert (head.status, head.body, head.headers.get("Content-Length", "0")) == (200, b"", str(len(raw.body)))


async def test_pictures_are_recognised_by_their_bytes(visitor: Visitor):
    page = await visitor.get(f"{FILES}/docs/logo.png")
    [picture] = page.all("main img")
    shown = await visitor.get(picture.get("src"))
    assert shown.body == PNG
    assert shown.headers["Content-Type"] == "image/png"
    assert shown.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in shown.headers["Content-Security-Policy"]
    for path in ("docs/logo.svg", "fake.png"):
        page = await visitor.get(f"{FILES}/{path}?picture=1")
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert not page.all("main img")
        assert "hacked()" in page.texts(".source")[0]


async def test_large_files_are_not_shown_but_linked(visitor: Visitor):
    page = await visitor.get(f"{FILES}/limit.txt")
    assert page.texts(".source")[0].startswith("a line of text a line")
    page = await visitor.get(f"{FILES}/big.txt")
    assert "This file is not shown: it has more than 1 MiB." in page.text
    assert not page.all(".source")
    assert page.link("Raw") == page.link("Open the raw file") == f"{FILES}/big.txt?raw=1"


async def test_files_that_are_no_text_say_so(visitor: Visitor):
    page = await visitor.get(f"{FILES}/data.bin")
    assert "This file is not text." in page.text
    assert page.link("Download the raw file") == f"{FILES}/data.bin?raw=1"
    assert "This file is empty." in (await visitor.get(f"{FILES}/empty.txt")).text


async def test_older_encodings_are_shown_and_named(visitor: Visitor):
    page = await visitor.get(f"{FILES}/latin.txt")
    assert "Viele Grüße" in page.text
    assert "Windows-1252, not UTF-8" in page.text
    assert "Grüße" in (await visitor.get(f"{FILES}/wide.txt")).text


async def test_long_lines_and_many_lines_stay_small(visitor: Visitor):
    page = await visitor.get(f"{FILES}/long.txt")
    assert len(page.all(".source .l")) == 1
    page = await visitor.get(f"{FILES}/lines.txt")
    assert page.all(".source .l") == []
    assert len(page.body) < 60_000


async def test_names_with_every_character_lead_to_their_files(visitor: Visitor):
    page = await visitor.get(FILES)
    assert_harmless(page.body.decode())
    page = await visitor.get(page.link(ODD))
    assert_harmless(page.body.decode())
    assert page.texts(".source .l") == ["odd"]
    assert page.all(".breadcrumb li")[-1].find(".//bdi").text == ODD
    assert (await visitor.get(page.link("Raw"))).body == b"odd\n"
    page = await visitor.get(f"{FILES}/%252e%252e")
    assert (await visitor.get((await visitor.get(page.link("%2fetc"))).link("Raw"))).body == b"1"


MISSING = (
    "nothing", "src/nothing", "../../../admin", "src/../README.md", "README.md/x", "//etc/passwd", "%00", "..%2f",
    "%ff",
)  # fmt: skip


async def test_hostile_names_are_harmless_and_lead_to_their_files(registry: Registry):
    names = publishable(hostile.file_names())[: PER_PAGE - 1]
    assert len(names) > 100
    ada = await registry.user("ada")
    await ada.publish("demo", data=tarball(files={name: name.encode() for name in names}))
    async with Visitor(registry.url) as visitor:
        page = await visitor.get(FILES)
        assert_harmless(page.body.decode())
        shown = {each.find("bdi").text: each.get("href") for each in page.all("tbody a")}
        assert set(shown) == {*names, "synapse.json"}
        for name in names[::9]:
            page = await visitor.get(shown[name])
            assert_harmless(page.body.decode())
            assert (await visitor.get(page.link("Raw"))).body == name.encode()


async def test_other_paths_are_not_found(visitor: Visitor, registry: Registry):
    for path in MISSING:
        async with registry.session.get(URL(f"{registry.url}{FILES}/{path}", encoded=True)) as answer:
            assert (answer.status, answer.content_type) == (404, "text/html"), path


async def test_a_long_folder_has_pages(registry: Registry):
    ada = await registry.user("ada")
    files = {f"many/{number:04}": b"" for number in range(PER_PAGE + 1)}
    await ada.publish("demo", data=tarball(files=files))
    async with Visitor(registry.url) as visitor:
        first = await visitor.get(f"{FILES}/many")
        second = await visitor.get(first.link("Next page"))
        assert len(first.all("tbody tr")) == PER_PAGE + 1  # with the folder above
        assert second.texts("tbody td:first-child")[1:] == [f"{PER_PAGE:04}"]
        assert (await visitor.get(second.link("Previous page"))).texts("tbody td") == first.texts("tbody td")
        for number in ("0", "99", "x", "-1", "9" * 30):
            await visitor.get(f"{FILES}/many?page={number}")


async def test_reading_files_counts_no_download(visitor: Visitor, registry: Registry):
    for path in ("", "/README.md", "/README.md?raw=1", "/docs/logo.png?picture=1", "/big.txt?raw=1"):
        await visitor.get(FILES + path)
    await registry.drain()
    found = await registry.call("GET", "/packages/demo")
    assert found.json["total_downloads"] == 0
    assert (await registry.call("GET", "/packages/demo/1.0.0/tarball")).status == 200
    await registry.drain()
    assert (await registry.call("GET", "/packages/demo")).json["total_downloads"] == 1


async def test_signed_in_users_get_files_that_nobody_keeps(registry: Registry):
    await (await registry.user("ada")).publish("demo", data=tarball(files=CONTENTS))
    async with await signed_in(registry, "ada") as visitor:
        for path in ("", "/README.md", "/README.md?raw=1"):
            assert (await visitor.get(FILES + path)).headers["Cache-Control"] == "no-store"


async def test_quarantined_deleted_and_private_files_are_closed(make_registry: MakeRegistry):
    registry = await make_registry()
    ada, grace = await registry.user("ada"), await registry.user("grace", admin=True)
    for name in ("demo", "gone"):
        await ada.publish(name, data=tarball(files=CONTENTS) if name == "demo" else None)
    await ada.call("DELETE", "/packages/gone/1.0.0")
    async with Visitor(registry.url) as visitor:
        await visitor.get("/packages/gone/1.0.0/files", status=404)
        await visitor.get("/packages/gone/files", status=404)
        await grace.call("PATCH", "/packages/demo", json={"quarantined": True, "reason": "Malware"})
        for path in ("", "/README.md", "/README.md?raw=1", "/docs/logo.png?picture=1"):
            assert b"Malware" in (await visitor.get(FILES + path, status=403)).body
    private = await make_registry(REGISTRY_ACCESS="private")
    async with Visitor(private.url) as visitor:
        for path in (
            FILES,
            f"{FILES}/README.md?raw=1",
            "/packages/nothing/1.0.0/files",
            "/packages/demo/1.0.0/diff/2.0.0",
        ):
            answer = await visitor.call("GET", path)
            assert answer.status == 303
            assert answer.headers["Location"].startswith("/login?next=")


async def test_a_damaged_tarball_is_told(registry: Registry, tmp_path):
    ada = await registry.user("ada")
    await ada.publish("demo", data=tarball(files={"x": zlib.compress(bytes(range(256)) * 40, 0)}))
    [blob] = [path for path in (tmp_path / "packages" / "blobs").rglob("*") if path.is_file()]
    data = bytearray(blob.read_bytes())
    data[30:60] = bytes(30)
    blob.chmod(0o600)
    blob.write_bytes(data)
    async with Visitor(registry.url) as visitor:
        page = await visitor.get(FILES, status=404)
        assert "The files of this version can't be shown." in page.text
