"""Bodies of uploads: parts, sizes, types, early refusals and disconnecting clients. Also the dry run."""

import asyncio
import base64
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from registry.keys import SETTINGS
from tests.client import API, Registry, tarball
from tests.conftest import MakeRegistry
from tests.packages.ways import (
    WAYS,
    Way,
    by_json,
    by_put,
    form,
    metadata_part,
    package,
    spooled,
    stored,
    tarball_part,
)
from tests.until import until

GZIP = {"Content-Type": "application/gzip"}
NOTHING = (0, 0, 0, 0)


@asynccontextmanager
async def connection(registry: Registry) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", registry.app[SETTINGS].web.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def head_of(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(10):
        return await reader.readuntil(b"\r\n\r\n")


def put_head(token: str, *headers: str, name: str = "demo") -> bytes:
    lines = [f"PUT {API}/packages/{name}/1.0.0 HTTP/1.1", "Host: x", "Content-Type: application/gzip", *headers]
    return "\r\n".join([*lines, *([f"Authorization: Bearer {token}"] if token else []), "", ""]).encode()


async def test_form_parts_may_come_in_any_order(registry: Registry):
    ada = await registry.user()
    for name, turn in (("first", 1), ("second", -1)):
        fields, data = package(name, license="MIT")
        parts = [metadata_part(fields), tarball_part(data)][::turn]
        answer = await ada.call("POST", "/packages", data=form(*parts))
        assert answer.status == 201, answer.body
        assert (await registry.get(f"/packages/{name}/1.0.0")).json["license"] == "MIT"
    assert spooled(registry) == []


async def test_a_form_with_a_missing_or_repeated_part_is_400(registry: Registry):
    ada = await registry.user()
    fields, data = package()
    meta, file = metadata_part(fields), tarball_part(data)
    for parts in ((meta,), (file,), (meta, meta, file), (meta, file, file), (meta, file, ("x", b"", "text/plain"))):
        answer = await ada.call("POST", "/packages", data=form(*parts))
        assert answer.status == 400, parts
        assert answer.json["errors"]
    bare = await ada.call("POST", "/packages", data=form(metadata_part({"name": "demo"})))
    assert {error["field"] for error in bare.json["errors"]} == {"tarball", "version", "description"}
    assert await stored(registry) == NOTHING
    assert spooled(registry) == []


async def test_a_malformed_form_is_400(registry: Registry):
    ada = await registry.user()
    whole = b"".join(
        [
            b'--b\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n',
            json.dumps(package()[0]).encode(),
            b'\r\n--b\r\nContent-Disposition: form-data; name="tarball"; filename="x"\r\n\r\n',
            package()[1],
            b"\r\n--b--\r\n",
        ]
    )
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    junk = [whole[:cut] for cut in (0, 1, 3, 20, 80, 150, len(whole) - 40, len(whole) - 8)]
    junk += [
        whole.replace(b"\r\n\r\n{", b"\r\n" + line + b"\r\n\r\n{") for line in (b"X", b": y", b" z", b"X: \0", b"\0")
    ]
    junk += [whole.replace(b'name="metadata"', b'name="\xff\x00"'), whole.replace(b"--b\r\n", b"--c\r\n")]
    junk += [whole.replace(b'name="tarball"', b"Content-Length: x"), b"--b--", os.urandom(3000)]
    junk += [whole.replace(b"\r\n\r\n{", b"\r\nContent-Transfer-Encoding: base64\r\n\r\n{")]
    junk += [whole.replace(b"\r\n\r\n{", b"\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n{")]
    for number, body in enumerate(junk):
        answer = await ada.call("POST", "/packages", data=body, headers=kind)
        assert answer.status == 400, (number, answer.status, answer.body)
    for other in ("multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=" + "x" * 80):
        assert (await ada.call("POST", "/packages", data=whole, headers={"Content-Type": other})).status == 400
    assert await stored(registry) == NOTHING
    assert spooled(registry) == []
    assert (await ada.call("POST", "/packages", data=whole, headers=kind)).status == 201


COUNT_STORED_WARNINGS = """
import aiohttp.multipart
import registry.packages.upload
for number in range(100):
    for header in ("form-data; {}", "form-data; a[{}]=b", "form-data; name={};;", "a b{}", 'form-data; name="{}'):
        aiohttp.multipart.parse_content_disposition(header.format(number))
print(len([key for key in vars(aiohttp.multipart).get("__warningregistry__", {}) if key != "version"]))
"""


def test_warnings_about_part_headers_use_no_memory():
    """Each warning that is shown uses memory forever. The test starts a process, because pytest changes the filters."""
    finished = subprocess.run(
        [sys.executable, "-c", COUNT_STORED_WARNINGS], capture_output=True, text=True, timeout=60, check=True
    )
    assert (finished.stdout, finished.stderr) == ("0\n", "")


async def test_another_content_type_is_415(registry: Registry):
    ada = await registry.user()
    fields, data = package()
    body = json.dumps({**fields, "tarball": base64.b64encode(data).decode()}).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/gzip", "multipart/mixed; boundary=b"):
        answer = await ada.call("POST", "/packages", data=body, headers={"Content-Type": kind})
        assert (answer.status, answer.json["code"]) == (415, "unsupported_media_type"), kind
    malformed = ("", ";;;", "gzip", "/", "application/gzip/x", "application/gzip, text/plain", '"application/gzip"')
    for kind in ("application/json", "text/plain", "multipart/form-data; boundary=b", *malformed):
        answer = await ada.put("demo", "1.0.0", data=data, headers={"Content-Type": kind})
        assert (answer.status, answer.json["code"]) == (415, "unsupported_media_type"), kind
    encoded = await ada.put("demo", "1.0.0", data=data, headers={"Content-Encoding": "gzip"})
    assert encoded.status == 415
    assert await stored(registry) == NOTHING


async def test_a_tarball_over_the_limit_is_413_for_every_kind_of_body(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_MAX_TARBALL="2000")
    ada = await registry.user()
    fields, small = package()
    large = tarball(fields, {"noise": os.urandom(3000)})
    for way in WAYS.values():
        answer = await way(ada, fields, large)
        assert (answer.status, answer.json["code"]) == (413, "too_large")
    assert await stored(registry) == NOTHING
    assert spooled(registry) == []
    exact = tarball(fields, {"noise": os.urandom(2000 - len(small) - 200)})
    assert len(exact) <= 2000
    assert (await by_put(ada, fields, exact)).status == 201


async def test_a_tarball_of_exactly_the_limit_is_accepted(make_registry: MakeRegistry):
    fields, data = package()
    registry = await make_registry(REGISTRY_MAX_TARBALL=str(len(data)))
    ada = await registry.user()
    assert (await by_put(ada, fields, data + b"x")).status == 413
    assert (await by_json(ada, fields, data + b"x")).status == 413
    assert (await by_put(ada, fields, data)).status == 201


async def test_a_declared_length_over_the_limit_is_413_before_the_body_is_sent(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_MAX_TARBALL="2000")
    ada = await registry.user()
    async with connection(registry) as (reader, writer):
        writer.write(put_head(ada.token, "Content-Length: 2001"))
        assert (await head_of(reader)).startswith(b"HTTP/1.1 413")


async def test_a_chunked_body_over_the_limit_is_413_before_its_end(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_MAX_TARBALL="2000")
    ada = await registry.user()
    async with connection(registry) as (reader, writer):
        writer.write(put_head(ada.token, "Transfer-Encoding: chunked") + b"7d1\r\n" + b"x" * 2001 + b"\r\n")
        assert (await head_of(reader)).startswith(b"HTTP/1.1 413")
    await until(lambda: not spooled(registry))


async def test_metadata_over_a_mebibyte_is_413(registry: Registry):
    ada = await registry.user()
    fields, data = package()
    large = metadata_part({**fields, "readme": "x" * (1 << 20)})
    assert (await ada.call("POST", "/packages", data=form(large, tarball_part(data)))).status == 413


async def test_json_fields_over_a_mebibyte_are_413(registry: Registry):
    ada = await registry.user()
    fields, data = package()
    for more in ("x" * (1 << 20), [[]] * (1 << 19), {"": [{"x": 1}] * (1 << 18)}):
        answer = await by_json(ada, {**fields, "more": more}, data)
        assert (answer.status, answer.json["code"]) == (413, "too_large")
    assert spooled(registry) == []


async def test_line_breaks_and_escapes_in_base64_do_not_count_as_fields(registry: Registry):
    ada = await registry.user()
    fields, _ = package()
    encoded = base64.encodebytes(tarball(fields, {"noise": os.urandom(30 << 20)})).decode()
    body = json.dumps({**fields, "tarball": encoded}).replace("/", "\\/").encode()
    assert len(body) - len(encoded) > 1 << 20
    headers = {"Content-Type": "application/json"}
    assert (await ada.call("POST", "/packages", data=body, headers=headers)).status == 201


async def test_401_and_403_are_sent_before_the_body_is_read(registry: Registry):
    ada = await registry.user()
    made = await ada.call("POST", "/auth/tokens", json={"name": "t", "scopes": ["read"]})
    for token, status in (("", b"401"), ("junk", b"401"), (made.json["token"], b"403")):
        async with connection(registry) as (reader, writer):
            writer.write(put_head(token, "Content-Length: 1000000") + b"x")
            assert (await head_of(reader)).split()[1] == status


async def test_100_continue_is_sent_only_if_the_body_is_accepted(registry: Registry):
    ada = await registry.user()
    data = package()[1]
    for head, status in (
        (put_head("", f"Content-Length: {len(data)}", "Expect: 100-continue"), b"401"),
        (put_head(ada.token, "Content-Length: 999999999", "Expect: 100-continue"), b"413"),
        (put_head(ada.token, "Content-Length: 5", "Expect: 100-continue", name="Bad"), b"400"),
    ):
        async with connection(registry) as (reader, writer):
            writer.write(head)
            assert (await head_of(reader)).split()[1] == status
    async with connection(registry) as (reader, writer):
        writer.write(put_head(ada.token, f"Content-Length: {len(data)}", "Expect: 100-Continue"))
        assert (await head_of(reader)).startswith(b"HTTP/1.1 100")
        writer.write(data)
        assert (await head_of(reader)).startswith(b"HTTP/1.1 201")


async def test_http_1_0_gets_no_100_continue(registry: Registry):
    """RFC 9110, 10.1.1."""
    ada = await registry.user()
    data = package()[1]
    head = put_head(ada.token, f"Content-Length: {len(data)}", "Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0")
    async with connection(registry) as (reader, writer):
        writer.write(head + data)
        assert (await head_of(reader)).split()[1] == b"201"


async def test_nothing_is_stored_if_the_client_disconnects_during_the_upload(registry: Registry):
    ada = await registry.user()
    body = b"x" * 3_000_000
    async with connection(registry) as (_, writer):
        writer.write(put_head(ada.token, "Content-Length: 9000000") + body)
        await writer.drain()
        await until(lambda: bool(spooled(registry)))
    await until(lambda: not spooled(registry))
    assert await stored(registry) == NOTHING


async def test_a_dry_run_stores_nothing(registry: Registry):
    ada = await registry.user()
    fields, data = package()
    for way in WAYS.values():
        answer = await way(ada, fields, data, query="?dry_run=true", headers={"Idempotency-Key": "k"})
        assert answer.status == 200, answer.body
        assert answer.json["success"] is True
        assert answer.json["dry_run"] is True
        assert answer.json["package"]["name"] == "demo"
    assert await stored(registry) == NOTHING
    assert spooled(registry) == []
    assert (await registry.get("/packages/demo")).status == 404
    assert (await by_put(ada, fields, data, headers={"Idempotency-Key": "k"})).status == 201


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_a_dry_run_gives_the_same_errors_as_a_publish(registry: Registry, way: Way):
    ada, eve = await registry.user("ada"), await registry.user("eve")
    await ada.publish("taken-name")
    before = await stored(registry)
    for user, name, status, code in (
        (ada, "taken-name", 409, "version_exists"),
        (eve, "taken-name", 403, "forbidden"),
        (eve, "taken_name", 409, "name_too_similar"),
        (eve, "search", 403, "name_reserved"),
    ):
        fields, data = package(name)
        answer = await way(user, fields, data, query="?dry_run=true")
        assert (answer.status, answer.json["code"]) == (status, code)
    assert await stored(registry) == before


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_warnings_list_names_that_some_systems_can_not_unpack(registry: Registry, way: Way):
    ada = await registry.user()
    fields, _ = package()
    data = tarball(fields, {"docs/a:b": b"", "aux.py": b"", "fine.py": b""})
    rehearsed = await way(ada, fields, data, query="?dry_run=true")
    published = await way(ada, fields, data)
    assert (rehearsed.status, published.status) == (200, 201)
    for answer in (rehearsed, published):
        found = [(each["code"], each["path"]) for each in answer.json["warnings"]]
        assert found == [("reserved_character", "docs/a:b"), ("reserved_name", "aux.py")]
        assert all(each["message"] for each in answer.json["warnings"])


async def test_a_name_used_for_a_file_and_a_folder_is_refused(registry: Registry):
    ada = await registry.user()
    fields, _ = package()
    data = tarball(fields, {"a": b"", "a/b": b""})
    for query in ("", "?dry_run=true"):
        answer = await by_put(ada, fields, data, query=query)
        assert (answer.status, answer.json["code"]) == (400, "invalid_archive")
        assert [error["field"] for error in answer.json["errors"]] == ["tarball"]


async def test_a_dry_run_checks_the_idempotency_key(registry: Registry):
    ada = await registry.user()
    fields, data = package()
    headers = {"Idempotency-Key": "k"}
    first = await by_put(ada, fields, data, headers=headers)
    again = await by_put(ada, fields, data, query="?dry_run=true", headers=headers)
    assert (again.status, again.json) == (200, {**first.json, "dry_run": True})
    other, other_data = package("other")
    refused = await by_put(ada, other, other_data, query="?dry_run=true", headers=headers)
    assert (refused.status, refused.json["code"]) == (409, "idempotency_key_reused")
    assert [error["field"] for error in refused.json["errors"]] == ["Idempotency-Key"]


async def test_a_dry_run_lists_all_problems(registry: Registry):
    ada, eve = await registry.user("ada"), await registry.user("eve")
    await ada.publish("demo")
    wrong = {"name": "demo", "version": "1.0.0", "description": " ", "license": 5, "dependencies": {"a": "???"}}
    checksum = {"X-Checksum-SHA256": "0" * 64}
    by_body = [
        await way(eve, wrong, b"junk", query="?dry_run=true", headers=checksum) for way in list(WAYS.values())[:2]
    ]
    for answer in by_body:
        assert (answer.status, answer.json["code"]) == (400, "checksum_mismatch")
        fields = {error["field"] for error in answer.json["errors"]}
        assert fields == {"X-Checksum-SHA256", "description", "license", "dependencies.a", "tarball", "name"}
        assert "You may not publish versions of demo" in answer.json["error"]
    bad = {"name": "Demo", "version": "1", "description": "d"}
    by_address = await by_put(eve, bad, b"junk", query="?dry_run=true", headers=checksum)
    assert by_address.status == 400
    assert {e["field"] for e in by_address.json["errors"]} == {"X-Checksum-SHA256", "name", "version", "tarball"}
    assert (await by_put(ada, bad, b"junk", query="?dry_run=maybe")).status == 400
    assert spooled(registry) == []
