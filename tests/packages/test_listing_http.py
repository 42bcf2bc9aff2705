"""GET /packages: sorts, limits, offsets and cursors."""

import base64
import json

from registry.keys import DB
from tests.client import Registry

NAMES = ("a-b", "a_c", "ab", "a0", "z", "m-1", "m-10", "m-2")


async def fill(registry: Registry) -> None:
    ada = await registry.user()
    for name in NAMES:
        await ada.publish(name)


async def names(registry: Registry, query: str) -> list[str]:
    answer = await registry.get(f"/packages?{query}")
    assert answer.status == 200, answer.body
    return [item["name"] for item in answer.json["packages"]]


async def test_an_empty_registry_lists_nothing(registry: Registry):
    page = (await registry.get("/packages")).json
    assert page == {"packages": [], "results": [], "total": 0, "limit": 20, "offset": 0, "next_cursor": None}


async def test_a_listed_package_has_all_its_members(registry: Registry):
    ada = await registry.user()
    await ada.publish("demo", "1.0.0", license="MIT", keywords=["k"], author="Ada")
    await ada.publish("gone")
    await ada.call("DELETE", "/packages/gone/1.0.0")
    page = (await registry.get("/packages")).json
    assert page["total"] == 1
    [item] = page["packages"]
    assert page["results"] == [item]
    assert item.pop("created_at").endswith("Z")
    assert item.pop("updated_at").endswith("Z")
    assert item == {
        "name": "demo", "version": "1.0.0", "latest_version": "1.0.0", "description": "About demo", "author": "Ada",
        "license": "MIT", "keywords": ["k"], "downloads": 0, "total_downloads": 0, "deprecated": "",
        "deprecation": None, "yanked": False, "yank_reason": "",
    }  # fmt: skip


async def test_each_sort_has_its_order(registry: Registry):
    await fill(registry)
    ada = await registry.user()
    await ada.publish("z", "1.1.0")
    for name in ("m-2", "m-2", "ab"):
        await registry.get(f"/packages/{name}/latest/tarball")
    await registry.flush()
    assert await names(registry, "") == sorted(NAMES)
    assert await names(registry, "sort=name") == sorted(NAMES)
    assert await names(registry, "sort=recently-created") == list(NAMES[::-1])
    assert await names(registry, "sort=recently-updated") == ["z", *(name for name in NAMES[::-1] if name != "z")]
    assert await names(registry, "sort=downloads") == ["m-2", "ab", *sorted(set(NAMES) - {"m-2", "ab"})]
    for sort in ("", "relevance", "NAME", "x", "%00"):
        answer = await registry.get(f"/packages?sort={sort}")
        assert answer.status == 400, sort
        assert answer.json["errors"][0]["field"] == "sort"


async def test_limit_and_offset_select_a_page(registry: Registry):
    await fill(registry)
    assert await names(registry, "limit=3&offset=2") == sorted(NAMES)[2:5]
    assert await names(registry, "limit=003") == sorted(NAMES)[:3]
    page = (await registry.get("/packages?limit=3&offset=7")).json
    assert (page["total"], page["limit"], page["offset"], page["next_cursor"]) == (8, 3, 7, None)
    assert await names(registry, "offset=8") == []
    for large in ("101", "1000", "9" * 18, "9" * 30, "9" * 5000):
        assert (await registry.get(f"/packages?limit={large}")).json["limit"] == 100, large


async def test_an_invalid_limit_or_offset_is_400(registry: Registry):
    for text in ("", "-1", "+1", "1.0", "1e1", "0x1", "abc", "%20", "1%20", "%D9%A1", "%00", "null", "1,2"):
        for field in ("limit", "offset"):
            answer = await registry.get(f"/packages?{field}={text}")
            assert answer.status == 400, (field, text)
            assert answer.json["errors"][0]["field"] == field
    assert (await registry.get("/packages?limit=0")).status == 400
    both = (await registry.get("/packages?limit=x&offset=y")).json
    assert [error["field"] for error in both["errors"]] == ["limit", "offset"]


async def test_all_wrong_parameters_are_named_at_once(registry: Registry):
    for query, fields in (("limit=x&sort=y&cursor=z", ["limit", "sort"]), ("offset=-1&cursor=z", ["offset", "cursor"])):
        errors = (await registry.get(f"/packages?{query}")).json["errors"]
        assert [error["field"] for error in errors] == fields


async def test_the_error_for_a_large_offset_names_the_cursor(registry: Registry):
    assert (await registry.get("/packages?limit=1&offset=9999")).status == 200
    assert (await registry.get("/packages?limit=500&offset=9900")).status == 200
    for query in ("limit=2&offset=9999", "offset=9981", "offset=" + "9" * 40):
        answer = await registry.get(f"/packages?{query}")
        assert answer.status == 400, query
        assert "cursor" in answer.json["error"]


async def test_cursors_visit_every_package_once_in_each_sort(registry: Registry):
    await fill(registry)
    await registry.get("/packages/m-1/1.0.0/tarball")
    await registry.flush()
    async with registry.app[DB].transaction() as conn:
        await conn.command("UPDATE packages SET updated_at = '2025-01-01', created_at = '2025-01-01' WHERE name < 'm'")
    for sort in ("name", "downloads", "recently-updated", "recently-created"):
        whole = await names(registry, f"sort={sort}")
        for limit in (1, 3, 4, 8):
            walked: list[str] = []
            cursor: str | None = ""
            while cursor is not None:
                at = f"&cursor={cursor}" if cursor else ""
                page = (await registry.get(f"/packages?sort={sort}&limit={limit}{at}")).json
                assert page["packages"], (sort, limit, walked)
                walked += [item["name"] for item in page["packages"]]
                cursor = page["next_cursor"]
            assert walked == whole, (sort, limit)


async def test_a_cursor_keeps_its_position_when_packages_are_added(registry: Registry):
    await fill(registry)
    first = (await registry.get("/packages?limit=4")).json
    await (await registry.user()).publish("a-a")
    rest = await names(registry, f"cursor={first['next_cursor']}")
    assert rest == sorted(NAMES)[4:]


async def test_an_invalid_cursor_or_one_of_another_sort_is_400(registry: Registry):
    await fill(registry)
    other = (await registry.get("/packages?sort=downloads&limit=1")).json["next_cursor"]
    forged = [["name", 5], ["name", "x", 5], ["name", "x", "a\0b"], {}, [], "x", None, ["name", "x", "y", "z"]]
    texts = [base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=") for value in forged]
    for cursor in ("", "x", "!!!!", "%00", "%ED%A0%80", "é", "A" * 5000, other, *texts):
        answer = await registry.get(f"/packages?cursor={cursor}")
        assert answer.status == 400, cursor
        assert answer.json["errors"][0]["field"] == "cursor"
    for sort, value in (
        ("downloads", "5"), ("downloads", 1 << 70), ("downloads", True), ("downloads", None), ("downloads", 1.5),
        ("recently-updated", "yesterday"), ("recently-updated", 5), ("recently-created", "0001-01-01T00:00:00+99:00"),
    ):  # fmt: skip
        text = base64.urlsafe_b64encode(json.dumps([sort, value, "x"]).encode()).decode()
        answer = await registry.get(f"/packages?sort={sort}&cursor={text}")
        assert answer.status == 400, (sort, value)
        assert answer.json["errors"] == [{"field": "cursor", "message": "is not a cursor of this registry"}]
