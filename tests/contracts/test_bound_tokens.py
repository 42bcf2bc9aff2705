"""In a private registry, an API token that is bound to packages gets no information about other packages."""

from typing import Any

from tests.client import Answer, Registry, User, tarball
from tests.conftest import MakeRegistry
from tests.contracts.test_access import scoped
from tests.web.shape import case

READS = (
    "/packages/{name}", "/packages/{name}/versions", "/packages/{name}/1.0.0", "/packages/{name}/latest",
    "/packages/{name}/1.0.0/tarball", "/packages/{name}/latest/tarball", "/packages/{name}/stats",
    "/packages/{name}/badge/version.svg", "/packages/{name}/dependents",
)  # fmt: skip
WORDS = {"description": "Spectral analysis of starlight", "license": "MIT", "keywords": ["astronomy"]}
HIDDEN = ("spectral-dust", "spectral-gas")
SHOWN = "spectral-star"


async def fill(make_registry: MakeRegistry) -> tuple[User, dict[str, str]]:
    """Publishes one shown and two hidden packages. Returns their owner and headers of a token bound to the first."""
    public = await make_registry()
    ada, bob = await public.user("ada"), await public.user("bob")
    await ada.publish(SHOWN, author="ada", **WORDS)
    await ada.publish(HIDDEN[0], author="ada", **WORDS)
    await bob.publish(HIDDEN[1], author="zoe", **WORDS)
    await bob.publish(HIDDEN[1], "1.1.0", author="zoe", **{**WORDS, "description": "Spectral analysis of heliotropes"})
    for name in (SHOWN, HIDDEN[1], HIDDEN[1]):
        assert (await public.get(f"/packages/{name}/1.0.0/tarball")).status == 200
    await public.drain()
    return ada, await scoped(ada, "read", "publish", "yank", packages=[SHOWN])


def found(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.body
    return [row["name"] for row in answer.json["results"]]


async def test_another_package_is_read_as_one_that_does_not_exist(make_registry: MakeRegistry):
    ada, bound = await fill(make_registry)
    private = await make_registry(REGISTRY_ACCESS="private")

    async def read(path: str, name: str, headers: dict[str, str] = bound) -> Answer:
        return await private.get(path.format(name=name), headers=headers)

    for path in READS:
        with case(path):
            assert (await read(path, SHOWN)).status == 200
            # This puts the page into the cache. The bound token must not get it from there.
            assert (await read(path, HIDDEN[0], ada.headers)).status == 200
            answer, unknown = await read(path, HIDDEN[0]), await read(path, "spectral-void")
            assert (answer.status, unknown.status) == (404, 404)
            assert answer.json["detail"].replace(HIDDEN[0], "") == unknown.json["detail"].replace("spectral-void", "")
            assert (await read(path, HIDDEN[0].replace("-", "_"))).status == 404
            assert (await read(path, SHOWN.replace("-", "_"))).status == 301


async def test_another_package_is_changed_as_one_that_does_not_exist(make_registry: MakeRegistry):
    _, bound = await fill(make_registry)
    private = await make_registry(REGISTRY_ACCESS="private")
    for name in (HIDDEN[0], "spectral-void"):
        path = f"/packages/{name}"
        assert (await private.call("PATCH", path, json={"deprecated": "x"}, headers=bound)).status == 404
        assert (await private.call("PATCH", f"{path}/1.0.0", json={"yanked": True}, headers=bound)).status == 404
        assert (await private.call("DELETE", f"{path}/1.0.0", headers=bound)).status == 404
        put = {"data": tarball(name=name, version="3.0.0"), "headers": {**bound, "Content-Type": "application/gzip"}}
        assert (await private.call("PUT", f"{path}/3.0.0", **put)).status == 403


async def check_lists(private: Registry, ada: User, bound: dict[str, str], *, degraded: bool) -> None:
    everything = {SHOWN, *HIDDEN}

    async def get(path: str, headers: dict[str, str] = bound, **params: str) -> Answer:
        return await private.get(path, params=params, headers=headers)

    for params in ({}, {"versions": "all"}, {"sort": "downloads"}, {"sort": "name"}):
        with case(params):
            page = await get("/search", q="spectral", **params)
            assert found(page) == [SHOWN]
            assert (page.json["total"], page.json["degraded"]) == (1, degraded)
            assert set(found(await get("/search", ada.headers, q="spectral", **params))) == everything
    for q in ("spectral-gas", "heliotropes", "author:zoe", "spektral-gas"):
        with case(q):
            assert HIDDEN[1] not in str((await get("/search", q=q)).json)
    assert (await get("/search/suggest", q="spectral")).json["suggestions"] == [SHOWN]
    assert set((await get("/search/suggest", ada.headers, q="spectral")).json["suggestions"]) == everything


async def test_lists_and_searches_leave_other_packages_out(make_registry: MakeRegistry):
    ada, bound = await fill(make_registry)
    private = await make_registry(REGISTRY_ACCESS="private")
    await check_lists(private, ada, bound, degraded=False)
    faceted = (await private.get("/search", params={"q": "spectral", "facets": "true"}, headers=bound)).json
    assert faceted["facets"]["author"] == [{"value": "ada", "count": 1}]
    for sort in ("name", "downloads", "recently-updated", "recently-created"):
        page = await private.get("/packages", params={"sort": sort, "limit": "1"}, headers=bound)
        assert (found(page), page.json["total"], page.json["next_cursor"]) == ([SHOWN], 1, None)
        first = (await private.get("/packages", params={"sort": sort, "limit": "1"}, headers=ada.headers)).json
        rest = {"sort": sort, "cursor": first["next_cursor"]}
        assert set(found(await private.get("/packages", params=rest, headers=bound))) <= {SHOWN}


async def test_the_fallback_leaves_other_packages_out(make_registry: MakeRegistry):
    ada, bound = await fill(make_registry)
    private = await make_registry(REGISTRY_ACCESS="private", REGISTRY_ES_URL="http://127.0.0.1:9")
    await check_lists(private, ada, bound, degraded=True)


async def test_a_spelling_is_suggested_from_no_text_that_is_hidden(make_registry: MakeRegistry):
    ada, bound = await fill(make_registry)
    private = await make_registry(REGISTRY_ACCESS="private")
    misspelt = {"q": "heliotropas"}
    assert (await private.get("/search", params=misspelt, headers=ada.headers)).json["suggestion"] == "heliotropes"
    assert "suggestion" not in (await private.get("/search", params=misspelt, headers=bound)).json


async def test_another_package_is_explained_as_one_that_does_not_exist(make_registry: MakeRegistry):
    _, bound = await fill(make_registry)
    private = await make_registry(REGISTRY_ACCESS="private")

    async def explain(name: str) -> Any:
        answer = await private.get("/search/explain", params={"q": "spectral", "name": name}, headers=bound)
        return answer.json

    hidden, unknown = await explain(HIDDEN[1]), await explain("spectral-void")
    assert {**hidden, "name": ""} == {**unknown, "name": ""}
    shown = await explain(SHOWN)
    assert (shown["found"], shown["position"]) == (True, 1)


async def test_totals_count_only_the_packages_of_the_token(make_registry: MakeRegistry):
    ada, bound = await fill(make_registry)
    private = await make_registry(REGISTRY_ACCESS="private")
    stats = (await private.get("/stats", headers=bound)).json
    assert stats["packages"] == {"total": 1, "versions": 1, "downloads": 1}
    assert stats["top_packages"] == [{"name": SHOWN, "downloads": 1}]
    for params in ({"interval": "day"}, {"group_by": "client"}):
        of_all = (await private.get("/stats", params=params, headers=ada.headers)).json
        of_token = (await private.get("/stats", params=params, headers=bound)).json
        assert (of_all["series"]["downloads"], of_token["series"]["downloads"]) == (3, 1)


async def test_in_a_public_registry_a_bound_token_reads_what_a_stranger_may(make_registry: MakeRegistry):
    _, bound = await fill(make_registry)
    public = await make_registry()
    for path in READS:
        assert (await public.get(path.format(name=HIDDEN[1]), headers=bound)).status == 200, path
    assert len(found(await public.get("/packages", headers=bound))) == 3
    assert len(found(await public.get("/search?q=spectral", headers=bound))) == 3
