"""GET /changes: what it tells, page by page, and how it waits."""

import asyncio
import json
from typing import Any

import pytest

from registry.changes import chain, handlers, log
from registry.keys import DB
from tests.changes.events import append, sql
from tests.changes.reading import check_chain, linked, read_all
from tests.client import PASSWORD, Registry, User, sha256, tarball
from tests.conftest import MakeRegistry
from tests.until import until
from tests.web.shape import case, check_error

OWNERS = [
    {"username": "a-telling-name", "role": "owner"},
    {"username": "another-telling-name", "role": "maintainer"},
]


async def page(registry: Registry, query: str = "") -> Any:
    answer = await registry.get(f"/changes{query}")
    assert answer.status == 200, answer.body
    return answer.json


async def until_listening(registry: Registry, count: int = 1) -> None:
    feed = registry.app[handlers.FEED]
    await until(lambda: len(feed._listeners) == count)


async def live(registry: Registry) -> User:
    """Does everything with a package that the log tells. Returns the user who has it at the end."""
    ada = await registry.user("a-telling-name", admin=True)
    bob = await registry.user("another-telling-name")
    await ada.publish("demo", "1.0.0", data=tarball(name="demo", version="1.0.0"))
    for method, path, body in (
        ("PATCH", "/1.0.0", {"yanked": True, "reason": "Brok\u00e9n"}),
        ("PATCH", "/1.0.0", {"yanked": False}),
        ("PATCH", "", {"deprecated": True, "message": "Use other", "successor": "other"}),
        ("PATCH", "", {"deprecated": None}),
        ("DELETE", "/1.0.0", None),
        ("POST", "/1.0.0/restore", None),
        ("PATCH", "", {"quarantined": True, "reason": "Odd"}),
        ("PATCH", "", {"quarantined": False}),
        ("PUT", "/owners", {"owners": OWNERS, "reason": "a-telling-name"}),
        ("POST", "/transfer", {"username": "another-telling-name"}),
    ):
        answer = await ada.call(method, f"/packages/demo{path}", json=body)
        assert answer.status < 300, answer.body
    assert (await bob.call("POST", f"/auth/invitations/{answer.json['id']}/accept")).status < 300
    return bob


async def test_the_life_of_a_package_is_told_in_order(registry: Registry):
    await live(registry)
    found = await page(registry)
    told = found["changes"]
    data = tarball(name="demo", version="1.0.0")
    assert [(change["type"], change["version"], change["details"]) for change in told] == [
        ("package.created", None, {}),
        ("version.published", "1.0.0", {"checksum": sha256(data), "size": len(data)}),
        ("version.yanked", "1.0.0", {"reason": "Brok\u00e9n"}),
        ("version.unyanked", "1.0.0", {}),
        ("package.deprecated", None, {"message": "Use other", "successor": "other"}),
        ("package.undeprecated", None, {}),
        ("version.deleted", "1.0.0", {}),
        ("version.restored", "1.0.0", {}),
        ("package.quarantined", None, {"reason": "Odd"}),
        ("package.released", None, {}),
        ("package.owners_changed", None, {}),
        ("package.transferred", None, {}),
    ]
    assert {change["type"] for change in told} == set(chain.TYPES)
    for change in told:
        assert set(change) == {"seq", "at", "type", "package", "version", "details", "hash"}
        assert change["package"] == "demo"
        assert len(change["at"]) == len("2026-01-02T03:04:05.000000Z")
        assert change["at"].endswith("Z")
    check_chain(told)
    assert found["last_seq"] == found["next"] == told[-1]["seq"]


async def test_nobody_is_named_even_when_an_account_ends(registry: Registry):
    bob = await live(registry)
    assert (await bob.call("DELETE", "/packages/demo/1.0.0")).status == 204
    before = (await page(registry))["changes"]
    assert (await bob.call("DELETE", "/auth/me", json={"password": PASSWORD})).status == 204
    after = (await page(registry))["changes"]
    check_chain(after)
    assert after[: len(before)] == before
    assert "telling" not in json.dumps(after)


async def test_pages_follow_each_other_without_a_gap(registry: Registry):
    ada = await registry.user()
    for number in range(7):
        await ada.publish("demo", f"1.0.{number}")
    everything = (await page(registry))["changes"]
    assert await read_all(registry, limit=3) == everything
    first = await page(registry, "?limit=2")
    assert first["changes"] == everything[:2]
    assert (first["next"], first["last_seq"]) == (everything[1]["seq"], everything[-1]["seq"])
    rest = await page(registry, f"?since={first['next']}")
    assert rest["changes"] == everything[2:]
    last = await page(registry, f"?since={rest['next']}")
    assert last == {"changes": [], "last_seq": rest["next"], "next": rest["next"]}
    beyond = await page(registry, "?since=999999999999")
    assert beyond == {"changes": [], "last_seq": rest["next"], "next": 999999999999}


async def test_an_empty_log_is_an_empty_page(registry: Registry):
    assert await page(registry) == {"changes": [], "last_seq": 0, "next": 0}


async def test_an_unchanged_page_is_304(registry: Registry):
    await (await registry.user()).publish("demo")
    tag = (await registry.get("/changes")).headers["ETag"]
    assert (await registry.get("/changes", headers={"If-None-Match": tag})).status == 304


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("limit=0", ["limit"]),
        ("limit=1001", ["limit"]),
        ("since=-1", ["since"]),
        ("since=x&limit=&wait=61", ["since", "limit", "wait"]),
        ("wait=-1", ["wait"]),
        ("wait=1.5", ["wait"]),
        ("since=\u0663", ["since"]),
        (f"since={10**18}&wait=61", ["since", "wait"]),
    ],
)
async def test_wrong_parameters_are_named_all_at_once(registry: Registry, query: str, fields: list[str]):
    answer = await registry.get(f"/changes?{query}")
    check_error(answer, 400)
    assert [error["field"] for error in answer.json["errors"]] == fields


async def test_the_widest_parameters_are_taken(registry: Registry):
    await (await registry.user()).publish("demo")
    assert (await page(registry, "?since=0&limit=1000&wait=60"))["changes"]
    beyond = await page(registry, f"?since={10**18 - 1}")
    assert (beyond["changes"], beyond["next"]) == ([], 10**18 - 1)


async def test_a_waiting_request_is_answered_by_the_next_change(registry: Registry):
    ada = await registry.user()
    await ada.publish("demo", "1.0.0")
    before = await page(registry)
    waiting = [asyncio.create_task(page(registry, f"?since={before['next']}&wait=60")) for _ in range(5)]
    await until_listening(registry, 5)
    published = await ada.publish("demo", "1.0.1")
    for each in await asyncio.gather(*waiting):
        assert [change["seq"] for change in each["changes"]] == [published["seq"]]
        assert each["last_seq"] == each["next"] == published["seq"]
        check_chain(each["changes"], before["changes"][-1]["hash"])


async def test_a_waiting_request_ends_with_an_empty_page(registry: Registry):
    await (await registry.user()).publish("demo")
    head = (await page(registry))["next"]
    assert await page(registry, f"?since={head}&wait=1") == {"changes": [], "last_seq": head, "next": head}


async def test_a_waiting_request_hears_of_changes_in_another_process(make_registry: MakeRegistry):
    here, there = await make_registry(), await make_registry()
    waiting = asyncio.create_task(page(here, "?wait=60"))
    await until_listening(here)
    published = await (await there.user()).publish("demo")
    assert published["seq"] in [change["seq"] for change in (await waiting)["changes"]]


async def test_a_waiting_request_ends_when_the_process_stops(registry: Registry):
    waiting = asyncio.create_task(page(registry, "?wait=60"))
    await until_listening(registry)
    registry.app[handlers.FEED].close()
    assert (await waiting)["changes"] == []


async def test_events_that_are_no_changes_leave_holes(registry: Registry):
    db = registry.app[DB]
    await append(db)
    await append(db, type_="log.lost")
    await append(db, type_="package.renamed")
    await append(db)
    found = await page(registry)
    assert [change["seq"] for change in found["changes"]] == [1, 4]
    check_chain(found["changes"])
    await append(db, type_="log.lost")
    assert (await page(registry))["last_seq"] == 4


async def test_a_log_from_before_the_chain_is_chained_whoever_reads_first(make_registry: MakeRegistry):
    """Several processes chain the same events at once."""
    here, there = await make_registry(), await make_registry()
    await append(here.app[DB], 3 * log.BATCH * log.BATCHES_OF_READER, checksum="0" * 64, size=1)
    async with asyncio.timeout(60):
        while len(await read_all(here)) < 3 * log.BATCH * log.BATCHES_OF_READER:
            pass
    everything, again = await asyncio.gather(read_all(here), read_all(there))
    assert again == everything
    check_chain(everything)


async def test_many_publishes_at_once_give_one_chain(make_registry: MakeRegistry):
    here, there = await make_registry(), await make_registry()
    ada = await here.user()
    seen: dict[str, list[Any]] = {"here": [], "there": []}

    async def follow(name: str, registry: Registry, count: int) -> None:
        while len(seen[name]) < count:
            since = seen[name][-1]["seq"] if seen[name] else 0
            seen[name] += (await page(registry, f"?since={since}&wait=30"))["changes"]

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        published = [tasks.create_task(ada.publish(f"demo-{number}")) for number in range(30)]
        tasks.create_task(follow("here", here, 30))
        tasks.create_task(follow("there", there, 30))
    assert {task.result()["seq"] for task in published} <= {change["seq"] for change in await read_all(here)}
    everything = await read_all(here)
    check_chain(everything)
    for found in seen.values():
        assert found == everything[: len(found)]


async def test_the_hash_is_made_of_what_is_served(registry: Registry):
    """Also for texts that JSON libraries write in different ways, and a time without a fraction of a second."""
    db = registry.app[DB]
    insert = (
        "INSERT INTO events (seq, type, package, data, created_at) "
        "VALUES (1, 'version.published', 'demo', '{details}', '2026-01-02 03:04:05+00')"
    )
    details = {
        "reason": '\u20ac \U0001f600 \x7f \\ " / \u2028 <b>', "\U0001f600": "a name beyond the first plane",
        "\ufb33": "a name before it in RFC 8785, after it in UTF-8", "size": 2**53 - 1, "none": None, "yes": True,
    }  # fmt: skip
    assert await sql(db, insert.format(details=json.dumps(details))) == 1
    await append(db)
    first, second = (await page(registry))["changes"]
    assert first["at"] == "2026-01-02T03:04:05.000000Z"
    assert first["details"] == details
    with case(first):
        assert first["hash"] == linked("0" * 64, first)
    assert second["hash"] == linked(first["hash"], second)
