"""Fills a registry for pages: users, packages, roles, tokens, webhooks, reports, and a year of downloads.

`fill()` acts by HTTP as users do. What HTTP can't do, such as downloads of the last year, it writes to the database.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from registry.server import serving
from registry.settings import Settings
from tests.client import API, PASSWORD, tarball
from tests.pages import history
from tests.pages.seed_packages import (
    ALL_YANKED,
    DEPRECATED,
    MAIN,
    PACKAGES,
    QUARANTINED,
    YANK_REASON,
    YANKED,
    Package,
)

OWNER, MAINTAINER, MEMBER, NEWCOMER, ADMIN = "ada", "lin", "moss", "eve", "grace"
"""The users. OWNER has nearly everything, NEWCOMER nearly nothing. They all have the PASSWORD of tests/client.py."""
USERS = (OWNER, MAINTAINER, MEMBER, NEWCOMER, ADMIN)
LOCAL_HOOK = "https://127.0.0.1/packages"
SETTINGS = {
    "REGISTRY_ENV": "testing",
    "REGISTRY_PBKDF2_ITERATIONS": "100000",
    "REGISTRY_RATE_LIMITS": "off",
    "REGISTRY_WEBHOOK_HTTP": "true",
    "REGISTRY_WEBHOOK_ALLOW": "127.0.0.0/8",
}
"""Settings of a registry that shows pages in tests."""
# A registry must take registrations and writes while it is filled.
_OPEN = {
    "REGISTRY_ACCESS": "public",
    "REGISTRY_READ_ONLY": "false",
    "REGISTRY_REGISTRATION": "open",
    "REGISTRY_REQUIRE_2FA": "off",
}
CONCURRENT = 4


@dataclass(frozen=True)
class Seeded:
    """A seeded registry. `tokens` maps each user to a session of the API."""

    url: str
    db_url: str
    tokens: dict[str, str]


async def until_indexed(db_url: str) -> None:
    """Returns when search finds everything that was published."""
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(history.is_indexed, db_url):
            await asyncio.sleep(0.1)


class _Caller:
    def __init__(self, session: aiohttp.ClientSession, url: str, token: str = "") -> None:
        self._session, self._url, self.token = session, url, token

    async def __call__(self, method: str, path: str, json: Any = None, **more: Any) -> Any:
        """The answer's JSON. Fails unless the request succeeds."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        headers |= more.pop("headers", {})
        async with self._session.request(
            method, f"{self._url}{API}{path}", json=json, headers=headers, **more
        ) as answer:
            assert answer.status < 300, (method, path, await answer.text())
            return await answer.json() if answer.content_type == "application/json" else None


async def fill(settings: Mapping[str, str]) -> Seeded:
    """Serves on REGISTRY_PORT of `settings` until the empty database and storage of `settings` are full.

    Nothing is indexed yet: a registry that starts later finds everything.
    """
    url = f"http://127.0.0.1:{settings['REGISTRY_PORT']}"
    async with serving(Settings.read({**settings, **_OPEN}), with_background=False):
        return await _fill(url, settings["REGISTRY_DB_URL"])


async def _fill(url: str, db_url: str) -> Seeded:
    async with _signed_in(url, db_url) as callers:
        await asyncio.gather(*_publishes(callers))
        await _manage(callers)
        await _account(callers)
        await _watch(callers)
        await asyncio.to_thread(history.write, db_url, PACKAGES)
        return Seeded(url, db_url, {name: caller.token for name, caller in callers.items()})


@asynccontextmanager
async def _signed_in(url: str, db_url: str) -> AsyncIterator[dict[str, _Caller]]:
    async with aiohttp.ClientSession() as session:
        stranger, callers = _Caller(session, url), {}
        for name in USERS:
            body = {"username": name, "password": PASSWORD}
            await stranger("POST", "/auth/register", {**body, "email": f"{name}@brook.example"})
            if name == ADMIN:
                history.make_admin(db_url, name)
            callers[name] = _Caller(session, url, (await stranger("POST", "/auth/login", body))["token"])
        yield callers


def _publishes(callers: dict[str, _Caller]) -> list[Any]:
    turns = asyncio.Semaphore(CONCURRENT)

    async def publish(package: Package) -> None:
        for version in package.versions:
            async with turns:
                await _publish(callers[package.owner], package, version)

    return [publish(package) for package in PACKAGES]


async def _publish(caller: _Caller, package: Package, version: str) -> None:
    manifest = {
        "name": package.name, "version": version, "description": package.description, "license": package.license,
        "keywords": list(package.keywords), "dependencies": package.dependencies, "author": package.owner.title(),
        **package.more,
    }  # fmt: skip
    data = tarball(manifest, package.files(version))
    path = f"/packages/{package.name}/{version.replace('+', '%2B')}"
    await caller("PUT", path, data=data, headers={"Content-Type": "application/gzip"})


async def _manage(callers: dict[str, _Caller]) -> None:
    """Yanks, deprecates and reports; gives roles, and leaves invitations open."""
    owner, maintainer, admin = callers[OWNER], callers[MAINTAINER], callers[ADMIN]
    await owner("PATCH", f"/packages/{MAIN}/{YANKED}", {"yanked": True, "reason": YANK_REASON})
    await maintainer("PATCH", f"/packages/{ALL_YANKED}/1.0.0", {"yanked": True, "reason": "It leaks its key."})
    deprecation = {
        "deprecated": True,
        "message": "Use parcel-forms, which reads forms as streams.",
        "successor": "parcel-forms",
    }
    await owner("PATCH", f"/packages/{DEPRECATED}", deprecation)
    for kind, text in (("malware", "It opens a connection to an address that it hides."), ("spam", "Has no code.")):
        await callers[MEMBER]("POST", f"/packages/{QUARANTINED}/report", {"kind": kind, "text": text})
    closed = await maintainer("POST", "/packages/ledger-lite/report", {"kind": "other", "text": "Wrong licence text."})
    await admin("PATCH", f"/admin/reports/{closed['id']}", {"closed": True})
    reason = "It mines coins in its install script."
    await admin("PATCH", f"/packages/{QUARANTINED}", {"quarantined": True, "reason": reason})
    await owner("POST", f"/packages/{MAIN}/invitations", {"username": MAINTAINER, "role": "maintainer"})
    [invitation] = (await maintainer("GET", "/auth/invitations"))["invitations"]
    await maintainer("POST", f"/auth/invitations/{invitation['id']}/accept")
    await owner("POST", f"/packages/{MAIN}/invitations", {"username": MEMBER, "role": "owner"})
    await owner("POST", f"/packages/{MAIN}/invitations", {"email": "friend@brook.example", "role": "maintainer"})
    await callers[MEMBER]("POST", "/packages/colour-names/invitations", {"username": OWNER, "role": "maintainer"})
    await maintainer("POST", "/packages/link-rot/transfer", {"username": OWNER})


async def _account(callers: dict[str, _Caller]) -> None:
    """Tokens and publishers of OWNER."""
    owner = callers[OWNER]
    for wanted in (
        {"name": "release pipeline", "scopes": ["publish"], "packages": [MAIN], "expires_in_days": 90},
        {"name": "laptop", "scopes": ["publish", "yank", "manage"]},
        {"name": "dashboards", "scopes": ["read"], "expires_in_days": 7},
    ):
        await owner("POST", "/auth/tokens", wanted)
    workflow = {"kind": "github", "repository": "brook/brook-http", "workflow": "release.yml"}
    await owner("POST", f"/packages/{MAIN}/publishers", {**workflow, "environment": "release"})
    await owner("POST", f"/packages/{MAIN}/publishers", {"kind": "gitlab", "project": "brook/mirror", "ref": "main"})
    await owner("POST", "/auth/publishers", {**workflow, "package": "brook-next"})


async def _watch(callers: dict[str, _Caller]) -> None:
    """Webhooks of OWNER and ADMIN. history.py gives the first one deliveries."""
    owner = callers[OWNER]
    hook = {"url": LOCAL_HOOK, "scope": {"package": MAIN}, "events": ["version.published", "version.yanked"]}
    await owner("POST", "/webhooks", {**hook, "description": "Builds the documentation"})
    await owner("POST", "/webhooks", {"url": f"{LOCAL_HOOK}/all", "scope": {"owner": "me"}, "events": ["*"]})
    await callers[ADMIN]("POST", "/webhooks", {"url": f"{LOCAL_HOOK}/feed", "scope": "all", "events": ["*"]})
