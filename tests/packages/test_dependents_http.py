"""GET /packages/{name}/dependents: who depends on a package, by the latest versions, and for a range."""

from typing import Any

from tests.client import Registry, User
from tests.conftest import MakeRegistry
from tests.contracts.test_access import scoped
from tests.web.shape import case


async def dependents(
    registry: Registry, name: str = "base", query: str = "", **more: Any
) -> list[tuple[str, str, str]]:
    answer = await registry.get(f"/packages/{name}/dependents{query}", **more)
    assert answer.status == 200, answer.body
    return [(row["name"], row["version"], row["range"]) for row in answer.json["dependents"]]


async def fill(registry: Registry, **ranges: str) -> User:
    """Publishes `base` and a package for each range, which depends on it."""
    ada = await registry.user()
    await ada.publish("base")
    for name, text in ranges.items():
        await ada.publish(name, dependencies={"base": text})
    return ada


async def test_dependents_are_those_of_the_latest_versions(registry: Registry):
    ada = await fill(registry, left="^1.0.0", right="*")
    await ada.publish("left", "1.1.0", dependencies={"base": "^1.1.0", "elsewhere": "1"})
    await ada.publish("left", "2.0.0-rc.1", dependencies={"base": "^2.0.0"})
    assert await dependents(registry) == [("left", "1.1.0", "^1.1.0"), ("right", "1.0.0", "*")]
    # A newer version that needs it no more.
    await ada.publish("left", "1.2.0")
    assert await dependents(registry) == [("right", "1.0.0", "*")]
    # Yanking and deleting that version brings the older ones back.
    assert (await ada.call("PATCH", "/packages/left/1.2.0", json={"yanked": True})).status == 200
    assert await dependents(registry) == [("left", "1.1.0", "^1.1.0"), ("right", "1.0.0", "*")]
    assert (await ada.call("DELETE", "/packages/left/1.1.0")).status == 204
    assert await dependents(registry) == [("left", "1.0.0", "^1.0.0"), ("right", "1.0.0", "*")]
    for version in ("1.0.0", "1.2.0", "2.0.0-rc.1"):
        assert (await ada.call("DELETE", f"/packages/left/{version}")).status == 204
    assert await dependents(registry) == [("right", "1.0.0", "*")]
    answer = await registry.get("/packages/right/dependents")
    assert answer.json == {"dependents": [], "next_cursor": None, "limit": 20}


async def test_quarantined_dependents_are_left_out(registry: Registry):
    await fill(registry, left="1", right="1")
    root = await registry.user("root", admin=True)
    quarantine = {"quarantined": True, "reason": "Steals keys"}
    assert (await root.call("PATCH", "/packages/left", json=quarantine)).status == 200
    assert [row[0] for row in await dependents(registry)] == ["right"]
    assert (await root.call("PATCH", "/packages/left", json={"quarantined": False})).status == 200
    assert [row[0] for row in await dependents(registry)] == ["left", "right"]
    assert (await root.call("PATCH", "/packages/base", json=quarantine)).status == 200
    answer = await registry.get("/packages/base/dependents")
    assert (answer.status, answer.json["code"]) == (403, "quarantined")


async def test_names_that_differ_only_by_hyphens_and_underscores_are_one_package(registry: Registry):
    ada = await registry.user()
    await ada.publish("big-base")
    await ada.publish("left", dependencies={"big_base": "^1"})
    await ada.publish("right", dependencies={"big_base": "^1", "big-base": "^2"})
    assert await dependents(registry, "big-base") == [("left", "1.0.0", "^1"), ("right", "1.0.0", "^2")]
    answer = await registry.get("/packages/big_base/dependents?range=1")
    assert (answer.status, answer.headers["Location"]) == (301, "/api/v1/packages/big-base/dependents?range=1")


async def test_a_range_selects_the_dependents_that_accept_a_version_of_it(registry: Registry):
    await fill(registry, caret="^1.2.0", exact="3.0.0", old="<1.0.0", any_version="*", early="^2.0.0-beta.1")
    for text, names in {
        "1.2.3": ["any_version", "caret"],
        # Nobody has published these versions.
        ">=1.9 <2": ["any_version", "caret"],
        "0.x": ["any_version", "old"],
        "2.0.0-beta.4": ["early"],
        ">3": ["any_version"],
        "1 || 3": ["any_version", "caret", "exact"],
        ">1.0.0 <1.0.1": [],
        "": ["any_version", "caret", "early", "exact", "old"],
    }.items():
        with case(text):
            assert [row[0] for row in await dependents(registry, params={"range": text})] == names


async def test_bad_parameters_are_named(registry: Registry):
    await fill(registry)
    for field, value in (
        ("range", "one"), ("range", "1.x.3"), ("range", "1" * 257), ("range", "\u00a01"), ("cursor", "x"),
        ("limit", "0"),
    ):  # fmt: skip
        with case((field, value)):
            answer = await registry.get("/packages/base/dependents", params={field: value})
            assert answer.status == 400
            assert [error["field"] for error in answer.json["errors"]] == [field]
    assert (await registry.get("/packages/base/dependents?range=1&range=2")).status == 400
    assert (await registry.get("/packages/nothing/dependents")).status == 404


async def test_pages_continue_where_the_former_ended(registry: Registry, monkeypatch):
    names = [f"user-{number}" for number in range(7)]
    await fill(registry, **{name: "1" if number % 2 else "2" for number, name in enumerate(names)})

    async def walk(query: str) -> list[str]:
        seen, cursor = [], ""
        for _ in names:
            page = (await registry.get(f"/packages/base/dependents?limit=2{query}{cursor}")).json
            seen += [row["name"] for row in page["dependents"]]
            if page["next_cursor"] is None:
                return seen
            cursor = f"&cursor={page['next_cursor']}"
        raise AssertionError(seen)

    assert await walk("") == names
    assert await walk("&range=1") == names[1::2]
    # Pages that read only a part of the dependents.
    monkeypatch.setattr("registry.packages.dependencies.dependents.BATCH", 2)
    monkeypatch.setattr("registry.packages.dependencies.dependents.MAX_READ", 2)
    assert await walk("&range=1") == names[1::2]


async def test_a_private_registry_shows_a_bound_token_only_its_packages(make_registry: MakeRegistry):
    public = await make_registry()
    ada = await fill(public, left="1", right="1")
    bound = await scoped(ada, "read", packages=["base", "right"])
    private = await make_registry(REGISTRY_ACCESS="private")
    assert (await private.get("/packages/base/dependents")).status == 401
    assert [row[0] for row in await dependents(private, headers=ada.headers)] == ["left", "right"]
    for query in ("", "?range=1"):
        assert [row[0] for row in await dependents(private, "base", query, headers=bound)] == ["right"]
    assert [row[0] for row in await dependents(public, headers=bound)] == ["left", "right"]
