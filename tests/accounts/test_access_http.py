"""Access over HTTP: API tokens, closed registration, and private registries."""

from datetime import UTC, datetime, timedelta

import pytest

from registry.keys import DB
from tests.accounts.authenticating import announce_all
from tests.client import PASSWORD, Answer, Registry, User
from tests.conftest import MakeRegistry


async def make(user: User, **fields: object) -> Answer:
    return await user.call("POST", "/auth/tokens", json={"name": "ci", "scopes": ["publish"], **fields})


async def token_of(user: User, **fields: object) -> User:
    """`user` with a new API token as credentials."""
    answer = await make(user, **fields)
    assert answer.status == 201, answer.body
    return User(user.registry, user.id, user.username, answer.json["token"])


async def test_a_token_is_shown_once_then_listed_and_deleted(registry: Registry):
    ada, eve = await registry.user("ada"), await registry.user("eve")
    made = await make(ada, name="ci", scopes=["yank", "publish"], packages=["demo"], expires_in_days=5)
    assert made.status == 201
    assert made.json["success"] is True
    text = made.json["token"]
    assert text.startswith("syn_")
    assert (made.json["scopes"], made.json["packages"]) == (["publish", "yank"], ["demo"])
    assert made.headers["Cache-Control"] == "no-store"
    [listed] = (await ada.call("GET", "/auth/tokens")).json["tokens"]
    assert text not in str(listed)
    assert (listed["name"], listed["last_used_at"]) == ("ci", None)
    left = datetime.fromisoformat(listed["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=4) < left <= timedelta(days=5)
    path = f"/auth/tokens/{listed['id']}"
    assert (await eve.call("DELETE", path)).status == 404
    assert (await eve.call("GET", "/auth/tokens")).json["tokens"] == []
    assert (await ada.call("DELETE", path)).status == 204
    assert (await ada.call("DELETE", path)).status == 404
    for junk in ("0", "x", "-1", "9" * 30, "%00", "1%20", "%D9%A1", "1.0"):
        assert (await ada.call("DELETE", f"/auth/tokens/{junk}")).status == 404, junk
    assert (await registry.get("/auth/me", headers={"Authorization": f"Bearer {text}"})).status == 401


async def test_an_invalid_token_request_names_the_wrong_field(registry: Registry):
    ada = await registry.user()
    past = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    timestamp = int(datetime.now(UTC).timestamp()) + 86400
    for fields, field in (
        ({"name": ""}, "name"), ({"name": "x" * 101}, "name"), ({"name": None}, "name"), ({"scopes": []}, "scopes"),
        ({"scopes": ["x"]}, "scopes"), ({"scopes": "publish"}, "scopes"), ({"scopes": ["admin"]}, "scopes"),
        ({"packages": []}, "packages"), ({"packages": ["No"]}, "packages"), ({"expires_in_days": 0}, "expires_in_days"),
        ({"expires_in_days": 10**9}, "expires_in_days"), ({"expires_in_days": "5"}, "expires_in_days"),
        ({"expires_at": past}, "expires_at"), ({"expires_at": "soon"}, "expires_at"),
        ({"expires_at": "2099-01-01T00:00:00"}, "expires_at"), ({"expires_at": timestamp}, "expires_at"),
        ({"expires_at": str(timestamp)}, "expires_at"),
    ):  # fmt: skip
        answer = await make(ada, **fields)
        assert answer.status == 400, fields
        assert answer.json["errors"][0]["field"].split(".")[0] == field, answer.json
    assert (await ada.call("GET", "/auth/tokens")).json["tokens"] == []


async def test_a_token_may_do_what_its_scopes_allow(registry: Registry):
    ada = await registry.user()
    await ada.publish("demo")
    publisher, yanker = await token_of(ada, scopes=["publish"]), await token_of(ada, scopes=["yank"])
    reader = await token_of(ada, scopes=["read"])
    for user, status in ((publisher, 201), (yanker, 403), (reader, 403)):
        assert (await user.put("demo", f"1.{status}.0")).status == status
        assert (await user.post("demo", f"2.{status}.0")).status == status
    yank = {"yanked": True}
    for user, status in ((publisher, 403), (yanker, 200), (reader, 403)):
        assert (await user.call("PATCH", "/packages/demo/1.0.0", json=yank)).status == status
    for user, status in ((publisher, 403), (reader, 403), (yanker, 204)):
        assert (await user.call("DELETE", "/packages/demo/1.0.0")).status == status
    for user in (publisher, yanker, reader):
        assert (await user.call("GET", "/packages/demo")).status == 200
        assert (await user.call("GET", "/auth/me")).json["user"]["username"] == "ada"
        assert (await user.call("POST", "/auth/verify")).json["valid"] is True
        assert (await registry.call("POST", "/auth/verify", json={"token": user.token})).json["valid"] is True


async def test_a_token_cannot_manage_credentials(registry: Registry):
    token = await token_of(await registry.user(), scopes=["publish", "yank", "read"])
    assert (await make(token)).status == 403
    assert (await token.call("GET", "/auth/tokens")).status == 403
    assert (await token.call("DELETE", "/auth/tokens/1")).status == 403
    change = {"current_password": PASSWORD, "new_password": "Another-Horse-43"}
    assert (await token.call("POST", "/auth/password", json=change)).status == 403


async def test_a_bound_token_may_change_only_its_packages(registry: Registry):
    ada = await registry.user()
    await ada.publish("other")
    token = await token_of(ada, scopes=["publish", "yank"], packages=["demo"])
    assert (await token.put("demo", "1.0.0")).status == 201
    for answer in (await token.put("other", "2.0.0"), await token.post("other", "2.0.0"),
                   await token.call("DELETE", "/packages/other/1.0.0")):  # fmt: skip
        assert answer.status == 403
    assert (await token.call("DELETE", "/packages/demo/1.0.0")).status == 204


async def test_a_token_has_admin_rights_only_with_the_scope_admin(registry: Registry):
    ada, root = await registry.user("ada"), await registry.user("root", admin=True)
    await ada.publish("demo")
    plain, full = await token_of(root, scopes=["publish", "yank"]), await token_of(root, scopes=["yank", "admin"])
    assert (await plain.call("DELETE", "/packages/demo/1.0.0")).status == 403
    assert (await full.call("DELETE", "/packages/demo/1.0.0")).status == 204
    assert (await plain.call("POST", "/packages/demo/1.0.0/restore")).status == 403
    assert (await full.call("POST", "/packages/demo/1.0.0/restore")).status == 200


async def test_an_expired_token_is_refused(registry: Registry):
    ada = await registry.user()
    token = await token_of(ada, expires_at=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
    assert (await token.call("GET", "/auth/me")).status == 200
    async with registry.app[DB].transaction() as conn:
        await conn.command("UPDATE api_tokens SET expires_at = now()")
        await announce_all(conn)
    assert (await token.call("GET", "/auth/me")).status == 401
    assert (await registry.call("POST", "/auth/verify", json={"token": token.token})).json == {"valid": False}
    assert len((await ada.call("GET", "/auth/tokens")).json["tokens"]) == 1


async def test_the_last_use_of_a_token_is_recorded(registry: Registry):
    ada = await registry.user()
    token = await token_of(ada)
    before = datetime.now(UTC)
    await token.call("GET", "/packages")
    [listed] = (await ada.call("GET", "/auth/tokens")).json["tokens"]
    assert before <= datetime.fromisoformat(listed["last_used_at"]) <= datetime.now(UTC)


async def test_only_admins_register_users_while_registration_is_closed(make_registry: MakeRegistry):
    opened = await make_registry()
    ada, root = await opened.user("ada"), await opened.user("root", admin=True)
    closed = await make_registry(REGISTRY_REGISTRATION="closed")
    body = {"username": "newcomer", "password": PASSWORD}
    assert (await closed.call("POST", "/auth/register", json=body)).status == 401
    assert (await closed.call("POST", "/auth/register", json=body, headers=ada.headers)).status == 403
    assert (await closed.call("POST", "/auth/register", json=body, headers=root.headers)).status == 201
    assert (await closed.call("POST", "/auth/login", json=body)).status == 200


@pytest.fixture
async def private(make_registry: MakeRegistry) -> Registry:
    """A private registry with a package that ada published."""
    public = await make_registry()
    await (await public.user("ada")).publish("demo")
    await public.drain()
    registry = await make_registry(REGISTRY_ACCESS="private")
    registry._users.update({"ada": User(registry, 1, "ada", (await public.user("ada")).token)})
    return registry


async def test_a_private_registry_tells_strangers_nothing(private: Registry):
    ada = await private.user("ada")
    for path in (
        "/packages", "/packages/demo", "/packages/demo/1.0.0", "/packages/demo/versions", "/packages/demo/stats",
        "/packages/demo/latest", "/packages/demo/1.0.0/tarball", "/stats", "/search?q=demo", "/search/suggest?q=d",
        "/packages/nothing", "/packages/demo/9.9.9", "/search", "/auth/me", "/metrics",
    ):  # fmt: skip
        for method in ("GET", "HEAD"):
            answer = await private.call(method, path)
            assert answer.status == 401, path
            assert "WWW-Authenticate" in answer.headers
            assert b"demo" not in answer.body
        assert (await ada.call("GET", path)).status in (200, 400, 404), path
    body = {"username": "newcomer", "password": PASSWORD}
    assert (await private.call("POST", "/auth/register", json=body)).status == 201
    for path in ("/health", "/health/live", "/docs", "/openapi.json"):
        assert (await private.get(path)).status == 200, path
    assert (await private.call("POST", "/auth/login", json={"username": "ada", "password": PASSWORD})).status == 200


async def test_a_token_needs_the_scope_read_in_a_private_registry(private: Registry):
    ada = await private.user("ada")
    assert (await (await token_of(ada, scopes=["publish"])).call("GET", "/packages/demo")).status == 403
    assert (await (await token_of(ada, scopes=["read"])).call("GET", "/packages/demo")).status == 200
