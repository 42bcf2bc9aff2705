"""Reading packages and versions over HTTP."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from registry.db.engine import Connection, Database
from registry.keys import DB
from registry.packages import read
from tests.client import API, Registry, sha256, tarball

GETS = ("/packages/demo", "/packages/demo/1.0.0", "/packages/demo/latest", "/packages/demo/versions",
        "/packages/demo/stats", "/packages", "/stats")  # fmt: skip


def is_time(text: str) -> bool:
    return text.endswith("Z") and datetime.fromisoformat(text).utcoffset() is not None


@pytest.mark.parametrize("bare", [False, True])
async def test_a_package_shows_its_latest_version(registry: Registry, bare: bool):
    ada = await registry.user()
    more = (
        {} if bare else {"license": "MIT", "homepage": "https://x.org", "keywords": ["k"], "dependencies": {"a": "*"}}
    )
    data = tarball({"name": "demo", "version": "1.0.0", "description": "Demo", **more})
    await ada.publish("demo", "1.0.0", data=data)
    info = (await registry.get("/packages/demo")).json
    assert (info["name"], info["description"], info["owners"]) == ("demo", "Demo", ["ada"])
    assert info["version"] == info["latest_version"] == "1.0.0"
    assert info["license"] == more.get("license", "")
    assert info["homepage"] == more.get("homepage", "")
    assert info["author"] == info["repository"] == ""
    assert info["keywords"] == more.get("keywords", [])
    assert info["dependencies"] == more.get("dependencies", {})
    assert info["downloads"] == {"total": 0, "week": 0, "month": 0}
    assert info["total_downloads"] == 0
    assert is_time(info["created_at"])
    assert is_time(info["updated_at"])
    [version] = info["versions"]
    assert is_time(version.pop("published_at"))
    assert version == {
        "version": "1.0.0", "downloads": 0, "checksum": sha256(data), "size": len(data), "yanked": False,
        "yank_reason": "", "tarball_url": f"{API}/packages/demo/1.0.0/tarball",
    }  # fmt: skip


async def test_a_version_shows_everything(registry: Registry):
    ada = await registry.user()
    manifest = {"name": "demo", "version": "1.0.0", "description": "Demo", "keywords": ["k"]}
    data = tarball(manifest, {"README.md": "Grüße\0".encode()})
    await ada.publish("demo", "1.0.0", data=data)
    info = (await registry.get("/packages/demo/1.0.0")).json
    assert is_time(info.pop("published_at"))
    assert info == {
        "name": "demo", "version": "1.0.0", "description": "Demo", "author": "", "license": "", "homepage": "",
        "repository": "", "keywords": ["k"], "dependencies": {}, "readme": "Grüße", "manifest": manifest,
        "checksum": sha256(data), "tarball_size": len(data), "tarball_url": f"{API}/packages/demo/1.0.0/tarball",
        "downloads": 0, "yanked": False, "yank_reason": "", "deprecated": "", "deprecation": None,
        "provenance": None,
    }  # fmt: skip


async def test_versions_are_ascending_by_precedence_and_newest_first_in_the_package(registry: Registry):
    ada = await registry.user()
    published = ["1.0.0", "1.0.0-alpha.10", "1.0.0-alpha.2", "1.10.0", "1.9.0", "2.0.0-rc.1", "1.0.0-alpha.beta"]
    for version in published:
        await ada.publish("demo", version)
    assert (await registry.get("/packages/demo/versions")).json == {
        "name": "demo",
        "versions": ["1.0.0-alpha.2", "1.0.0-alpha.10", "1.0.0-alpha.beta", "1.0.0", "1.9.0", "1.10.0", "2.0.0-rc.1"],
    }
    info = (await registry.get("/packages/demo")).json
    assert [item["version"] for item in info["versions"]] == published[::-1]
    assert info["latest_version"] == "1.10.0"


async def test_latest_is_the_highest_prerelease_without_a_stable_version(registry: Registry):
    ada = await registry.user()
    for version in ("0.1.0-alpha.2", "0.1.0-alpha.10", "0.0.9-rc.1"):
        await ada.publish("demo", version)
    assert (await registry.get("/packages/demo/latest")).json["version"] == "0.1.0-alpha.10"


async def test_latest_is_answered_without_a_redirect(registry: Registry):
    ada = await registry.user()
    await ada.publish("demo", "1.0.0")
    await ada.publish("demo", "1.1.0+b")
    answer = await registry.get("/packages/Demo/latest")
    assert (answer.status, answer.headers["Content-Location"]) == (200, f"{API}/packages/demo/1.1.0+b")
    assert answer.json == (await registry.get("/packages/demo/1.1.0")).json
    assert (await ada.call("DELETE", "/packages/demo/latest")).status == 404
    assert (await registry.get("/packages/demo/LATEST")).status == 404


REAL, BARE = "1.0.0+real", "1.0.0"


async def test_a_version_has_an_address_with_and_one_without_build_metadata(registry: Registry):
    data = tarball(name="demo", version=REAL, description="Demo")
    await (await registry.user()).publish("demo", REAL, data=data)
    for path, canonical in ((f"/{BARE}", f"/{REAL}"), (f"/{BARE}/tarball", f"/{REAL}/tarball")):
        answer = await registry.get(f"/packages/demo{path}")
        assert (answer.status, answer.headers["Content-Location"]) == (200, f"{API}/packages/demo{canonical}")
        for spelling in (canonical, canonical.replace("+", "%2B")):
            same = await registry.get(f"/packages/demo{spelling}")
            assert (same.status, same.body) == (200, answer.body)
            assert "Content-Location" not in same.headers


async def test_addresses_with_other_build_metadata_are_404(registry: Registry):
    ada, admin = await registry.user(), await registry.user("root", admin=True)
    await ada.publish("demo", REAL)
    await ada.publish("demo", "2.0.0")
    yank = {"json": {"yanked": True}}
    others = [("demo/1.0.0+other"), ("demo/1.0.0+REAL"), ("demo/2.0.0+real"), ("demo/1.0.0%2Bother")]
    for path in others:
        for tail in ("", "/tarball"):
            assert (await registry.get(f"/packages/{path}{tail}")).status == 404
        assert (await ada.call("PATCH", f"/packages/{path}", **yank)).status == 404
        assert (await ada.call("DELETE", f"/packages/{path}")).status == 404
    for path in ("demo/1.0.0", "demo/1.0.0+real"):
        assert (await ada.call("PATCH", f"/packages/{path}", **yank)).status == 200
    assert (await ada.call("DELETE", f"/packages/demo/{REAL}")).status == 204
    assert (await admin.call("POST", "/packages/demo/1.0.0+other/restore")).status == 404
    assert (await admin.call("POST", "/packages/demo/1.0.0/restore")).status == 200


class WritesBetween:
    """A database in which another client writes after the first statement of each `read()` block."""

    def __init__(self, db: Database, write: Callable[[], Awaitable[object]]) -> None:
        self._db = db
        self._write = write

    @asynccontextmanager
    async def read(self, **how: bool) -> AsyncIterator[Connection]:
        async with self._db.read(**how) as conn:
            first = conn.one

            async def one(*args: Any, **values: Any) -> Any:
                row = await first(*args, **values)
                await self._write()
                return row

            conn.one = one  # type: ignore[method-assign]
            yield conn


@pytest.mark.parametrize("use", [read.package_info, read.package_stats])
async def test_a_package_and_its_versions_are_read_in_one_snapshot(registry: Registry, use: Callable[..., Any]):
    ada = await registry.user()
    await ada.publish("demo", "1.0.0")
    db = WritesBetween(registry.app[DB], lambda: ada.publish("demo", "2.0.0"))
    info = await use(db, "demo")
    assert [item["version"] for item in info["versions"]] == ["1.0.0"]
    assert info.get("latest_version", "1.0.0") == "1.0.0"


async def test_reads_fold_capitals(registry: Registry):
    await (await registry.user()).publish("demo")
    for path in GETS[:5]:
        shouted = path.replace("demo", "DeMO")
        assert (await registry.get(shouted)).json == (await registry.get(path)).json, path
    assert (await registry.get("/packages/DEMO/1.0.0/tarball")).status == 200


async def test_a_look_alike_name_redirects_and_keeps_the_query(registry: Registry):
    ada = await registry.user()
    await ada.publish("my-lib_x", "1.0.0+b")
    for rest in ("", "/1.0.0", "/1.0.0%2Bb", "/latest", "/versions", "/stats", "/1.0.0/tarball"):
        answer = await registry.get(f"/packages/My_Lib-x{rest}?a=1&b=%20x%2B")
        assert answer.status == 301, rest
        place = answer.headers["Location"]
        assert place.startswith(f"{API}/packages/my-lib_x{rest.replace('%2B', '+')}?a=1&b="), place
        assert (await registry.get(f"{registry.url}{place}")).status == 200
    assert (await registry.call("HEAD", "/packages/my_lib-x")).status == 301
    for path in ("/packages/my_lib-x/9.9.9", "/packages/my-lib-y"):
        assert (await registry.get(path)).status == 404


async def test_a_write_to_a_look_alike_name_redirects_with_308(registry: Registry):
    ada = await registry.user()
    await ada.publish("my-lib", "1.0.0")
    for method, path, body in (
        ("PATCH", "/packages/my_lib", {"deprecated": "no"}),
        ("PATCH", "/packages/my_lib/1.0.0", {"yanked": True}),
        ("DELETE", "/packages/my_lib/1.0.0", None),
    ):
        answer = await ada.call(method, path, json=body)
        assert (answer.status, answer.headers["Location"]) == (308, API + path.replace("_", "-"))
    assert (await registry.get("/packages/my-lib")).json["versions"][0]["yanked"] is False


async def test_unknown_names_and_versions_are_404(registry: Registry):
    await (await registry.user()).publish("demo")
    for path in (
        "/packages/nothing", "/packages/nothing/1.0.0", "/packages/nothing/versions", "/packages/nothing/stats",
        "/packages/nothing/latest", "/packages/nothing/latest/tarball", "/packages/demo/1.0.1", "/packages/demo/1",
        "/packages/demo/x/tarball", "/packages/demo/1.0.0/tarball/x", "/packages/%00", "/packages/demo/%00",
        "/packages/d%C3%A9mo", "/packages/%ED%A0%80/1.0.0", "/packages/demo/%ED%A0%80", "/packages/demo%2F1.0.0",
        "/packages/..%2f..%2fetc", "/packages/" + "x" * 300, "/packages/demo/" + "1" * 300, "/packages/%E2%84%AA",
    ):  # fmt: skip
        answer = await registry.get(path)
        assert answer.status == 404, path
        assert answer.json["error"], path
        assert "version latest" not in answer.json["error"], path


async def test_metadata_has_a_strong_etag_and_answers_304_and_head(registry: Registry):
    ada = await registry.user()
    await ada.publish("demo")
    for path in GETS:
        answer = await registry.get(path)
        tag = answer.headers["ETag"]
        assert tag.startswith('"'), path
        again = answer
        # /stats contains the current time in whole seconds, so its ETag changes once a second.
        while again.status == 200:
            again = await registry.get(path, headers={"If-None-Match": f'"other", W/{tag}'})
            tag = again.headers["ETag"]
        assert (again.status, again.body) == (304, b""), path
        head = await registry.call("HEAD", path)
        assert (head.status, head.body) == (200, b""), path
        assert head.headers["Content-Length"] == str(len(answer.body)), path
        assert (await registry.get(path, headers={"If-None-Match": "*"})).status == 304, path
        for other in ('"other"', "junk", '"', "é", ","):
            assert (await registry.get(path, headers={"If-None-Match": other})).status == 200, (path, other)


async def test_an_etag_changes_with_the_content(registry: Registry):
    ada = await registry.user()
    await ada.publish("demo")
    before = {path: (await registry.get(path)).headers["ETag"] for path in GETS[:6]}
    await ada.publish("demo", "1.1.0")
    for path, tag in before.items():
        changed = (await registry.get(path)).headers["ETag"] != tag
        assert changed == (path != "/packages/demo/1.0.0"), path


async def test_week_and_month_count_the_last_7_and_30_days(registry: Registry):
    ada = await registry.user()
    await ada.publish("demo")
    async with registry.app[DB].transaction() as conn:
        await conn.command(
            "INSERT INTO download_days (package_id, day, package_version_id, count) "
            "SELECT package_id, (now() AT TIME ZONE 'UTC')::date - age, id, count FROM package_versions, "
            "(VALUES (0, 1), (6, 10), (7, 100), (29, 1000), (30, 10000)) AS d (age, count)"
        )
        await conn.command("UPDATE packages SET download_count = 11111")
    expected = {"total": 11111, "week": 11, "month": 1111}
    assert (await registry.get("/packages/demo")).json["downloads"] == expected
    stats = (await registry.get("/packages/demo/stats")).json
    assert (stats["name"], stats["downloads"], stats["total_downloads"]) == ("demo", expected, 11111)


async def test_registry_totals_leave_out_deleted_packages(registry: Registry):
    ada = await registry.user()
    for name, versions in (("one", ("1.0.0", "2.0.0")), ("two", ("1.0.0",)), ("three", ("1.0.0",))):
        for version in versions:
            await ada.publish(name, version)
    await registry.get("/packages/two/1.0.0/tarball")
    await registry.flush()
    await ada.call("DELETE", "/packages/three/1.0.0")
    stats = (await registry.get("/stats")).json
    assert is_time(stats["timestamp"])
    assert abs((datetime.fromisoformat(stats["timestamp"]) - datetime.now(UTC)).total_seconds()) < 60
    assert stats["packages"] == {"total": 2, "versions": 3, "downloads": 1}
    assert stats["top_packages"] == [{"name": "two", "downloads": 1}, {"name": "one", "downloads": 0}]
