"""The documentation: guides, and the reference of the API from its description."""

import re
from pathlib import Path
from typing import Any

from registry.pages.docs.guides import LINKS
from tests.client import Registry
from tests.conftest import MakeRegistry
from tests.pages.visitor import Page, Visitor

DOCS = Path(__file__).parents[2] / "docs"


async def pages_of(registry: Registry, *paths: str, status: int = 200) -> list[Page]:
    async with Visitor(registry.url) as visitor:
        return [await visitor.get(path, status=status) for path in paths]


async def page(registry: Registry, path: str, status: int = 200) -> Page:
    [found] = await pages_of(registry, path, status=status)
    return found


def one(tree: Page | Any, selector: str) -> Any:
    [found] = tree.all(selector) if isinstance(tree, Page) else tree.cssselect(selector)
    return found


async def test_the_first_page_links_every_guide_and_every_operation(registry: Registry):
    spec = (await registry.get(f"{registry.url}/openapi.json")).json
    tree = await page(registry, "/docs")
    links = {link.get("href") for link in tree.all("main .listed a")}
    assert {link for link in links if "/api/" not in link} == {href for href in LINKS.values() if "/ci/" not in href}
    operations = {each["operationId"].replace("_", "-") for each in _operations(spec)}
    assert {link.partition("#")[2] for link in links if "/api/" in link} == operations
    for group in {link.partition("#")[0] for link in links if "/api/" in link}:
        anchors = {node.get("id") for node in (await page(registry, group)).all("section.operation")}
        assert anchors == {link.partition("#")[2] for link in links if link.startswith(f"{group}#")}
    assert "Problem" in one(tree, "#schema-problem").text_content()


def _operations(spec: dict) -> list[dict]:
    return [operation for operations in spec["paths"].values() for operation in operations.values()]


async def test_every_operation_shows_its_command_parameters_body_and_answers(registry: Registry):
    spec = (await registry.get(f"{registry.url}/openapi.json")).json
    groups = {
        tag["name"]: await page(registry, f"/docs/api/{tag['name'].lower().replace(' ', '-')}") for tag in spec["tags"]
    }
    for path, operations in spec["paths"].items():
        for method, operation in operations.items():
            tree = groups[operation["tags"][0]]
            section = one(tree, f"section#{operation['operationId'].replace('_', '-')}")
            text = section.text_content()
            assert path in text
            command = one(section, ".install code").text_content()
            assert command.startswith("curl ")
            assert (f"-X {method.upper()}" in command) == (method != "get"), command
            assert "{" not in command.partition(" -d ")[0].partition(" -H ")[0], command
            for parameter in operation["parameters"]:
                assert parameter["name"] in text
            for status in operation["responses"]:
                assert status in text
            for reference in re.findall(r"#/components/schemas/(\w+)", str(operation)):
                if reference != "Problem":
                    assert tree.all(f"#schema-{reference.lower()}"), (path, reference)


async def test_every_link_of_the_documentation_leads_somewhere(registry: Registry):
    seen, pending = {}, ["/docs"]
    while pending:
        path = pending.pop()
        tree = seen[path] = await page(registry, path)
        links = [link.get("href") for link in tree.all("main a")]
        local = {link.partition("#")[0] for link in links if link.startswith("/docs")}
        pending += [link for link in local if link not in seen and link not in pending]
    assert set(LINKS.values()) <= set(seen)
    for path, tree in seen.items():
        for link in tree.all("main a"):
            target, hash_sign, fragment = link.get("href").partition("#")
            if hash_sign and (not target or target.startswith("/docs")):
                assert seen[target or path].all(f'[id="{fragment}"]'), (path, link.get("href"))


async def test_a_guide_shows_its_document_and_the_address_of_this_registry(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_PUBLIC_URL="https://packages.test")
    tree = await page(registry, "/docs/tokens")
    assert one(tree, "h1").text_content() == "API tokens"
    assert [node.text_content() for node in tree.all("main h2")] == re.findall(
        "^## (.+)$", (DOCS / "tokens.md").read_text(), re.MULTILINE
    )
    assert "https://packages.test/api/v1/auth/me" in one(tree, "article").text_content()
    assert "registry.example" not in one(tree, "article").text_content()
    assert "https://packages.test" in (await page(registry, "/docs/ci/github.yml")).text
    assert "curl https://packages.test/api/v1/packages" in (await page(registry, "/docs/api/packages")).text


async def test_the_search_of_the_documentation_works_without_a_script(registry: Registry):
    tree = await page(registry, "/docs?q=TOKENS+report")
    assert one(tree, "#filter").get("value") == "TOKENS report"
    shown = [node.text_content() for node in tree.all(".listed li")]
    assert any("/auth/tokens/report" in text for text in shown)
    assert not any("/api/v1/search" in text for text in shown)
    tree = await page(registry, "/docs?q=%3Cscript%3Ezzz")
    assert tree.all(".listed li") == []
    assert "Nothing found." in one(tree, "main").text_content()


async def test_unknown_pages_of_the_documentation_are_pages_of_404(registry: Registry):
    for path in (
        "/docs/nothing",
        "/docs/api/nothing",
        "/docs/ci/nothing",
        "/docs/ci/..%2Ftokens.md",
        "/docs/architecture",
    ):
        tree = await page(registry, path, 404)
        assert len(tree.all("main h1")) == 1


async def test_strangers_read_the_documentation_of_a_private_registry(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_ACCESS="private")
    await (await registry.user()).publish("secret-thing", keywords=["tokens"])
    for path in ("/docs", "/docs?q=secret", "/docs/publishing", "/docs/api/packages", "/docs/ci/github.yml"):
        assert "secret-thing" not in (await page(registry, path)).body.decode()
