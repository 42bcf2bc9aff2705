"""Who may read the log in a private registry, and for how long."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from registry.accounts.identity import Principal
from registry.changes import access, feed, handlers
from tests.changes.reading import read_all, streaming
from tests.client import Registry, User
from tests.conftest import MakeRegistry
from tests.contracts.test_access import scoped
from tests.until import until
from tests.web.shape import check_error

PATHS = ("/changes", "/changes/stream", "/changes/checkpoint", "/changes/keys")


async def opened(make_registry: MakeRegistry, kind: str) -> tuple[Registry, User]:
    """A public or private registry, and a user of it. Nobody can register in the private one."""
    ada = await (await make_registry()).user()
    registry = await make_registry(REGISTRY_ACCESS=kind)
    registry.app[handlers.FEED].comment_seconds = 0.05
    return registry, replace(ada, registry=registry)


async def test_reading_needs_the_right_to_read(make_registry: MakeRegistry):
    private, ada = await opened(make_registry, "private")
    publishing, reading = await scoped(ada, "publish"), await scoped(ada, "read")
    for path in PATHS:
        check_error(await private.get(path), 401)
        check_error(await private.get(path, headers=publishing), 403)
        assert (await private.get(path, headers=reading)).status == 200


async def bound(make_registry: MakeRegistry, kind: str = "private") -> tuple[Registry, User, dict[str, str]]:
    """Publishes `mine` and `other` by turns. Returns the registry, their owner and headers of a token for `mine`."""
    registry, ada = await opened(make_registry, kind)
    for number in range(3):
        await ada.publish("mine", f"1.0.{number}")
        await ada.publish("other", f"1.0.{number}")
    return registry, ada, await scoped(ada, "read", packages=["mine"])


async def test_a_bound_token_reads_its_packages_alone_and_no_hashes(make_registry: MakeRegistry):
    private, ada, headers = await bound(make_registry)
    everything = await read_all(private, headers=ada.headers)
    mine = [change for change in everything if change["package"] == "mine"]
    expected = [{name: value for name, value in change.items() if name != "hash"} for change in mine]
    assert await read_all(private, headers=headers) == expected
    assert await read_all(private, limit=1, headers=headers) == expected
    page = (await private.get("/changes", headers=headers)).json
    assert page["last_seq"] == page["next"] == mine[-1]["seq"] < everything[-1]["seq"]


async def test_a_bound_token_waits_for_its_packages_alone(make_registry: MakeRegistry):
    private, ada, headers = await bound(make_registry)
    since = (await private.get("/changes", headers=headers)).json["next"]
    waiting = asyncio.create_task(private.get(f"/changes?since={since}&wait=60", headers=headers))
    feed = private.app[handlers.FEED]
    async with streaming(private, headers) as stream:
        await until(lambda: len(feed._listeners) == 2)
        await ada.publish("other", "2.0.0")
        published = await ada.publish("mine", "2.0.0")
        _, _, change = await stream.event()
        assert (change["package"], change["seq"]) == ("mine", published["seq"])
        assert "hash" not in change
    assert (await waiting).json["changes"] == [change]


async def test_a_bound_stream_resumes_with_its_packages_alone(make_registry: MakeRegistry):
    private, _, headers = await bound(make_registry)
    async with streaming(private, {**headers, "Last-Event-ID": "0"}) as stream:
        mine = await read_all(private, headers=headers)
        assert [(await stream.event())[2] for _ in mine] == mine


async def test_a_bound_token_reads_everything_in_a_public_registry(make_registry: MakeRegistry):
    registry, ada, headers = await bound(make_registry, "public")
    assert await read_all(registry, headers=headers) == await read_all(registry)
    async with streaming(registry, headers) as stream:
        await ada.publish("other", "2.0.0")
        assert "hash" in (await stream.event())[2]


async def log_out(ada: User, _: Any) -> None:
    assert (await ada.call("POST", "/auth/logout")).status in (200, 204)


async def delete_token(ada: User, token_id: int) -> None:
    assert (await ada.call("DELETE", f"/auth/tokens/{token_id}")).status == 204


async def change_password(ada: User, _: Any) -> None:
    body = {"current_password": "Correct-Horse-42", "new_password": "Another-Horse-43"}
    assert (await ada.call("POST", "/auth/password", json=body)).status == 200


@pytest.mark.parametrize("end", [log_out, delete_token, change_password])
@pytest.mark.parametrize("kind", ["private", "public"])
async def test_a_stream_ends_with_its_credentials(make_registry: MakeRegistry, kind: str, end: Any):
    registry, ada = await opened(make_registry, kind)
    made = (await ada.call("POST", "/auth/tokens", json={"name": "ci", "scopes": ["read"]})).json
    token = {"Authorization": f"Bearer {made['token']}"}
    async with streaming(registry, token if end is delete_token else ada.headers) as stream:
        await end(ada, made["id"])
        access_ = registry.app[handlers.ACCESS]
        clock = access_.clock
        access_.clock = lambda: clock() + access.SECONDS
        assert await stream.ended()


async def test_many_streams_of_one_token_are_checked_by_one_query():
    looked_up, now = [], 0.0

    async def look_up(token: str) -> Principal:
        looked_up.append(token)
        return Principal(1, "ada", "user", 1)

    access_ = access.Access(look_up, private=True, clock=lambda: now)
    for _ in range(100):
        assert await access_.packages("one") is None
        assert await access_.packages("two") is None
    assert looked_up == ["one", "two"]
    now = access.SECONDS
    await access_.packages("one")
    assert looked_up == ["one", "two", "one"]


def test_credentials_are_checked_well_within_a_minute():
    assert access.SECONDS + 2 * feed.COMMENT_SECONDS < 60
