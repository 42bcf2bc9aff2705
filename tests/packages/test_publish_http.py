"""Publishing over HTTP: the answer, the fields and the errors."""

import base64
import re
import time
from datetime import datetime
from pathlib import Path

import pytest

from registry.errors import InvalidArchive, StorageUnavailable
from registry.keys import SETTINGS, STORAGE
from registry.package_format import archive
from tests.client import Registry, sha256, tarball
from tests.packages.ways import WAYS, Way, blobs, by_json, by_multipart, by_put, package, spooled, stored

FIELDS = {
    "author": "Ada Lovelace",
    "license": "MIT",
    "homepage": "https://example.com/x",
    "repository": {"type": "git", "url": "https://github.com/ada/x"},
    "keywords": ["one", "two"],
    "dependencies": {"other-thing": "^1.2", "third": ">=1 <3"},
}


@pytest.fixture(params=list(WAYS))
def way(request: pytest.FixtureRequest) -> Way:
    return WAYS[request.param]


async def test_the_answer_is_the_documented_one(registry: Registry, way: Way):
    ada = await registry.user()
    fields, data = package()
    answer = await way(ada, fields, data)
    assert answer.status == 201, answer.body
    assert answer.headers["Location"] == "/api/v1/packages/demo/1.0.0"
    body = answer.json
    assert body["success"] is True
    assert body["checksum"] == body["package"]["checksum"] == sha256(data)
    assert body["size"] == body["package"]["size"] == len(data)
    assert body["seq"] == body["package"]["seq"] == 2
    about = body["package"]
    assert isinstance(about["id"], int)
    assert about["id"] > 0
    assert (about["name"], about["version"]) == ("demo", "1.0.0")
    assert about["url"] == "/api/v1/packages/demo/1.0.0"
    assert about["published_at"].endswith("Z")
    assert datetime.fromisoformat(about["published_at"]).utcoffset() is not None
    assert spooled(registry) == []


async def test_all_kinds_of_body_publish_the_same(registry: Registry):
    ada = await registry.user()
    shown = []
    for number, way in enumerate(WAYS.values()):
        fields, data = package(f"demo{number}", "1.0.0-rc.1+build.5", **FIELDS)
        data = tarball(fields, {"README.md": b"# Hello"})
        assert (await way(ada, fields, data)).status == 201
        info = (await registry.get(f"/packages/demo{number}/1.0.0-rc.1")).json
        assert info["checksum"] == sha256(data)
        assert (await registry.get(f"/packages/demo{number}/1.0.0-rc.1/tarball")).body == data
        assert info.pop("manifest") == fields
        assert info.pop("tarball_size") == len(data)
        shown.append({key: text for key, text in info.items() if key not in ("published_at", "checksum")})
    as_text = [repr(info).replace(f"demo{number}", "demo") for number, info in enumerate(shown)]
    assert as_text[0] == as_text[1] == as_text[2]
    assert shown[0]["repository"] == "https://github.com/ada/x"
    assert shown[0]["readme"] == "# Hello"
    assert shown[0]["dependencies"] == FIELDS["dependencies"]


async def test_request_fields_take_precedence_and_the_manifest_keeps_unknown_fields(registry: Registry):
    ada = await registry.user()
    manifest = {"name": "demo", "version": "1.0.0", "description": "Old", "author": {"name": "Ada", "email": "a@b.c"},
                "license": None, "scripts": {"x": [1, 2.5, None, "é"]}, "keywords": ["manifest"]}  # fmt: skip
    request = {"name": "demo", "version": "1.0.0", "description": "New", "keywords": ["request"], "homepage": None,
               "dependencies": None, "strange": {"deep": [1]}}  # fmt: skip
    assert (await by_json(ada, request, tarball(manifest))).status == 201
    info = (await registry.get("/packages/demo/1.0.0")).json
    assert info["manifest"] == manifest
    assert (info["description"], info["keywords"], info["author"]) == ("New", ["request"], "Ada")
    assert (info["license"], info["homepage"], info["repository"], info["readme"]) == ("", "", "", "")
    assert info["dependencies"] == {}
    assert None not in [item for key, item in info.items() if key not in ("manifest", "deprecation", "provenance")]
    whole = (await registry.get("/packages/demo")).json
    assert [key for key, item in whole.items() if item is None] == ["deprecation"]


NO_NAMES = ("Demo", "-demo", "demo-", "démo", "a b", "a/b", "x" * 215, "a.b", "\u212a", "demo\n", "")
NO_VERSIONS = ("1.0", "v1.0.0", "01.0.0", "1.0.0-01", "1.0.0-", "1.0.0 ", "", "1.0.0-" + "a" * 128, "1.0.0+", "١.0.0")


async def test_an_invalid_name_is_400(registry: Registry):
    ada = await registry.user()
    for name in NO_NAMES:
        fields = {"name": name, "version": "1.0.0", "description": "d"}
        answer = await by_json(ada, fields, tarball(fields))
        assert answer.status == 400, name
        assert "name" in {error["field"] for error in answer.json["errors"]}, name
    assert await stored(registry) == (0, 0, 0, 0)


async def test_a_version_that_is_not_semver_is_400(registry: Registry):
    ada = await registry.user()
    for version in NO_VERSIONS:
        fields = {"name": "demo", "version": version, "description": "d"}
        answer = await by_json(ada, fields, tarball(fields))
        assert answer.status == 400, version
        assert "version" in {error["field"] for error in answer.json["errors"]}, version
    assert await stored(registry) == (0, 0, 0, 0)


async def test_put_with_a_bad_name_and_a_bad_version_names_both(registry: Registry):
    ada = await registry.user()
    answer = await ada.call("PUT", "/packages/Demo/1.0", data=b"x", headers={"Content-Type": "application/gzip"})
    assert answer.status == 400
    assert {error["field"] for error in answer.json["errors"]} == {"name", "version"}


async def test_every_wrong_field_is_named_at_once(registry: Registry):
    ada = await registry.user()
    wrong = {"name": "No", "version": "1", "description": 5, "author": [], "keywords": "x", "homepage": "javascript:x",
             "dependencies": {"ok-name": "not a range!", "BAD": "1"}}  # fmt: skip
    answer = await by_json(ada, wrong, b"no tarball")
    assert answer.status == 400
    named = {error["field"] for error in answer.json["errors"]}
    assert named >= {"name", "version", "description", "author", "keywords", "homepage", "tarball",
                     "dependencies.ok-name", "dependencies.BAD"}  # fmt: skip


async def test_all_missing_fields_are_named_at_once(registry: Registry):
    ada = await registry.user()
    for body in ({}, {"name": None, "tarball": None}, {"tarball": ""}, {"tarball": 5}):
        answer = await ada.call("POST", "/packages", json=body)
        assert answer.status == 400
        assert {error["field"] for error in answer.json["errors"]} == {"name", "version", "description", "tarball"}


async def test_invalid_base64_is_reported_with_the_other_problems(registry: Registry):
    ada = await registry.user()
    for text in ("!!!", "QUJD=QUJD", "QUJ", "Q_-D"):
        answer = await ada.call("POST", "/packages", json={"name": "demo", "tarball": text})
        assert answer.status == 400
        assert {error["field"] for error in answer.json["errors"]} == {"version", "description", "tarball"}


async def test_base64_may_have_line_breaks(registry: Registry):
    ada = await registry.user()
    fields, data = package()
    body = {**fields, "tarball": base64.encodebytes(data).decode().replace("\n", "\r\n")}
    assert (await ada.call("POST", "/packages", json=body)).status == 201
    assert (await registry.get("/packages/demo/1.0.0/tarball")).body == data


async def test_nul_and_lone_surrogates_are_400_everywhere(registry: Registry):
    ada = await registry.user()
    encoded = base64.b64encode(package()[1])
    for member in ('"description": "a%sb"', '"author": "a%sb"', '"keywords": ["a%sb"]', '"x": [{"a%sb": 1}]'):
        for bad in ("\\u0000", "\\ud800"):
            fields = f'"name": "demo", "version": "1.0.0", "description": "d", {member % bad}'.encode()
            in_manifest = await ada.put("demo", "1.0.0", data=tarball(b"{" + fields + b"}"))
            assert in_manifest.status == 400, fields
            raw = b"{" + fields + b', "tarball": "' + encoded + b'"}'
            in_request = await ada.call("POST", "/packages", data=raw, headers={"Content-Type": "application/json"})
            assert in_request.status == 400, fields
    for path in ("/packages/de%00mo/1.0.0", "/packages/demo/1.0.0%00", "/packages/de%ED%A0%80mo/1.0.0"):
        answer = await ada.call("PUT", path, data=package()[1], headers={"Content-Type": "application/gzip"})
        assert answer.status == 400, path
    assert await stored(registry) == (0, 0, 0, 0)


async def test_a_deeply_nested_body_is_400_or_harmless(registry: Registry):
    ada = await registry.user()
    for depth in (500, 1000, 100_000):
        raw = b'{"x": ' + b"[" * depth + b'"\\u0000"' + b"]" * depth + b"}"
        answer = await ada.call("POST", "/packages", data=raw, headers={"Content-Type": "application/json"})
        assert answer.status == 400, depth


async def test_a_manifest_that_differs_from_the_request_is_400(registry: Registry, way: Way):
    ada = await registry.user()
    fields, _ = package()
    for other in ({"name": "other"}, {"version": "1.0.1"}, {"version": "1.0.0+x"}):
        answer = await way(ada, fields, tarball({**fields, **other}))
        assert answer.status == 400, other
        assert answer.json["errors"]
    assert await stored(registry) == (0, 0, 0, 0)


async def test_a_bad_tarball_is_400_and_nothing_is_stored(registry: Registry, way: Way):
    ada = await registry.user()
    fields, good = package()
    nested = tarball(b"{}", {"examples/x/synapse.json": b"{}"})
    for data in (b"", b"x", good[:-9], good + b"x", good[:-6] + b"\0\0" + good[-4:], nested, tarball(b"[]")):
        answer = await way(ada, fields, data)
        assert answer.status == 400, (data[:10], answer.body)
        assert answer.json["error"]
    assert await stored(registry) == (0, 0, 0, 0)
    assert spooled(registry) == []


@pytest.mark.parametrize("is_away", [False, True])
async def test_a_tarball_that_was_stored_before_its_inspection_failed_is_removed(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, is_away: bool
):
    ada = await registry.user()
    folder = registry.app[SETTINGS].storage.path
    stored_early: list[Path] = []

    def inspect(_: object) -> None:
        deadline = time.monotonic() + 30
        while not stored_early and time.monotonic() < deadline:
            stored_early.extend(folder.rglob("*.tar.gz"))
        raise InvalidArchive("It looks odd.")

    async def delete(_: str) -> None:
        raise StorageUnavailable

    monkeypatch.setattr(archive, "inspect", inspect)
    if is_away:
        monkeypatch.setattr(registry.app[STORAGE], "delete", delete)
    answer = await ada.put("demo", "1.0.0")
    assert (answer.status, answer.json["code"]) == (400, "invalid_archive")
    assert len(stored_early) == 1
    assert len(await blobs(registry)) == int(is_away)  # the sweep removes it


async def test_the_checksum_header_is_checked_ignoring_case(registry: Registry, way: Way):
    ada = await registry.user()
    fields, data = package()
    wrong = await way(ada, fields, data, headers={"X-Checksum-SHA256": "0" * 64})
    assert (wrong.status, wrong.json["code"]) == (400, "checksum_mismatch")
    for junk in ("", "abc", sha256(data)[:-1], sha256(data) + "0", "g" * 64, "\u00e9" * 64):
        assert (await way(ada, fields, data, headers={"X-Checksum-SHA256": junk})).status == 400, junk
    assert await stored(registry) == (0, 0, 0, 0)
    right = await way(ada, fields, data, headers={"X-Checksum-SHA256": sha256(data).upper()})
    assert right.status == 201


async def test_a_version_is_never_replaced(registry: Registry, way: Way):
    ada = await registry.user()
    fields, data = package()
    assert (await way(ada, fields, data)).status == 201
    other = tarball(fields, {"more": b"x"})
    for headers in ({}, {"X-Force": "true"}, {"X-Force": "1"}):
        for again in (data, other):
            answer = await way(ada, fields, again, headers=headers)
            assert (answer.status, answer.json["code"]) == (409, "version_exists")
            assert re.search("never change", answer.json["error"])
    assert (await registry.get("/packages/demo/1.0.0/tarball")).body == data


async def test_build_metadata_does_not_make_another_version(registry: Registry):
    ada = await registry.user()
    await ada.publish("demo", "1.0.0+one")
    for version in ("1.0.0", "1.0.0+two", "1.0.0+one"):
        assert (await ada.put("demo", version)).json["code"] == "version_exists"
    for asked in ("1.0.0", "1.0.0+one", "1.0.0%2Bone"):
        assert (await registry.get(f"/packages/demo/{asked}")).json["version"] == "1.0.0+one"
    assert (await registry.get("/packages/demo/versions")).json["versions"] == ["1.0.0+one"]


async def test_publishing_to_the_package_of_another_user_is_403(registry: Registry, way: Way):
    ada, eve = await registry.user("ada"), await registry.user("eve")
    await ada.publish("demo", "1.0.0")
    fields, data = package("demo", "2.0.0")
    assert (await way(eve, fields, data)).status == 403
    assert (await registry.get("/packages/demo/versions")).json["versions"] == ["1.0.0"]


@pytest.mark.parametrize("who", ["ada", "eve"])
async def test_a_name_that_differs_only_in_hyphens_is_409_for_everybody(registry: Registry, who: str):
    await (await registry.user("ada")).publish("my-lib_x")
    user = await registry.user(who)
    for name in ("my_lib-x", "my-lib-x", "my_lib_x"):
        answer = await user.put(name, "2.0.0")
        assert (answer.status, answer.json["code"]) == (409, "name_too_similar")


@pytest.mark.parametrize("name", ["synapse", "nul", "con", "aux", "prn", "com0", "com9", "lpt0", "lpt9"])
async def test_only_admins_can_publish_reserved_names(registry: Registry, name: str):
    fields, data = package(name)
    ada, root = await registry.user("ada"), await registry.user("root", admin=True)
    for way in WAYS.values():
        refused = await way(ada, fields, data)
        assert (refused.status, refused.json["code"]) == (403, "name_reserved")
    assert (await by_put(root, fields, data)).status == 201


async def test_publishing_needs_valid_credentials(registry: Registry, way: Way):
    ada = await registry.user()
    fields, data = package()
    for header in ("", "Bearer", "Bearer x", "Basic eDp5", "Bearer " + ada.token[:-2]):
        answer = await way(ada, fields, data, headers={"Authorization": header})
        assert answer.status == 401, header
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert (await by_multipart(ada, fields, data, headers={"Authorization": f"bEARER {ada.token}"})).status == 201
