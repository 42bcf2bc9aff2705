"""Passkeys over HTTP, with a software authenticator."""

import asyncio
import base64
import json

from tests.client import PASSWORD, Registry
from tests.conftest import MakeRegistry
from tests.factors.authenticator import Authenticator
from tests.factors.conftest import ORIGIN, add_app, add_passkey, answer, challenge, is_signed_in, log_in
from tests.web.shape import check_error


async def options(registry: Registry, **body: str) -> dict:
    asked = await registry.call("POST", "/auth/passkeys/login/options", json=body)
    assert asked.status == 200, asked.body
    return asked.json


async def enter(registry: Registry, credential: dict):
    return await registry.call("POST", "/auth/passkeys/login", json=credential)


async def test_a_passkey_signs_in_alone(site: Registry):
    ada, key = await site.user(), Authenticator(ORIGIN)
    added = (await add_passkey(ada, key)).json
    assert added["name"] == "Laptop"
    assert len(added["recovery_codes"]) == 10
    wanted = await options(site)
    assert (wanted["rpId"], wanted["userVerification"]) == ("registry.example", "required")
    done = await enter(site, key.get(wanted))
    assert done.status == 200, done.body
    assert done.json["user"]["username"] == "ada"
    assert await is_signed_in(site, done.json["token"])
    listed = (await ada.call("GET", "/auth/passkeys")).json["passkeys"]
    assert [(each["id"], each["name"]) for each in listed] == [(added["id"], "Laptop")]
    assert listed[0]["last_used_at"] is not None
    audit = (await ada.call("GET", "/auth/audit?action=login.succeed&limit=1")).json["entries"]
    assert audit[0]["details"] == {"method": "passkey"}


async def test_a_passkey_is_a_second_factor_for_a_password(site: Registry):
    ada, key = await site.user(), Authenticator(ORIGIN, verifies=False)
    await add_passkey(ada, key)
    asked = await challenge(site)
    assert asked["methods"] == ["recovery_code", "passkey"]
    assert (await answer(site, asked["challenge"], passkey=key.get(asked["passkey"]))).status == 200
    asked = await challenge(site)
    wanted = await options(site, challenge=asked["challenge"])
    assert len(wanted["allowCredentials"]) == 1
    assert (await answer(site, asked["challenge"], passkey=key.get(wanted))).status == 200
    asked = await challenge(site)
    assert (await answer(site, asked["challenge"], passkey=key.get(await options(site)))).status == 200
    # Alone it is not enough, since it doesn't verify the user.
    check_error(await enter(site, key.get(await options(site))), 401)


async def test_a_passkey_of_another_user_is_no_second_factor(site: Registry):
    ada, eve = await site.user(), await site.user("eve")
    mine, hers = Authenticator(ORIGIN), Authenticator(ORIGIN)
    await add_passkey(ada, mine)
    await add_passkey(eve, hers)
    asked = await challenge(site)
    check_error(await answer(site, asked["challenge"], passkey=hers.get(await options(site))), 401)
    assert (await answer(site, asked["challenge"], passkey=mine.get(asked["passkey"]))).status == 200


async def test_an_answer_counts_once_and_only_for_its_challenge(make_registry: MakeRegistry):
    one, two = await make_registry(REGISTRY_PUBLIC_URL=ORIGIN), await make_registry(REGISTRY_PUBLIC_URL=ORIGIN)
    ada, key = await one.user(), Authenticator(ORIGIN)
    await add_passkey(ada, key)
    signed = key.get(await options(one))
    answers = await asyncio.gather(*(enter(registry, signed) for registry in (one, two, one, two)))
    assert sorted(each.status for each in answers) == [200, 401, 401, 401]
    wanted = await options(one)
    made_up = base64.urlsafe_b64encode(bytes(56)).decode().rstrip("=")
    registration = (await ada.call("POST", "/auth/passkeys/options", json={"password": PASSWORD})).json["challenge"]
    for other in (made_up, registration, wanted["challenge"][:-4] + "AAAA"):
        check_error(await enter(one, key.get({**wanted, "challenge": other})), 401)
    assert (await enter(one, key.get(wanted))).status == 200


async def test_forged_answers_are_refused(site: Registry):
    ada, key = await site.user(), Authenticator(ORIGIN)
    await add_passkey(ada, key)

    async def refused(authenticator: Authenticator, wanted: dict) -> None:
        check_error(await enter(site, authenticator.get(wanted)), 401)

    await refused(Authenticator("https://evil.example", key=key.key, id=key.id, counter=10), await options(site))
    await refused(Authenticator(ORIGIN, key=key.key, id=key.id, counter=10), {**await options(site), "rpId": "evil"})
    await refused(Authenticator(ORIGIN, id=key.id, counter=10), await options(site))
    await refused(Authenticator(ORIGIN), await options(site))
    stranger = Authenticator(ORIGIN, key=key.key, id=key.id, counter=10, user_handle="AAAAAAAAAGM=")
    await refused(stranger, await options(site))
    assert (await enter(site, key.get(await options(site)))).status == 200


async def test_a_counter_that_does_not_rise_is_refused(site: Registry):
    ada, key = await site.user(), Authenticator(ORIGIN)
    await add_passkey(ada, key)
    key.counter = 10
    assert (await enter(site, key.get(await options(site)))).status == 200
    key.counter = 8
    check_error(await enter(site, key.get(await options(site))), 401)
    check_error(await enter(site, {**key.get(await options(site))} | {"id": "other"}), 401)


async def test_malformed_credentials_are_client_errors(site: Registry):
    ada, key = await site.user(), Authenticator(ORIGIN)
    await add_passkey(ada, key)
    good = key.get(await options(site))
    for member in ("id", "rawId", "response", "type"):
        for value in (None, 5, "", "\u00e9", "x" * 5000, [], {}):
            check_error(await enter(site, {**good, member: value}), 401)
    for member in ("clientDataJSON", "authenticatorData", "signature"):
        for value in (5, "AAAA", "!!!", "\u00e9", ["x"], "W1tbW1tb" * 200):
            broken = {**good, "response": {**good["response"], member: value}}
            check_error(await enter(site, broken), 401)
            check_error(await ada.call("POST", "/auth/passkeys", json=broken), 400)
    wanted = (await ada.call("POST", "/auth/passkeys/options", json={"password": PASSWORD})).json
    made = Authenticator(ORIGIN).create(wanted)
    for value in (5, "AAAA", "!!!", "gYGBgYGB" * 2000):
        broken = {**made, "response": {**made["response"], "attestationObject": value}}
        check_error(await ada.call("POST", "/auth/passkeys", json=broken), 400)
    for name in ("", " ", "x" * 101, 5, "a\nb"):
        check_error(await ada.call("POST", "/auth/passkeys", json={**made, "name": name}), 400)
    check_error(
        await ada.call("POST", "/auth/passkeys", json=Authenticator("https://evil.example").create(wanted)), 400
    )
    assert (await ada.call("POST", "/auth/passkeys", json=made)).status == 201
    check_error(await ada.call("POST", "/auth/passkeys", json=made), 400)
    eve = await site.user("eve")
    check_error(await eve.call("POST", "/auth/passkeys", json=made), 400)
    assert json.loads((await ada.call("GET", "/auth/me")).body)["factors"]["passkeys"] == 2


async def test_removing_a_passkey_needs_the_password_or_a_code(site: Registry):
    ada, key = await site.user(), Authenticator(ORIGIN)
    added = (await add_passkey(ada, key)).json
    path = f"/auth/passkeys/{added['id']}"
    eve = await site.user("eve")
    check_error(await eve.call("DELETE", path, json={"password": PASSWORD}), 404)
    for body in ({}, {"password": "wrong-password"}):
        assert (await ada.call("DELETE", path, json=body)).json["code"] == "confirmation_required"
    app, _ = await add_app(ada)
    assert (await ada.call("DELETE", path, json={"code": app.code()})).status == 204
    check_error(await enter(site, key.get(await options(site))), 401)
    assert (await challenge(site))["methods"] == ["totp", "recovery_code"]


async def test_passkeys_need_a_public_address_with_a_name(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_PUBLIC_URL="https://10.0.0.1")
    ada = await registry.user()
    for asked in (
        await ada.call("POST", "/auth/passkeys/options", json={"password": PASSWORD}),
        await registry.call("POST", "/auth/passkeys/login/options"),
        await registry.call("POST", "/auth/passkeys/login", json={}),
    ):
        assert asked.json["code"] == "passkeys_not_configured"
        check_error(asked, 501)
    assert (await log_in(registry)).status == 200
