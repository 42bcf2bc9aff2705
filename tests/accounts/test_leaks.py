"""Tokens found in public: anyone can report one, which revokes it."""

import hashlib
import re
import string
import zlib
from pathlib import Path

import pytest

from registry.accounts import tokens
from tests.accounts.test_access_http import make, token_of
from tests.accounts.test_http import BLANKS
from tests.client import Answer, Registry
from tests.conftest import MakeRegistry
from tests.web.shape import check_error

PLACE = "https://git.example/ada/demo/blob/main/.env"
SECURITY = Path(__file__).parent.parent.parent / "docs" / "security.md"


async def report(registry: Registry, body: object) -> Answer:
    return await registry.call("POST", "/auth/tokens/report", json=body)


async def test_a_reported_api_token_is_revoked_and_its_owner_sees_where_it_was_found(registry: Registry):
    ada, eve = await registry.user("ada"), await registry.user("eve")
    token, other = await token_of(ada), await token_of(ada, name="other")
    answer = await report(registry, {"token": token.token, "url": PLACE, "source": "content"})
    assert answer.status == 200
    assert answer.json == [
        {
            "token_hash": hashlib.sha256(token.token.encode()).hexdigest(),
            "token_type": "synapse_registry_token",
            "label": "true_positive",
        }
    ]
    refused = await token.call("GET", "/auth/me")
    check_error(refused, 401)
    assert "found in public" in refused.json["detail"]
    assert (await token.put("demo", "1.0.0")).status == 401
    assert (await other.call("GET", "/auth/me")).status == 200
    listed = {each["name"]: each for each in (await ada.call("GET", "/auth/tokens")).json["tokens"]}
    assert (listed["ci"]["reported_url"], listed["ci"]["reported_source"]) == (PLACE, "content")
    assert listed["ci"]["reported_at"].endswith("Z")
    assert (listed["other"]["reported_at"], listed["other"]["reported_url"]) == (None, "")
    assert (await eve.call("GET", "/auth/tokens")).json == {"tokens": []}


async def test_reporting_again_changes_nothing(registry: Registry):
    ada = await registry.user()
    token = await token_of(ada)
    first = await report(registry, {"token": token.token, "url": PLACE})
    kept = (await ada.call("GET", "/auth/tokens")).body
    again = await report(registry, {"token": token.token, "url": "https://elsewhere.example"})
    assert again.body == first.body
    assert (await ada.call("GET", "/auth/tokens")).body == kept


async def test_reporting_a_login_revokes_only_that_login(registry: Registry):
    ada = await registry.user()
    body = {"username": "ada", "password": "Correct-Horse-42"}
    other = (await registry.call("POST", "/auth/login", json=body)).json["token"]
    for _ in range(2):
        assert (await report(registry, {"token": ada.token})).json[0]["label"] == "true_positive"
    assert (await ada.call("GET", "/auth/me")).status == 401
    assert (await registry.get("/auth/me", headers={"Authorization": f"Bearer {other}"})).status == 200


@pytest.mark.parametrize("blank", BLANKS)
async def test_blanks_around_a_reported_token_are_ignored(blank: str, registry: Registry):
    ada = await registry.user()
    token = await token_of(ada)
    for leaked in (token, ada):
        answer = await report(registry, {"token": blank.format(leaked.token)})
        assert answer.json[0]["label"] == "true_positive"
        assert (await leaked.call("GET", "/auth/me")).status == 401


async def test_each_alert_of_a_list_is_answered(registry: Registry):
    token = await token_of(await registry.user())
    unknown = tokens.make_api_token()
    texts = [unknown, token.token, "syn_x", "a.b.c", "é", " ", f" {token.token}\n", "x" * 9000]
    alerts = [{"token": text, "type": "kind", "url": PLACE, "source": "commit"} for text in texts]
    answer = await report(registry, alerts)
    assert [(each["token_hash"], each["token_type"]) for each in answer.json] == [
        (hashlib.sha256(text.encode()).hexdigest(), "kind") for text in texts
    ]
    false, true = "false_positive", "true_positive"
    assert [each["label"] for each in answer.json] == [false, true, false, false, false, false, true, false]
    assert token.token not in answer.body.decode()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "token"),
        ({"token": 5}, "token"),
        ({"token": ""}, "token"),
        ({"token": "x", "url": 5}, "url"),
        ([], "alerts"),
        ([{"token": "x"}] * 101, "alerts"),
        ([{"token": "x"}, {}], "alerts.1.token"),
        ([5], "alerts.0"),
        ("x", None),
        (5, None),
    ],
)
async def test_an_invalid_report_is_400(registry: Registry, body: object, field: str | None):
    answer = await report(registry, body)
    check_error(answer, 400)
    assert [error["field"] for error in answer.json.get("errors", [])] == ([field] if field else [])


async def test_no_secret_is_stored_or_logged_with_a_report(registry: Registry, caplog: pytest.LogCaptureFixture):
    caplog.set_level("DEBUG")
    ada = await registry.user()
    token = await token_of(ada)
    place = f"https://paste.example/?q={token.token}&" + "x" * 9000
    assert (await report(registry, {"token": token.token, "url": place, "source": token.token})).status == 200
    await report(registry, {"token": ada.token, "url": f"{PLACE}#{ada.token}"})
    records = str([vars(record) for record in caplog.records])
    assert "leaked api token revoked" in caplog.messages
    assert "leaked login revoked" in caplog.messages
    assert token.token not in records
    assert ada.token not in records
    body = {"username": "ada", "password": "Correct-Horse-42"}
    again = (await registry.call("POST", "/auth/login", json=body)).json["token"]
    listed = await registry.get("/auth/tokens", headers={"Authorization": f"Bearer {again}"})
    assert listed.json["tokens"][0]["reported_url"].startswith("https://paste.example/?q=…&")
    assert len(listed.json["tokens"][0]["reported_url"]) == 500
    assert token.token not in listed.body.decode()


async def test_reports_have_a_limit_of_their_own(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_RATE_LIMITS="report=1/hour")
    assert (await report(registry, {"token": "x"})).status == 200
    check_error(await report(registry, {"token": "x"}), 429)


async def test_a_private_registry_accepts_reports_from_strangers(make_registry: MakeRegistry):
    private = await make_registry(REGISTRY_ACCESS="private")
    assert (await report(private, {"token": "syn_x"})).json[0]["label"] == "false_positive"


async def test_a_deleted_token_is_a_false_positive(registry: Registry):
    ada = await registry.user()
    made = (await make(ada)).json
    await report(registry, {"token": made["token"]})
    assert (await ada.call("DELETE", f"/auth/tokens/{made['id']}")).status == 204
    assert (await report(registry, {"token": made["token"]})).json[0]["label"] == "false_positive"


def test_tokens_match_the_documented_pattern():
    [pattern] = re.findall(r"```\n(.+)\n```", SECURITY.read_text("utf-8"))
    digits = string.digits + string.ascii_uppercase + string.ascii_lowercase
    for _ in range(200):
        token = tokens.make_api_token()
        assert re.search(pattern, f'TOKEN="{token}"')
        check = 0
        for digit in token[34:]:
            check = check * 62 + digits.index(digit)
        assert check == zlib.crc32(token[4:34].encode())
    assert not re.search(pattern, "syn_" + "a" * 37)
