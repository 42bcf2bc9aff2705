"""Rights on a package follow from its owners."""

import asyncio

import pytest

from registry.accounts.identity import Principal
from registry.db.engine import Database, Statement
from registry.errors import Forbidden
from registry.keys import DB
from registry.packages.rights import MAINTAINER, OWNER, Action, authorize
from tests.client import Registry
from tests.packages.ways import value
from tests.until import until
from tests.web.shape import check_error

EVERYTHING = frozenset(("publish", "yank", "read"))
WAITERS = Statement("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'", {})


def principal(role: str = "user", scopes: frozenset[str] | None = None, packages: frozenset[str] | None = None):
    return Principal(1, "ada", role, 1, scopes=scopes, packages=packages, token_id=None if scopes is None else 7)


def allowed(who: Principal, role: str | None) -> set[Action]:
    found = set()
    for action in Action:
        try:
            authorize(who, action, "demo", role)
        except Forbidden:
            continue
        found.add(action)
    return found


def test_each_role_allows_its_actions():
    assert allowed(principal(), None) == set()
    maintains = {Action.PUBLISH, Action.YANK, Action.DEPRECATE, Action.WEBHOOK}
    assert allowed(principal(), MAINTAINER) == maintains
    assert allowed(principal(), OWNER) == {
        *maintains, Action.DELETE, Action.MANAGE, Action.TRUST, Action.LIST_PUBLISHERS, Action.AUDIT,
    }  # fmt: skip


def test_an_admin_does_not_act_in_place_of_the_owners_of_a_package():
    admin = principal("admin")
    assert allowed(admin, None) == set(Action) - {Action.PUBLISH, Action.MANAGE, Action.TRUST, Action.WEBHOOK}
    assert allowed(admin, OWNER) == set(Action)


@pytest.mark.parametrize(
    ("scopes", "may"),
    [
        ({"publish"}, {Action.PUBLISH}),
        ({"yank"}, {Action.YANK, Action.DEPRECATE, Action.DELETE}),
        ({"read"}, set()),
        ({"manage"}, {Action.MANAGE, Action.TRUST, Action.LIST_PUBLISHERS, Action.AUDIT, Action.WEBHOOK}),
        ({"publish", "yank"}, {Action.PUBLISH, Action.YANK, Action.DEPRECATE, Action.DELETE}),
    ],
)
def test_an_owners_token_is_limited_by_its_scopes(scopes: set[str], may: set[Action]):
    assert allowed(principal(scopes=frozenset(scopes)), OWNER) == may


def test_a_bound_token_is_limited_to_its_packages():
    assert allowed(principal(scopes=EVERYTHING, packages=frozenset(("other",))), OWNER) == set()
    assert Action.PUBLISH in allowed(principal(scopes=EVERYTHING, packages=frozenset(("demo",))), OWNER)


def test_a_refusal_names_the_roles_that_may():
    with pytest.raises(Forbidden, match="its owners and admins"):
        authorize(principal(), Action.DELETE, "demo", MAINTAINER)
    with pytest.raises(Forbidden, match="its owners and its maintainers may"):
        authorize(principal(), Action.PUBLISH, "demo", None)


async def run(db: Database, sql: str, **values: object) -> None:
    async with db.transaction() as conn:
        await conn.run(Statement(sql, {}), **values)


ADD = """
    INSERT INTO package_owners (package_id, user_id, role)
    SELECT id, %(user)s, %(role)s FROM packages WHERE name = 'demo'
"""
REMOVE = "DELETE FROM package_owners WHERE user_id = %(user)s"


async def test_a_maintainer_may_publish_yank_and_deprecate_but_not_delete(registry: Registry):
    ada, grace = await registry.user("ada"), await registry.user("grace")
    await ada.publish("demo")
    check_error(await grace.put("demo", "1.1.0"), 403)
    await run(registry.app[DB], ADD, user=grace.id, role="maintainer")
    for way in (grace.put, grace.post):
        assert (await way("demo", "1.1.0" if way == grace.put else "1.2.0")).status == 201
    assert (await grace.call("PATCH", "/packages/demo/1.1.0", json={"yanked": True})).status == 200
    assert (await grace.call("PATCH", "/packages/demo", json={"deprecated": "Use other."})).status == 200
    check_error(await grace.call("DELETE", "/packages/demo/1.1.0"), 403)
    assert (await registry.get("/packages/demo")).json["owners"] == ["ada"]


async def test_owners_are_listed_in_the_order_they_became_owners(registry: Registry):
    ada, zoe = await registry.user("zoe"), await registry.user("ada")
    await ada.publish("demo")
    await run(registry.app[DB], ADD, user=zoe.id, role="owner")
    for _ in range(2):
        assert (await registry.get("/packages/demo")).json["owners"] == ["zoe", "ada"]
    assert (await zoe.call("DELETE", "/packages/demo/1.0.0")).status == 204


async def test_a_former_owner_has_no_rights(registry: Registry):
    ada, grace = await registry.user("ada"), await registry.user("grace")
    await ada.publish("demo")
    await run(registry.app[DB], ADD, user=grace.id, role="owner")
    await run(registry.app[DB], REMOVE, user=ada.id)
    check_error(await ada.put("demo", "1.1.0"), 403)
    check_error(await ada.call("PATCH", "/packages/demo/1.0.0", json={"yanked": True}), 403)
    check_error(await ada.call("DELETE", "/packages/demo/1.0.0"), 403)
    assert (await grace.put("demo", "1.1.0")).status == 201


async def test_the_role_is_read_after_the_package_is_locked(registry: Registry):
    """A publish that waits for the package while its owner is removed is refused."""
    ada = await registry.user("ada")
    await ada.publish("demo")
    db = registry.app[DB]
    async with db.transaction() as conn:
        await conn.one(Statement("SELECT id FROM packages WHERE name = 'demo' FOR UPDATE", {}))
        await conn.run(Statement(REMOVE, {}), user=ada.id)
        waiting = asyncio.create_task(ada.put("demo", "1.1.0"))

        async def is_waiting() -> bool:
            return bool(await conn.value(WAITERS))

        await until(is_waiting)
    check_error(await waiting, 403)
    assert await value(registry, "SELECT count(*) FROM package_versions") == 1
