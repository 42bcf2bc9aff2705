"""The access matrix: which caller may use which route, in a public and in a private registry."""

import base64
import json
from collections.abc import Mapping
from typing import Any

from registry.app import API as ROUTES
from tests.client import PASSWORD, Registry, User, tarball
from tests.conftest import MakeRegistry
from tests.web.shape import case, check_error

STRANGER, USER, OWNER, ADMIN, FORGED = "stranger", "user", "owner", "admin", "forged token"
# API tokens of the owner that have only this scope.
READING, YANKING, PUBLISHING = "token to read", "token to yank", "token to publish"
# An API token of the owner, with all scopes except `admin`, that is bound to another package.
BOUND = "token bound to another package"
Row = Mapping[str, int | bool]
"""The result for each caller: True for success, or the status of the refusal."""

SIGNED_IN: Row = {
    STRANGER: 401,
    FORGED: 401,
    **dict.fromkeys((USER, OWNER, ADMIN, READING, YANKING, PUBLISHING, BOUND), True),
}
ANYONE: Row = dict.fromkeys(SIGNED_IN, True)
# In a public registry anyone may read, but invalid credentials are refused.
READERS: Row = {**ANYONE, FORGED: 401}
# Anyone may register in both kinds of registries.
VISITORS: Row = {**ANYONE, FORGED: 401}
PRIVATE_READERS: Row = {**SIGNED_IN, YANKING: 403, PUBLISHING: 403}
BY_PASSWORD: Row = {**SIGNED_IN, READING: 403, YANKING: 403, PUBLISHING: 403, BOUND: 403}
PUBLISHERS: Row = {**SIGNED_IN, READING: 403, YANKING: 403, BOUND: 403}
# Not even an admin may publish versions of somebody else's package.
OWN_PUBLISHERS: Row = {**PUBLISHERS, USER: 403, ADMIN: 403}
YANKERS: Row = {**SIGNED_IN, USER: 403, READING: 403, PUBLISHING: 403, BOUND: 403}
MANAGERS: Row = {**SIGNED_IN, READING: 403, YANKING: 403, PUBLISHING: 403, BOUND: 403}
ADMINS: Row = {**BY_PASSWORD, USER: 403, OWNER: 403}

OWNERS: Row = {**BY_PASSWORD, USER: 403, ADMIN: 403}
OWNERS_AND_ADMINS: Row = {**OWNERS, ADMIN: True}

API = "/api/v1"
OF_PACKAGE = f"{API}/packages/{{name}}"
ROWS: dict[str, Row] = {
    f"POST {API}/auth/register": VISITORS,
    f"POST {API}/auth/login": ANYONE,
    f"POST {API}/auth/verify": ANYONE,
    f"GET {API}/auth/verify": SIGNED_IN,
    f"POST {API}/auth/logout": SIGNED_IN,
    f"GET {API}/auth/me": SIGNED_IN,
    f"POST {API}/auth/password": BY_PASSWORD,
    f"POST {API}/auth/email": BY_PASSWORD,
    f"POST {API}/auth/email/verify": ANYONE,
    f"POST {API}/auth/email/resend": BY_PASSWORD,
    f"POST {API}/auth/password/reset": ANYONE,
    f"POST {API}/auth/password/reset/confirm": ANYONE,
    f"POST {API}/auth/tokens": BY_PASSWORD,
    f"POST {API}/auth/tokens/report": ANYONE,
    f"GET {API}/auth/tokens": BY_PASSWORD,
    f"DELETE {API}/auth/tokens/{{id}}": BY_PASSWORD,
    f"POST {API}/auth/passkeys/login/options": ANYONE,
    # No passkey signs here, so nobody can sign in.
    f"POST {API}/auth/passkeys/login": dict.fromkeys(SIGNED_IN, 401),
    f"POST {API}/auth/passkeys/options": BY_PASSWORD,
    f"POST {API}/auth/passkeys": BY_PASSWORD,
    f"GET {API}/auth/passkeys": BY_PASSWORD,
    f"DELETE {API}/auth/passkeys/{{id}}": BY_PASSWORD,
    # Before an app waits for its first code, since a wrong one is answered 401.
    f"POST {API}/auth/totp/confirm": BY_PASSWORD,
    f"POST {API}/auth/totp": BY_PASSWORD,
    f"DELETE {API}/auth/totp": BY_PASSWORD,
    f"POST {API}/auth/recovery-codes": BY_PASSWORD,
    f"GET {API}/auth/sessions": BY_PASSWORD,
    f"DELETE {API}/auth/sessions/{{id}}": BY_PASSWORD,
    f"DELETE {API}/auth/me": BY_PASSWORD,
    f"GET {API}/search": READERS,
    f"GET {API}/search/suggest": READERS,
    f"GET {API}/search/explain": READERS,
    f"GET {API}/packages/{{name}}/{{version}}/tarball": READERS,
    f"POST {API}/packages": PUBLISHERS,
    f"PUT {API}/packages/{{name}}/{{version}}": OWN_PUBLISHERS,
    f"GET {API}/packages": READERS,
    f"GET {API}/packages/{{name}}": READERS,
    f"PATCH {API}/packages/{{name}}": YANKERS,
    f"GET {API}/packages/{{name}}/versions": READERS,
    f"GET {API}/packages/{{name}}/dependents": READERS,
    f"GET {API}/packages/{{name}}/stats": READERS,
    f"GET {API}/packages/{{name}}/badge/{{badge}}.svg": READERS,
    f"GET {API}/packages/{{name}}/{{version}}": READERS,
    f"PATCH {API}/packages/{{name}}/{{version}}": YANKERS,
    f"DELETE {API}/packages/{{name}}/{{version}}": YANKERS,
    f"POST {API}/packages/{{name}}/{{version}}/restore": ADMINS,
    f"GET {API}/packages/{{name}}/{{version}}/wait": READERS,
    f"POST {API}/packages/{{name}}/publishers": {**BY_PASSWORD, USER: 403, ADMIN: 403},
    f"GET {API}/packages/{{name}}/publishers": {**BY_PASSWORD, USER: 403},
    f"DELETE {API}/packages/{{name}}/publishers/{{id}}": {**BY_PASSWORD, USER: 403},
    f"POST {API}/auth/publishers": BY_PASSWORD,
    f"GET {API}/auth/publishers": BY_PASSWORD,
    f"GET {API}/auth/publishers/{{id}}": BY_PASSWORD,
    f"DELETE {API}/auth/publishers/{{id}}": BY_PASSWORD,
    f"POST {API}/auth/oidc/token": dict.fromkeys(SIGNED_IN, 401),
    f"GET {API}/stats": READERS,
    f"GET {OF_PACKAGE}/owners": READERS,
    f"PUT {OF_PACKAGE}/owners": ADMINS,
    f"PATCH {OF_PACKAGE}/owners/{{username}}": OWNERS,
    f"DELETE {OF_PACKAGE}/owners/{{username}}": OWNERS,
    f"POST {OF_PACKAGE}/invitations": OWNERS,
    f"GET {OF_PACKAGE}/invitations": OWNERS_AND_ADMINS,
    f"DELETE {OF_PACKAGE}/invitations/{{id}}": OWNERS,
    f"POST {OF_PACKAGE}/transfer": OWNERS,
    f"GET {API}/auth/invitations": BY_PASSWORD,
    # Whoever is not invited gets a 404.
    f"POST {API}/auth/invitations/{{id}}/accept": SIGNED_IN,
    f"POST {API}/auth/invitations/{{id}}/decline": SIGNED_IN,
    f"GET {OF_PACKAGE}/audit": OWNERS_AND_ADMINS,
    f"GET {API}/auth/audit": BY_PASSWORD,
    f"GET {API}/admin/audit": ADMINS,
    f"POST {OF_PACKAGE}/report": SIGNED_IN,
    f"GET {API}/admin/reports": ADMINS,
    f"PATCH {API}/admin/reports/{{id}}": ADMINS,
    f"POST {API}/webhooks": MANAGERS,
    f"GET {API}/webhooks": MANAGERS,
    **{
        f"{method} {API}/webhooks/{{id}}{path}": MANAGERS
        for method, path in (
            ("GET", ""),
            ("PATCH", ""),
            ("DELETE", ""),
            ("POST", "/rotate"),
            ("POST", "/ping"),
            ("GET", "/deliveries"),
            ("POST", "/redeliver"),
        )
    },
    f"GET {API}/changes": READERS,
    f"GET {API}/changes/stream": READERS,
    f"GET {API}/changes/checkpoint": READERS,
    f"GET {API}/changes/keys": READERS,
    **{
        f"GET {base}{path}": READERS if path == "/metrics" else ANYONE
        for base in (API, "")
        for path in ("/health", "/health/live", "/health/ready", "/metrics", "/openapi.json")
    },
    f"GET {API}/docs": ANYONE,
}
# In these texts, a number that no other request has takes the place of SERIAL.
SERIAL = "SERIAL"
PUBLISHER = {"kind": "github", "repository": "org/repo", "workflow": "release.yml"}
# By the last word of the path, or by route.
BODIES: dict[str, Any] = {
    "register": {"username": f"newcomer-{SERIAL}", "password": PASSWORD},
    "login": {"username": "owner", "password": PASSWORD},
    "verify": {"token": "x"},
    "password": {"current_password": PASSWORD, "new_password": "Another-Horse-43"},
    **{last: {"password": PASSWORD} for last in ("totp", "options", "recovery-codes")},
    "confirm": {"code": "000000"},
    "passkeys": {},
    "report": {"token": "syn_x"},
    "tokens": {"name": "ci", "scopes": ["read"]},
    "{name}": {"deprecated": None},
    "publishers": PUBLISHER,
    "token": {"token": "x", "package": "demo"},
    "owners": {"owners": [{"username": "owner", "role": "owner"}], "reason": "A test"},
    "{username}": {"role": "owner"},
    "invitations": {"username": "user", "role": "maintainer"},
    "transfer": {"username": "user"},
    "{id}": {"closed": True},
    f"POST {API}/auth/passkeys/login": {},
    f"DELETE {API}/auth/passkeys/{{id}}": {"password": PASSWORD},
    f"PATCH {API}/packages/{{name}}/{{version}}": {"yanked": False},
    f"POST {API}/auth/publishers": {**PUBLISHER, "package": f"unborn-{SERIAL}"},
    f"POST {OF_PACKAGE}/report": {"kind": "spam", "text": "Spam"},
    "webhooks": {"url": "https://ci.example.invalid/", "scope": {"owner": "me"}},
    "redeliver": {"delivery": "msg_x"},
    f"PATCH {API}/webhooks/{{id}}": {"description": "x"},
}


def test_the_matrix_covers_all_routes():
    assert set(ROWS) == {route.id for route in ROUTES}


async def credentials(registry: Registry) -> dict[str, dict[str, str]]:
    """The headers of everyone; `owner` has the package demo."""
    owner, user = await registry.user("owner"), await registry.user("user")
    admin = await registry.user("admin", admin=True)
    await owner.publish("demo", "1.0.0")
    for caller in range(len(SIGNED_IN)):
        await owner.publish("demo", f"9.0.{caller}")
    return {
        STRANGER: {},
        USER: user.headers,
        OWNER: owner.headers,
        ADMIN: admin.headers,
        READING: await scoped(owner, "read"),
        YANKING: await scoped(owner, "yank"),
        PUBLISHING: await scoped(owner, "publish"),
        BOUND: await scoped(owner, "publish", "yank", "read", packages=["another"]),
        FORGED: {"Authorization": f"Bearer {owner.token[:-6]}AAAAAA"},
    }


async def scoped(user: User, *scopes: str, packages: list[str] | None = None) -> dict[str, str]:
    """The headers of an API token with these scopes alone, bound to `packages` if they are given."""
    body = {"name": scopes[0], "scopes": scopes, "packages": packages}
    made = await user.call("POST", "/auth/tokens", json=body)
    assert made.status == 201
    return {"Authorization": f"Bearer {made.json['token']}"}


async def ask(registry: Registry, route_id: str, headers: dict[str, str], serial: int) -> Any:
    """Calls the route with a valid request, so that only missing rights can cause a refusal."""
    method, _, path = route_id.partition(" ")
    last = path.rsplit("/", 1)[-1]
    more: dict[str, Any] = {}
    body = BODIES.get(route_id, BODIES.get(last) if method in ("POST", "PUT", "PATCH") else None)
    if body is not None:
        more = {"json": json.loads(json.dumps(body).replace(SERIAL, str(serial)))}
    if route_id == f"POST {API}/packages":
        more = {"json": {"name": f"new-{serial}", "version": "1.0.0", "description": "New", "tarball": _base64(serial)}}
    elif method == "PUT" and last == "{version}":
        path = path.replace("{version}", f"2.0.{serial}")
        data = tarball(name="demo", version=f"2.0.{serial}", description="Demo")
        more = {"data": data, "headers": {"Content-Type": "application/gzip"}}
    elif method == "DELETE" and last == "{version}":
        path = path.replace("{version}", f"9.0.{serial % len(SIGNED_IN)}")
    address = (
        path.replace("{name}", "demo")
        .replace("{version}", "1.0.0")
        .replace("{id}", "999")
        .replace("{username}", "owner")
        .replace("{badge}", "version")
    )
    if last in ("search", "suggest"):
        address += "?q=demo"
    more["headers"] = {**headers, **more.get("headers", {})}
    return await registry.call(method, registry.url + address, **more)


def _base64(serial: int) -> str:
    return base64.b64encode(tarball(name=f"new-{serial}", version="1.0.0", description="New")).decode()


# These routes end credentials or versions, so they are called last.
LAST = ("POST /api/v1/auth/logout", "POST /api/v1/auth/password", "DELETE /api/v1/auth/me")


def in_order() -> list[str]:
    early = [row for row in ROWS if row not in LAST and not row.startswith("DELETE")]
    return [*early, *(row for row in ROWS if row.startswith("DELETE")), *LAST]


async def check(registry: Registry, rows: Mapping[str, Row], callers: dict[str, dict[str, str]]) -> None:
    serial = 0
    for route_id in in_order():
        for caller, wanted in rows[route_id].items():
            if route_id in LAST and caller not in (STRANGER, FORGED):
                continue
            serial += 1
            with case((route_id, caller)):
                answer = await ask(registry, route_id, callers[caller], serial)
                if wanted is True:
                    assert answer.status not in (401, 403), answer.body
                    assert answer.status < 500 or answer.json["code"] == "mail_not_configured"
                else:
                    check_error(answer, wanted)


async def test_a_public_registry_follows_the_matrix(registry: Registry):
    await check(registry, ROWS, await credentials(registry))


async def test_a_private_registry_follows_the_matrix(make_registry: MakeRegistry):
    open_ = await make_registry()
    callers = await credentials(open_)
    private = await make_registry(REGISTRY_ACCESS="private")
    rows = {row: PRIVATE_READERS if wanted is READERS else wanted for row, wanted in ROWS.items()}
    # A package that the token is not bound to does not exist. A publish is refused before anything is looked up.
    publish = f"PUT {OF_PACKAGE}/{{version}}"
    rows |= {row: {**rows[row], BOUND: 404} for row in rows if "{name}" in row and row != publish}
    await check(private, rows, callers)


async def test_only_the_account_itself_ends_its_logins_and_changes_its_password(registry: Registry):
    callers = await credentials(registry)
    change = BODIES["password"]
    check_error(await registry.call("POST", "/auth/password", headers=callers[READING], json=change), 403)
    for caller in (USER, OWNER, ADMIN):
        assert (await registry.call("POST", "/auth/password", headers=callers[caller], json=change)).status == 200
        check_error(await registry.call("POST", "/auth/logout", headers=callers[caller]), 401)


async def test_a_private_registry_tells_strangers_nothing(make_registry: MakeRegistry):
    open_ = await make_registry()
    ada = await open_.user("ada")
    await ada.publish("zeppelin-weapon", description="A zeppelin")
    await open_.drain()
    private = await make_registry(REGISTRY_ACCESS="private")
    for route in ROUTES:
        with case(route.id):
            answer = await ask(private, route.id.replace("{name}", "zeppelin-weapon"), {}, 1)
            assert b"zeppelin" not in answer.body
            if route.method == "GET" and route.access == "read":
                check_error(answer, 401)
    reader = await scoped(ada, "read")
    found = await private.get("/search?q=weapon", headers=reader)
    assert [result["name"] for result in found.json["results"]] == ["zeppelin-weapon"]
    tarball_ = await private.get("/packages/zeppelin-weapon/1.0.0/tarball", headers=reader)
    assert tarball_.status == 200
    assert tarball_.headers["Cache-Control"].startswith("private")
