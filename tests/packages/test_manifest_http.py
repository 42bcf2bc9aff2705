"""Unknown fields of a manifest don't break reads, and readers get the manifest's text as it was published."""

import json
from typing import Any

import orjson
import pytest

from registry.db.engine import Statement
from registry.keys import DB
from tests.client import Registry, User, tarball
from tests.packages.ways import WAYS, Way, value

HEAD = '{"name": "demo", "version": "1.0.0", "description": "About demo", "extra": '
EXTRAS = {
    "double": "1e30",
    "largest double": "1e308",
    "small doubles": "[" + ", ".join(["1e-300"] * 1000) + "]",
    "digits of a double": "[0.10, 1.000, -0.0, 1E+2, 12345.678901234567890123]",
    "whole numbers beyond 64 bits": "[18446744073709551616, -9223372036854775809, 123456789012345678901234567890]",
    "texts": r'["\u00fc\ud83d\ude00", "\u2028", "%s %(x)s", "\\", "\/"]',
    "blanks": '\t{ "a" :\r\n1 }\n',
    "depth": "[" * 98 + "]" * 98,
}


async def raw_version(registry: Registry, version: str = "1.0.0") -> bytes:
    answer = await registry.get(f"/packages/demo/{version}")
    assert answer.status == 200, answer.body
    return answer.body


async def read_everything(registry: Registry, owner: User, admin: User, seq: int) -> None:
    """Calls every route about the version `demo 1.0.0`. Fails unless a strict JSON parser can read each answer."""
    reads = [
        *("/packages/demo", "/packages/demo/1.0.0", "/packages/demo/latest", "/packages/demo/versions", "/packages"),
        *("/packages/demo/stats", "/stats", "/search/suggest?q=dem"),
        *(f"/search?q=demo&min_seq={seq}", f"/search?q=demo&versions=all&min_seq={seq}"),
    ]
    for path in reads:
        answer = await registry.get(path)
        assert answer.status == 200, (path, answer.body)
        orjson.loads(answer.body)
    for user, method, path, body in (
        (owner, "PATCH", "/packages/demo/1.0.0", {"yanked": True, "reason": "r"}),
        (owner, "PATCH", "/packages/demo/1.0.0", {"yanked": False}),
        (owner, "PATCH", "/packages/demo", {"deprecated": "text"}),
        (owner, "PATCH", "/packages/demo", {"deprecated": None}),
        (owner, "DELETE", "/packages/demo/1.0.0", None),
        (admin, "POST", "/packages/demo/1.0.0/restore", None),
        (admin, "GET", "/search/explain?q=demo&name=demo", None),
    ):
        answer = await user.call(method, path, **({} if body is None else {"json": body}))
        assert answer.status in (200, 204), (method, path, answer.body)
        if answer.status == 200:
            orjson.loads(answer.body)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_readers_get_the_manifest_as_it_was_published(registry: Registry, way: Way):
    ada, root = await registry.user("ada"), await registry.user("root", admin=True)
    for number, (kind, extra) in enumerate(EXTRAS.items()):
        version = f"1.0.{number}"
        text = HEAD.replace("1.0.0", version) + extra + "}"
        fields = {"name": "demo", "version": version, "description": "About demo"}
        data = tarball(text.encode())
        key = {"Idempotency-Key": f"key {number}"}
        first = await way(ada, fields, data, headers=key)
        assert first.status == 201, (kind, first.body)
        assert (await way(ada, fields, data, headers=key)).json == first.json
        assert (b'"manifest":' + text.encode()) in await raw_version(registry, version), kind
    await read_everything(registry, ada, root, first.json["seq"])


async def store_as_jsonb(registry: Registry, extra: str) -> None:
    """Stores the manifest of `demo 1.0.0` as an earlier release did."""
    async with registry.app[DB].transaction() as conn:
        sql = "UPDATE package_versions SET manifest = %(manifest)s, manifest_text = NULL WHERE version = '1.0.0'"
        assert await conn.run(Statement(sql, {}), manifest=HEAD + extra + "}") == 1


@pytest.mark.parametrize("kind", ["double", "largest double", "small doubles", "depth"])
async def test_a_manifest_stored_by_an_earlier_release_is_readable(registry: Registry, kind: str):
    ada, root = await registry.user("ada"), await registry.user("root", admin=True)
    seq = (await ada.publish("demo"))["seq"]
    await store_as_jsonb(registry, EXTRAS[kind])
    body = await raw_version(registry)
    assert json.loads(body)["manifest"] == json.loads(HEAD + EXTRAS[kind] + "}")
    assert len(body) < 2 * len(EXTRAS[kind]) + 2000
    await read_everything(registry, ada, root, seq)


async def test_an_earlier_release_can_read_what_this_one_publishes(registry: Registry):
    await (await registry.user()).publish("demo", extra=1e308)
    assert await value(registry, "SELECT manifest FROM package_versions") == {}


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("NaN", "NaN"),
        ("-Infinity", "Infinity"),
        ("1e309", "1.8e308"),
        ("9" * 5000, "1.8e308"),
        (r'"\ud800"', "surrogate"),
        (r'"\u0000"', "NUL"),
        ("[" * 101 + "]" * 101, "nested"),
    ],
)
async def test_json_that_some_parsers_can_not_read_is_refused(registry: Registry, extra: str, message: str):
    answer = await (await registry.user()).put("demo", "1.0.0", data=tarball((HEAD + extra + "}").encode()))
    assert (answer.status, answer.json["code"]) == (400, "invalid_manifest")
    assert message in answer.json["error"]


async def test_the_api_description_says_that_the_manifest_is_an_object(registry: Registry):
    spec: Any = (await registry.get(f"{registry.url}/openapi.json")).json
    assert spec["components"]["schemas"]["VersionInfo"]["properties"]["manifest"]["type"] == "object"
