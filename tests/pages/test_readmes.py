"""READMEs on the page of a package."""

import pytest

from registry.contents.keys import CONTENTS, WORKERS
from registry.errors import StorageUnavailable
from registry.rendering.process import NotRendered
from tests.client import Registry, tarball
from tests.conftest import MakeRegistry
from tests.pages import hostile
from tests.pages.harmless import assert_harmless
from tests.pages.visitor import Visitor

GIT = "https://git.example/demo"
FILES = "/packages/demo/1.0.0/files"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
CONTENTS_OF_DEMO = {
    "docs/guide one.md": b"# Guide\n",
    "docs/logo.png": PNG,
    "docs/logo.svg": b"<svg></svg>",
    "docs/fake.png": b"<script>hacked()</script>",
    "LICENSE": b"MIT\n",
}


async def readme_of(registry: Registry, text: str, repository: str = GIT):
    """The page of a package with this README."""
    files = {"README.md": text.encode(), **CONTENTS_OF_DEMO}
    manifest = {"name": "demo", "version": "1.0.0", "description": "A demo", "repository": repository}
    await (await registry.user("ada")).publish("demo", data=tarball(manifest, files))
    async with Visitor(registry.url) as visitor:
        return await visitor.get("/packages/demo")


def links(page) -> list[tuple[str, str]]:
    return [(each.text_content(), each.get("href")) for each in page.all(".prose a")]


async def test_relative_links_lead_to_the_files_of_the_version(registry: Registry):
    text = """
[guide](docs/guide%20one.md) [same](<./docs/guide one.md#part>) [top](/LICENSE) [folder](docs/) [all](.)
[gone](docs/gone.md) [gone too](/gone) [other](//evil.example/x) [back](docs/../LICENSE)
"""
    page = await readme_of(registry, text)
    assert links(page) == [
        ("guide", f"{FILES}/docs/guide%20one.md"),
        ("same", f"{FILES}/docs/guide%20one.md#part"),
        ("top", f"{FILES}/LICENSE"),
        ("folder", f"{FILES}/docs"),
        ("all", FILES),
        ("gone", GIT),
        ("gone too", GIT),
        ("other", GIT),
        ("back", f"{FILES}/LICENSE"),
    ]
    assert {each.get("rel") for each in page.all(".prose a")} == {"nofollow ugc noopener"}


async def test_links_that_climb_out_are_plain_text(registry: Registry):
    text = "[a](../x) [b](docs/../../x) [c](%2e%2e/x) [d](/../x) [e](..) [f](..%2fx)"
    page = await readme_of(registry, text)
    assert links(page) == []
    assert page.texts(".prose") == ["a b c d e f"]


@pytest.mark.parametrize("repository", ["", "git@git.example:demo.git"])
async def test_without_a_repository_missing_files_are_plain_text(registry: Registry, repository: str):
    page = await readme_of(registry, "[gone](gone.md) ![gone](gone.png) [here](LICENSE)", repository=repository)
    assert links(page) == [("here", f"{FILES}/LICENSE")]


async def test_pictures_of_the_tarball_are_shown(registry: Registry):
    text = "![logo](docs/logo.png) ![vector](docs/logo.svg) ![fake](docs/fake.png) <img src='docs/logo.png' width=40>"
    page = await readme_of(registry, text)
    pictures = page.all(".prose img")
    assert [(each.get("src"), each.get("alt"), each.get("width")) for each in pictures] == [
        (f"{FILES}/docs/logo.png?picture=1", "logo", None),
        (f"{FILES}/docs/logo.png?picture=1", "", "40"),
    ]
    assert links(page) == [("vector", f"{FILES}/docs/logo.svg"), ("fake", f"{FILES}/docs/fake.png")]
    async with Visitor(registry.url) as visitor:
        assert (await visitor.get(pictures[0].get("src"))).headers["Content-Type"] == "image/png"


async def test_the_policy_allows_pictures_of_the_hosts_that_the_operator_chose(make_registry: MakeRegistry):
    text = "![a](https://pictures.example/a.png) ![b](https://other.example/b.png)"
    registry = await make_registry(REGISTRY_IMAGE_HOSTS="pictures.example")
    page = await readme_of(registry, text)
    assert [each.get("src") for each in page.all(".prose img")] == ["https://pictures.example/a.png"]
    assert links(page) == [("b", "https://other.example/b.png")]
    assert "img-src 'self' data: https://pictures.example;" in page.headers["Content-Security-Policy"]
    strict = await make_registry()
    async with Visitor(strict.url) as visitor:
        page = await visitor.get("/packages/demo")
        assert not page.all(".prose img")
        assert "img-src 'self' data:;" in page.headers["Content-Security-Policy"]


async def test_headings_are_below_ours_and_have_prefixed_ids(registry: Registry):
    page = await readme_of(registry, "# Demo\n\n[down](#how-to)\n\n## How to\n\n<p id='main'>x</p>")
    assert page.heading == "demo"
    assert page.texts(".prose h2") == ["Demo"]
    assert page.texts(".prose h3") == ["How to"]
    [(_, target)] = links(page)
    assert page.texts(target) == ["How to"]
    assert [each.tag for each in page.all("#main")] == ["main"]


async def test_deep_texts_and_slow_texts_are_shown_as_they_are(registry: Registry):
    page = await readme_of(registry, ">" * 10_000 + "end")
    assert page.texts(".prose pre")[0].endswith(">>end")


async def test_without_a_renderer_the_text_is_shown(registry: Registry, monkeypatch: pytest.MonkeyPatch):
    async def refuse(*_: object, **__: object):
        raise NotRendered("busy", is_final=False)

    monkeypatch.setattr(registry.app[WORKERS], "call", refuse)
    page = await readme_of(registry, "# Demo <script>")
    assert page.texts(".prose pre") == ["# Demo <script>"]
    monkeypatch.undo()
    async with Visitor(registry.url) as visitor:
        page = await visitor.get("/packages/demo?again")
        assert page.texts(".prose h2") == ["Demo"]


async def test_a_tarball_that_cannot_be_read_now_leaves_the_text(registry: Registry, monkeypatch: pytest.MonkeyPatch):
    async def refuse(_row: object):
        raise StorageUnavailable("away")

    monkeypatch.setattr(registry.app[CONTENTS], "listing", refuse)
    page = await readme_of(registry, "# Demo\n\n[x](LICENSE)")
    assert page.texts(".prose pre") == ["# Demo [x](LICENSE)"]


async def test_hostile_readmes_are_harmless(registry: Registry):
    ada = await registry.user("ada")
    texts = hostile.readmes()
    for number in range(0, len(texts), 25):
        part = "\n\n".join(texts[number : number + 25])
        manifest = {"name": "demo", "version": f"1.{number}.0", "description": texts[number].replace("\0", "")[:200]}
        await ada.put("demo", f"1.{number}.0", data=tarball(manifest, {"README.md": part.encode("utf-8", "replace")}))
        async with Visitor(registry.url) as visitor:
            page = await visitor.get(f"/packages/demo/1.{number}.0")
            assert_harmless(page.body.decode())


async def test_markdown_files_have_a_preview(registry: Registry):
    guide = b"# Guide\n\n[up](../LICENSE) [beside](logo.png) [self](#guide) [out](../../x) <script>hacked()</script>\n"
    await (await registry.user("ada")).publish(
        "demo", data=tarball(files={"docs/guide.md": guide, "docs/logo.png": PNG, "LICENSE": b"MIT"})
    )
    async with Visitor(registry.url) as visitor:
        source = await visitor.get(f"{FILES}/docs/guide.md")
        page = await visitor.get(source.link("Preview"))
        assert_harmless(page.body.decode())
        assert page.texts(".prose h2") == ["Guide"]
        assert links(page) == [
            ("up", f"{FILES}/LICENSE"),
            ("beside", f"{FILES}/docs/logo.png"),
            ("self", "#readme-guide"),
        ]
        assert page.link("Source") == f"{FILES}/docs/guide.md"
        assert "Preview" not in (await visitor.get(f"{FILES}/LICENSE")).texts("main a")
