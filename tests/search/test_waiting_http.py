"""Waiting over HTTP until searches find a version."""

import asyncio

from tests.client import Registry
from tests.conftest import MakeRegistry, prompt_background
from tests.web.shape import case, check_error


async def test_the_answer_comes_when_searches_find_the_version(registry: Registry):
    ada = await registry.user("ada")
    await ada.publish("lantern")
    answer = await registry.get("/packages/lantern/1.0.0/wait?state=indexed&timeout=60")
    assert (answer.status, answer.json) == (200, {"name": "lantern", "version": "1.0.0", "state": "indexed"})
    found = await registry.get("/search?q=lantern")
    assert [result["name"] for result in found.json["results"]] == ["lantern"]
    assert (await registry.get("/packages/lantern/latest/wait?timeout=0")).json["version"] == "1.0.0"


async def test_it_is_504_until_then(make_registry: MakeRegistry):
    registry = await make_registry(with_background=False)
    ada = await registry.user("ada")
    await ada.publish("lantern")
    check_error(await registry.get("/packages/lantern/1.0.0/wait?timeout=0"), 504)
    waiting = asyncio.create_task(registry.get("/packages/lantern/1.0.0/wait?timeout=60"))
    async with prompt_background(registry.app):
        assert (await waiting).status == 200


async def test_without_elasticsearch_it_waits_until_postgresql_finds_the_text(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_ES_URL="", with_background=False)
    ada = await registry.user("ada")
    await ada.publish("lantern", description="Une météo pour la mer")
    check_error(await registry.get("/packages/lantern/1.0.0/wait?timeout=0"), 504)
    waiting = asyncio.create_task(registry.get("/packages/lantern/1.0.0/wait?timeout=60"))
    async with prompt_background(registry.app):
        assert (await waiting).status == 200
        found = await registry.get("/search?q=meteo")
    assert [result["name"] for result in found.json["results"]] == ["lantern"]


async def test_wrong_parameters_and_unknown_versions(registry: Registry):
    ada = await registry.user("ada")
    await ada.publish("lantern")
    for query in ("state=found", "timeout=61", "timeout=-1", "timeout=x"):
        with case(query):
            check_error(await registry.get(f"/packages/lantern/1.0.0/wait?{query}"), 400)
    check_error(await registry.get("/packages/lantern/2.0.0/wait"), 404)
    check_error(await registry.get("/packages/unknown/1.0.0/wait"), 404)
    assert (await registry.get("/packages/Lantern/1.0.0/wait")).status in (200, 301)
