"""The differences between two versions as pages."""

import pytest

from registry.contents import compare
from registry.contents.keys import COMPARER
from tests.client import Registry, tarball
from tests.pages.harmless import assert_harmless
from tests.pages.visitor import Visitor

OLD = {
    "same.txt": b"same\n",
    "gone.txt": b"1\n2\n",
    "code.py": b"".join(b"line %d\n" % number for number in range(1, 31)),
    "data.bin": bytes(10),
    "big.txt": b"a line of text\n" * 80_000,
}
NEW = {
    **{name: data for name, data in OLD.items() if name != "gone.txt"},
    "code.py": OLD["code.py"].replace(b"line 15\n", b"<script>hacked()</script>\n"),
    "data.bin": bytes(11),
    "big.txt": OLD["big.txt"] + b"x",
    "added.txt": b"new\n",
}
DIFF = "/packages/demo/1.0.0/diff/1.1.0"


async def publish(registry: Registry, *versions, **fields):
    """Publishes demo 1.0.0, 1.1.0 and so on with these files."""
    ada = await registry.user("ada")
    for number, files in enumerate(versions):
        version = f"1.{number}.0"
        more = {name: values[number] for name, values in fields.items()}
        manifest = {"name": "demo", "version": version, "description": "A demo", **more}
        await ada.publish("demo", version, data=tarball(manifest, files))


def file_of(page, path):
    [found] = [each for each in page.all(".diff-file") if each.find(".//bdi").text == path]
    return found


async def test_files_and_their_lines_are_compared(registry: Registry):
    await publish(registry, OLD, NEW)
    async with Visitor(registry.url) as visitor:
        page = await visitor.get(DIFF)
        assert_harmless(page.body.decode())
        names = [each.text for each in page.all(".diff-file bdi")]
        assert names == ["added.txt", "big.txt", "code.py", "data.bin", "gone.txt", "synapse.json"]
        rows = [
            [cell.text_content() for cell in row.cssselect("td")]
            for row in file_of(page, "code.py").cssselect("tbody tr")
        ]
        assert rows == [
            ["", "", "", "…"],
            ["12", "12", " ", "line 12"], ["13", "13", " ", "line 13"], ["14", "14", " ", "line 14"],
            ["15", "", "-", "line 15"], ["", "15", "+", "<script>hacked()</script>"],
            ["16", "16", " ", "line 16"], ["17", "17", " ", "line 17"], ["18", "18", " ", "line 18"],
        ]  # fmt: skip
        texts = {name: " ".join(file_of(page, name).text_content().split()) for name in names}
        assert texts["added.txt"].startswith("added.txt added +1 −0 1.1.0: Raw")
        assert texts["gone.txt"].startswith("gone.txt removed +0 −2 1.0.0: Raw")
        assert texts["data.bin"] == "data.bin The file is not text. 1.0.0: Raw 1.1.0: Raw"
        assert texts["big.txt"] == "big.txt The file has more than 1 MiB. 1.0.0: Raw 1.1.0: Raw"
        raw = await visitor.get(file_of(page, "gone.txt").cssselect("a")[0].get("href"))
        assert raw.body == b"1\n2\n"


async def test_fields_and_dependencies_are_compared(registry: Registry):
    await publish(
        registry, {}, {},
        description=["A <b>demo</b>", "Better"], license=["MIT", "MIT"], keywords=[["a"], ["a", "b"]],
        dependencies=[{"left": "^1", "kept": "*", "moved": "^1"}, {"right": "~2", "kept": "*", "moved": "^2"}],
    )  # fmt: skip
    async with Visitor(registry.url) as visitor:
        page = await visitor.get(DIFF)
        cells = page.texts(".changes tbody :is(th, td)")
        assert [cells[start : start + 3] for start in range(0, len(cells), 3)] == [
            ["Description", "A <b>demo</b>", "Better"],
            ["Keywords", "a", "a, b"],
            ["left removed", "^1", "none"],
            ["moved", "^1", "^2"],
            ["right added", "none", "~2"],
        ]
        assert page.link("moved") == "/packages/moved"


async def test_a_form_chooses_the_versions(registry: Registry):
    await publish(registry, {"x": b"1\n"}, {"x": b"2\n"}, {"x": b"3\n"})
    async with Visitor(registry.url) as visitor:
        page = await visitor.get("/packages/demo/1.2.0/diff")
        assert page.url.endswith("/packages/demo/1.1.0/diff/1.2.0")
        page = await visitor.get((await visitor.get("/packages/demo/1.2.0/files")).link("Compare with another version"))
        assert [each.get("value") for each in page.all("datalist option")] == ["1.2.0", "1.1.0", "1.0.0"]
        page = await visitor.send(page, "Compare", **{"from": "1.0.0", "to": "1.2.0"})
        assert page.url.endswith("/packages/demo/1.0.0/diff/1.2.0")
        assert [cell.text_content() for cell in file_of(page, "x").cssselect("tr.removed td")] == ["1", "", "-", "1"]
        reverse = await visitor.get("/packages/demo/1.2.0/diff/1.0.0")
        assert reverse.texts(".diff td") == page.texts(".diff td")
        await visitor.send(page, "Compare", status=404, **{"from": "1.0.0", "to": "9.9.9"})
        await visitor.send(page, "Compare", status=404, **{"from": "//evil.example/", "to": "é\n"})
        moved = await visitor.call("GET", "/packages/demo/1.0.0/diff?from=../../../login&to=//evil.example")
        assert moved.headers["Location"] == "/packages/demo/..%2F..%2F..%2Flogin/diff/%2F%2Fevil.example"
        await visitor.get("/packages/demo/1.0.0/diff/latest")
        assert (await visitor.get("/packages/demo/1.0.0/diff")).url.endswith(DIFF)


async def test_equal_versions_and_a_single_version_say_so(registry: Registry):
    await publish(registry, {"x": b"1\n"})
    async with Visitor(registry.url) as visitor:
        assert "There is nothing to compare yet." in (await visitor.get("/packages/demo/1.0.0/diff")).text
        assert "No file differs." in (await visitor.get("/packages/demo/1.0.0/diff/1.0.0")).text


async def test_more_than_300_files_are_listed_without_lines(registry: Registry):
    await publish(registry, {}, {f"f{number:03}": b"x\n" for number in range(compare.MAX_FILES)})
    async with Visitor(registry.url) as visitor:
        page = await visitor.get(DIFF)  # synapse.json is the 301st
        assert "The lines of this difference are not shown: more than 300 files differ." in page.text
        assert not page.all(".diff")
        assert len(page.all(".diff-file")) == compare.MAX_FILES
        assert page.all(".diff-file a")[0].get("href") == "/packages/demo/1.1.0/files/f000?raw=1"


async def test_more_than_20_000_lines_are_not_shown(registry: Registry):
    lines = b"".join(b"%d\n" % number for number in range(compare.MAX_LINES))
    await publish(registry, {}, {"x": lines[:-1]}, {"x": lines, "y": b"y\n"})
    async with Visitor(registry.url) as visitor:
        page = await visitor.get("/packages/demo/1.1.0/diff/1.2.0")
        assert page.all(".diff")
        page = await visitor.get("/packages/demo/1.0.0/diff/1.2.0")
        assert "The lines of this difference are not shown: more than 20,000 lines differ." in page.text
        assert not page.all(".diff")


async def test_texts_that_take_too_long_are_compared_as_a_whole(registry: Registry):
    slow = (b"".join(b"%d\n" % (number * factor % 150) for number in range(9_000)) for factor in (1, 7))
    await publish(registry, *({"slow": text, "quick": b"1\n" * number} for number, text in enumerate(slow, 1)))
    async with Visitor(registry.url) as visitor:
        page = await visitor.get(DIFF)
        assert "+1 −0" in file_of(page, "quick").text_content()
        assert len(file_of(page, "slow").cssselect("tr.removed")) > 8_000


async def test_a_comparison_is_made_once(registry: Registry, monkeypatch: pytest.MonkeyPatch):
    await publish(registry, {"x": b"1\n"}, {"x": b"2\n"})
    made = []
    comparer = registry.app[COMPARER]
    original = comparer._lines
    monkeypatch.setattr(comparer, "_lines", lambda *given: made.append(given) or original(*given))
    async with Visitor(registry.url) as visitor:
        for _ in range(3):
            assert (await visitor.get(DIFF)).all(".diff")
    assert len(made) == 1
