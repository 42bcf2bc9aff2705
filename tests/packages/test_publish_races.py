"""Concurrent and repeated publishes. One succeeds, and repeats with the same Idempotency-Key get the same answer."""

import asyncio
import re

import pytest

from registry.keys import DB
from registry.packages import sweep
from tests.client import Registry
from tests.packages.ways import Way, by_json, by_put, package, spooled, value


@pytest.mark.parametrize("way", [by_json, by_put])
async def test_one_of_twenty_identical_publishes_succeeds(registry: Registry, way: Way):
    ada = await registry.user()
    fields, data = package()
    answers = await asyncio.gather(*(way(ada, fields, data) for _ in range(20)))
    assert sorted(answer.status for answer in answers) == [201] + [409] * 19
    assert {answer.json["code"] for answer in answers if answer.status == 409} == {"version_exists"}
    assert await value(registry, "SELECT count(*) FROM package_versions") == 1
    assert await value(registry, "SELECT count(*) FROM events") == 2
    assert spooled(registry) == []


@pytest.mark.parametrize("way", [by_json, by_put])
async def test_concurrent_publishes_with_the_same_key_get_the_same_answer(registry: Registry, way: Way):
    ada = await registry.user()
    fields, data = package()
    headers = {"Idempotency-Key": "k1"}
    answers = await asyncio.gather(*(way(ada, fields, data, headers=headers) for _ in range(20)))
    assert {answer.status for answer in answers} == {201}
    assert all(answer.json == answers[0].json for answer in answers)
    assert all(answer.headers["Location"] == "/api/v1/packages/demo/1.0.0" for answer in answers)
    assert await value(registry, "SELECT count(*) FROM events") == 2


async def test_one_of_two_users_who_publish_a_name_at_once_owns_it(registry: Registry):
    users = [await registry.user(name) for name in ("ada", "eve")]
    for name in ("race-a", "race-b", "race-c"):
        answers = await asyncio.gather(*(user.put(name, "1.0.0") for user in users))
        assert sorted(answer.status for answer in answers) == [201, 403]
        winner = users[[answer.status for answer in answers].index(201)]
        assert (await registry.get(f"/packages/{name}")).json["owners"] == [winner.username]


async def test_one_of_two_spellings_published_at_once_exists(registry: Registry):
    ada = await registry.user()
    answers = await asyncio.gather(*(ada.put(name, "1.0.0") for name in ("a-b", "a_b")))
    assert sorted(answer.status for answer in answers) == [201, 409]


async def test_concurrent_publishes_of_many_versions_get_gapless_seqs(registry: Registry):
    ada = await registry.user()
    answers = await asyncio.gather(*(ada.put("demo", f"1.{minor}.0") for minor in range(15)))
    assert {answer.status for answer in answers} == {201}
    assert sorted(answer.json["seq"] for answer in answers) == list(range(2, 17))
    assert (await registry.get("/packages/demo")).json["latest_version"] == "1.14.0"


async def test_a_repeat_with_the_same_key_gets_the_first_answer(registry: Registry):
    ada = await registry.user()
    fields, data = package()
    headers = {"Idempotency-Key": "release 7/x"}
    first = await by_json(ada, fields, data, headers=headers)
    again = await by_json(ada, fields, data, headers=headers)
    assert first.status == again.status == 201
    assert first.json == again.json
    assert again.headers["Location"] == first.headers["Location"]
    other = await by_json(ada, {**fields, "description": "Other"}, data, headers=headers)
    assert (other.status, other.json["code"]) == (409, "idempotency_key_reused")
    await ada.call("DELETE", "/packages/demo/1.0.0")
    assert (await by_json(ada, fields, data, headers=headers)).json == first.json


async def test_keys_belong_to_one_user_and_expire_after_a_day(registry: Registry):
    ada, eve = await registry.user("ada"), await registry.user("eve")
    key = {"Idempotency-Key": "k"}
    await ada.publish("one", headers=key)
    await eve.publish("two", headers=key)
    async with registry.app[DB].transaction() as conn:
        await conn.command("UPDATE idempotency_keys SET created_at = now() - interval '25 hours'")
    assert (await ada.put("one", "1.0.0", headers=key)).status == 409
    await ada.publish("one", "2.0.0", headers=key)
    assert (await ada.put("one", "2.0.0", headers=key)).status == 201
    assert await sweep.forget_answers(registry.app[DB]) == 1


async def test_only_one_of_different_uploads_with_the_same_key_succeeds(registry: Registry):
    ada = await registry.user()
    key = {"Idempotency-Key": "k"}
    answers = await asyncio.gather(*(ada.put(f"pkg-{n}", "1.0.0", headers=key) for n in range(8)))
    assert sorted(answer.status for answer in answers) == [201] + [409] * 7
    assert {answer.json["code"] for answer in answers if answer.status == 409} == {"idempotency_key_reused"}
    assert await value(registry, "SELECT count(*) FROM packages") == 1


async def test_an_invalid_key_is_400(registry: Registry):
    ada = await registry.user()
    for key in ("", "x" * 256, "é", "tab\there"):
        answer = await ada.put("demo", "1.0.0", headers={"Idempotency-Key": key})
        assert answer.status == 400, key
        assert answer.json["errors"][0]["field"] == "Idempotency-Key"


async def test_the_documented_pattern_of_a_key_matches_the_keys_that_are_accepted(registry: Registry):
    ada = await registry.user()
    spec = (await registry.get("/openapi.json")).json
    parameters = spec["paths"]["/api/v1/packages"]["post"]["parameters"]
    [schema] = [each["schema"] for each in parameters if each["name"] == "Idempotency-Key"]
    for number, (key, accepted) in enumerate((("k", True), ("release 7/x", True), ("!~", True), ("\u00e9", False))):
        answer = await ada.put("demo", f"1.0.{number}", headers={"Idempotency-Key": key})
        assert (answer.status == 201) == accepted, key
        assert bool(re.search(schema["pattern"], key)) == accepted, key


@pytest.mark.parametrize(
    ("table", "constraint", "code"),
    [
        ("package_versions", "package_versions_canonical_key", "version_exists"),
        ("packages", "packages_name_key", "name_too_similar"),
        ("packages", "packages_similarity_key_key", "name_too_similar"),
    ],
)
async def test_a_violated_constraint_becomes_a_named_error(registry: Registry, table: str, constraint: str, code: str):
    """The trigger simulates another publish that commits between the check and the insert."""
    ada = await registry.user()
    async with registry.app[DB].transaction() as conn:
        await conn.command(f"""
            CREATE FUNCTION lose_the_race() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE unique_violation USING CONSTRAINT = '{constraint}'; END $$;
            CREATE TRIGGER lose_the_race BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION lose_the_race()
        """)
    answer = await ada.put("demo", "1.0.0")
    assert (answer.status, answer.json["code"]) == (409, code)
    assert await value(registry, "SELECT count(*) FROM package_versions") == 0
