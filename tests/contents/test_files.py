import pytest

from registry.contents.files import BYTES, SNIFFED, TEXT, File, Listing, decoded, media_type_of

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


def listing(*paths):
    return Listing([File(path, 1, TEXT, 0, b"") for path in paths])


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (b"", TEXT),
        (b"plain\ttext\r\n", TEXT),
        ("Grüße 日本".encode(), TEXT),
        ("Grüße".encode("utf-16"), TEXT),
        ("Viele Grüße".encode("latin-1"), TEXT),
        (b"\x1b[31mred\x1b[0m", TEXT),
        (SVG, TEXT),
        (b"<html><script>alert(1)</script>", TEXT),
        (b"text with a NUL\0", BYTES),
        (bytes(range(128, 256)), BYTES),
        (b"\x7fELF\x02\x01\x01\0", BYTES),
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "image/webp"),
        (b"\0\0\0 ftypavif", "image/avif"),
    ],
)
def test_the_first_bytes_say_what_a_file_is(data, media_type):
    assert media_type_of(data, len(data)) == media_type


def test_a_character_may_be_cut_where_the_first_bytes_end():
    data = ("x" + "é" * SNIFFED).encode()
    assert media_type_of(data[:SNIFFED], len(data)) == TEXT
    # At the end of a file it is damaged, so the file is read in another encoding.
    assert decoded(b"x\xc3") == ("xÃ", "Windows-1252")


@pytest.mark.parametrize(
    ("data", "text", "encoding"),
    [
        ("Grüße".encode(), "Grüße", "UTF-8"),
        ("\ufeffGrüße".encode(), "Grüße", "UTF-8"),
        ("Grüße".encode("utf-16"), "Grüße", "UTF-16"),
        ("Grüße".encode("latin-1"), "Grüße", "Windows-1252"),
        (b"\x81", "\ufffd", "Windows-1252"),
    ],
)
def test_texts_in_older_encodings_are_decoded(data, text, encoding):
    assert decoded(data) == (text, encoding)


def test_folders_list_what_is_directly_in_them():
    files = listing("b.txt", "docs/a.md", "docs/deep/x", "docs/deep/y", "docs-old/z", "docs.md", "a")
    shown = [(each.name, each.count, each.file is None) for each in files.folder("")]
    assert shown == [
        ("docs", 3, True), ("docs-old", 1, True), ("a", 1, False), ("b.txt", 1, False), ("docs.md", 1, False),
    ]  # fmt: skip
    assert [each.name for each in files.folder("docs")] == ["deep", "a.md"]
    assert [each.file.path for each in files.folder("docs/deep")] == ["docs/deep/x", "docs/deep/y"]
    assert files.folder("docs/a.md") == files.folder("doc") == []
    assert files.has_folder("docs/deep")
    assert not files.has_folder("doc")


@pytest.mark.parametrize("path", ["", "../b", "docs", "docs/", "/docs/a.md", "docs/../b.txt", "z"])
def test_only_the_exact_path_finds_a_file(path):
    assert listing("b.txt", "docs/a.md").find(path) is None
    assert listing("b.txt", "docs/a.md").find("docs/a.md").path == "docs/a.md"
