"""The way through the whole house: publish, index, find, install, count."""

from tests.client import Registry, tarball


async def test_what_was_published_is_found_and_installed_and_counted(registry: Registry):
    ada = await registry.user("ada")
    data = tarball(name="hello-world", version="1.0.0", description="Says hello", keywords=["greeting"])
    published = (await ada.put("hello-world", "1.0.0", data=data)).json
    await registry.drain()
    found = await registry.get("/search", params={"q": "greeting", "min_seq": str(published["seq"])})
    assert [result["name"] for result in found.json["results"]] == ["hello-world"]
    assert found.json["degraded"] is False
    assert (await registry.get("/packages/hello-world/latest/tarball")).body == data
    await registry.flush()
    assert (await registry.get("/stats")).json["packages"] == {"total": 1, "versions": 1, "downloads": 1}
