"""Whole flows of people: with the mouse, with the keyboard alone, and without JavaScript."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from tests.client import PASSWORD
from tests.factors.conftest import App
from tests.pages.browser.person import Person
from tests.pages.browser.tabs import Tabs
from tests.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="session")

WAYS = ("mouse", "keyboard", "no-script")


async def _person(tabs: Tabs, service: Service, way: str, user: str = "") -> Person:
    tab = await tabs.open(user, url=_site(service), script=way != "no-script", width=1280)
    return Person(tab, by_keyboard=way == "keyboard")


def _site(service: Service) -> str:
    # Passkeys need a name, so the pages are opened at one.
    return service.url.replace("127.0.0.1", "localhost")


async def _publish(service: Service, folder: Path, token: str, name: str, version: str) -> None:
    """Publishes with the client of the command line."""
    folder.mkdir()
    manifest = {"name": name, "version": version, "description": f"Finds {name} again", "license": "MIT"}
    (folder / "synapse.json").write_text(json.dumps(manifest), encoding="utf-8")
    (folder / "README.md").write_text(f"# {name}\n\nHello.\n", encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "registry", "publish", "--wait", str(folder)),
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "SYNAPSE_REGISTRY_TOKEN": token,
             "SYNAPSE_REGISTRY_URL": service.url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


@pytest.mark.parametrize("way", WAYS)
async def test_from_search_to_transfer(tabs: Tabs, playground: Service, tmp_path: Path, way: str) -> None:
    name, owner, heir = f"walk-{way}", f"owner-{way}", f"heir-{way}"
    someone = await _person(tabs, playground, way)
    await someone.open("/")
    await someone.register(heir)
    await someone.sign_out()

    await someone.open("/")
    await someone.register(owner)
    token = await someone.make_token("laptop", "publish")
    await _publish(playground, tmp_path / "one", token, name, "1.0.0")
    await _publish(playground, tmp_path / "two", token, name, "1.1.0")

    await someone.open("/")
    await someone.type("q", name, within="body")
    async with someone.tab.expect_navigation():
        await someone.tab.keyboard.press("Enter")
    await someone.follow(name, within="main")
    assert "Hello." in await someone.text()
    await someone.follow("Versions 2", within="main")
    assert "1.0.0" in await someone.text()

    await someone.open(f"/packages/{name}/settings")
    await someone.choose("version", "1.0.0", within="#form-yank")
    await someone.type("reason", "It lost bytes.", within="#form-yank")
    await someone.press("Yank", within="main")
    await someone.open(f"/packages/{name}/1.0.0")
    await someone.sees("It lost bytes.")

    await someone.open(f"/packages/{name}/settings")
    await someone.type("new_owner", heir, within="#form-transfer")
    await someone.press("Transfer", within="main")
    await someone.confirm()
    await someone.sign_out()
    await someone.sign_in(heir)
    await someone.open("/account/invitations")
    await someone.press("Accept", within="main")
    await someone.open(f"/users/{heir}")
    await someone.sees(name)


@pytest.mark.parametrize("way", WAYS)
async def test_an_authenticator_app(tabs: Tabs, playground: Service, way: str) -> None:
    user = f"totp-{way}"
    someone = await _person(tabs, playground, way)
    await someone.open("/")
    await someone.register(user)
    await someone.open("/account/factors")
    await someone.press("Set up authenticator", within="main")
    await someone.confirm()
    app = App((await someone.tab.locator(".secret").inner_text()).replace(" ", "").strip())
    await someone.type("code", app.wrong())
    await someone.press("Confirm", within="main")
    await someone.type("code", app.code())
    await someone.press("Confirm", within="main")
    recovery = (await someone.tab.locator(".codes li").first.inner_text()).strip()
    await someone.sign_out()

    await someone.sign_in(user)
    await someone.type("code", app.code())
    await someone.press("Sign in", within="main")
    await someone.sign_out()

    await someone.sign_in(user)
    await someone.type("code", recovery)
    await someone.press("Sign in", within="main")
    await someone.open("/account/factors")
    await someone.sees("9 left")


@pytest.mark.parametrize("way", ["mouse", "keyboard"])
async def test_a_passkey(tabs: Tabs, playground: Service, way: str) -> None:
    user = f"passkey-{way}"
    someone = await _person(tabs, playground, way)
    devtools = await someone.tab.context.new_cdp_session(someone.tab)
    await devtools.send("WebAuthn.enable")
    authenticator = {
        "protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True,
        "isUserVerified": True, "automaticPresenceSimulation": True,
    }  # fmt: skip
    await devtools.send("WebAuthn.addVirtualAuthenticator", {"options": authenticator})
    await someone.open("/")
    await someone.register(user)
    await someone.open("/account/factors")
    await someone.type("name", "Laptop")
    await someone.press("Add passkey", within="main")
    await someone.open("/account/factors")
    await someone.sees("Laptop")
    await someone.sign_out()

    await someone.open("/login")
    await someone.press("Sign in with a passkey", within="main")
    await someone.open("/account")
    await someone.sees(user)
    await someone.sign_out()

    # After the password, the passkey is the second factor.
    await someone.sign_in(user)
    await someone.press("Sign in with a passkey", within="main")
    await someone.open("/account")
    await someone.sees(user)


@pytest.mark.parametrize("way", WAYS)
async def test_a_password_and_the_end_of_an_account(tabs: Tabs, playground: Service, way: str) -> None:
    user, new_password = f"brief-{way}", f"{PASSWORD}-changed"
    someone = await _person(tabs, playground, way)
    await someone.open("/")
    await someone.register(user)
    await someone.open("/account/password")
    await someone.type("current_password", PASSWORD)
    await someone.type("new_password", new_password)
    await someone.press("Change password", within="main")
    await someone.sign_out()
    await someone.sign_in(user, new_password)
    await someone.open("/account")
    await someone.type("name", user)
    await someone.press("Delete account", within="main")
    await someone.confirm(new_password)
    response = await someone.tab.goto(f"/users/{user}")
    assert response is not None
    assert response.status == 404
