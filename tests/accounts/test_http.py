"""Accounts over HTTP: register, sign in and out, verify tokens, change the password."""

import asyncio
import base64
from datetime import UTC, datetime, timedelta

import jwt

from registry.accounts import tokens
from registry.web.limits import MOST_FAILURES
from tests.client import PASSWORD, Answer, Registry
from tests.conftest import SECRET, MakeRegistry

NEW_PASSWORD = "Another-Horse-43"


async def register(registry: Registry, **fields: object) -> Answer:
    return await registry.call("POST", "/auth/register", json={"username": "ada", "password": PASSWORD, **fields})


async def login(registry: Registry, username: object = "ada", password: object = PASSWORD) -> Answer:
    return await registry.call("POST", "/auth/login", json={"username": username, "password": password})


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def forged(**claims: object) -> str:
    now = datetime.now(UTC)
    usual = {"sub": "1", "iat": now, "exp": now + timedelta(days=1), "jti": "x", "ver": 1}
    return jwt.encode({**usual, **claims}, SECRET, algorithm="HS256")


async def test_registration_returns_the_user(registry: Registry):
    answer = await register(registry, email="Ada@example.com")
    assert answer.status == 201
    assert answer.json["success"] is True
    user = answer.json["user"]
    assert isinstance(user["id"], int)
    assert (user["username"], user["email"]) == ("ada", "Ada@example.com")
    assert PASSWORD not in answer.body.decode()
    for name, email in (("none", None), ("empty", "")):
        other = await register(registry, username=name, email=email)
        assert (other.status, other.json["user"]["email"]) == (201, "")


async def test_names_and_addresses_are_unique_ignoring_case(registry: Registry):
    assert (await register(registry, email="ada@example.com")).status == 201
    for fields, field in (
        ({"username": "ADA"}, "username"),
        ({"username": "other", "email": "ADA@Example.Com"}, "email"),
    ):
        answer = await register(registry, **fields)
        assert (answer.status, answer.json["code"]) == (409, "user_exists")
        assert answer.json["errors"][0]["field"] == field


async def test_one_of_many_concurrent_registrations_of_a_name_succeeds(registry: Registry):
    answers = await asyncio.gather(*(register(registry, username=name) for name in ("ada", "Ada", "ADA", "aDA")))
    assert sorted(answer.status for answer in answers) == [201, 409, 409, 409]


async def test_an_invalid_registration_names_the_wrong_fields(registry: Registry):
    bad_names = ("", "ab", "a" * 51, "-ada", "ada-", "a b c", "ädä", "ada\n", "a.b.c", 5, None, ["ada"])
    bad_passwords = ("", "short", "password123", "12345678", "x" * 1025, 12345678, None)
    bad_emails = ("x", "a@b", "a b@c.de", "a@b..de", "@b.de", "a@", 5, "x" * 250 + "@b.de", "a@b.de\n")
    for field, values in (("username", bad_names), ("password", bad_passwords), ("email", bad_emails)):
        for value in values:
            answer = await register(registry, **{field: value})
            assert answer.status == 400, (field, value)
            assert [error["field"] for error in answer.json["errors"]] == [field], (field, value)
        for value in ("ada\0", "\ud800ada", "a@b.de\0"):
            assert (await register(registry, **{field: value})).status == 400, (field, value)
    everything = await register(registry, username="x", password="y", email="z")
    assert {error["field"] for error in everything.json["errors"]} == {"username", "password", "email"}
    assert {error["field"] for error in (await registry.call("POST", "/auth/register", json={})).json["errors"]} == {
        "username", "password",
    }  # fmt: skip
    same = await register(registry, username="Horse-Staple", password="horse-staple")
    assert same.json["errors"][0]["field"] == "password"


async def test_valid_names_and_passwords_are_accepted(registry: Registry):
    for name in ("a_b", "A-9", "x" * 50, "9__-9", "007"):
        assert (await register(registry, username=name)).status == 201, name
    for number, password in enumerate(("x" * 7 + "Q", "p" * 1024, "пароль-с-конём", "        .", "🐎" * 8)):
        name = f"user{number}"
        assert (await register(registry, username=name, password=password)).status == 201, password
        assert (await login(registry, name, password)).status == 200, password


async def test_a_login_is_valid_for_thirty_days(registry: Registry):
    made = (await register(registry, email="ada@example.com")).json["user"]
    for name in ("ada", "ADA", "ada@example.com", "Ada@EXAMPLE.com"):
        answer = await login(registry, name)
        assert answer.status == 200, name
        assert answer.json["success"] is True
        assert answer.json["user"] == made
        claims = jwt.decode(answer.json["token"], SECRET, algorithms=["HS256"])
        assert jwt.get_unverified_header(answer.json["token"])["alg"] == "HS256"
        assert set(claims) >= {"sub", "iat", "exp", "jti"}
        assert claims["exp"] - claims["iat"] == 30 * 24 * 3600
        expires_at = datetime.fromisoformat(answer.json["expires_at"])
        assert answer.json["expires_at"].endswith("Z")
        assert int(expires_at.timestamp()) == claims["exp"]
        assert answer.headers["Cache-Control"] == "no-store"


async def test_failed_logins_have_the_same_answer(registry: Registry):
    await register(registry)
    answers = [await login(registry, *tried) for tried in (
        ("ada", "wrong-password"), ("nobody", PASSWORD), ("ada", ""), ("", PASSWORD), ("nobody@example.com", "x"),
        ("ada", PASSWORD.lower()), ("%", PASSWORD), ("ada'--", PASSWORD), ("x" * 200, "y"),
    )]  # fmt: skip
    assert {answer.status for answer in answers} == {401}
    assert all(answer.headers["WWW-Authenticate"].startswith("Bearer") for answer in answers)
    texts = [{k: v for k, v in answer.json.items() if k != "request_id"} for answer in answers]
    assert all(text == texts[0] for text in texts)


async def test_an_invalid_body_is_400_415_or_413(registry: Registry):
    for path in ("/auth/register", "/auth/login"):
        for body in (b"", b"{", b"[]", b'"x"', b"null", b"\xff", b'{"username": "\\ud800"}', b"{}", b"[" * 100_000):
            answer = await registry.call("POST", path, data=body, headers={"Content-Type": "application/json"})
            assert answer.status == 400, (path, body[:20])
            assert answer.json["error"]
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            answer = await registry.call("POST", path, data=b"{}", headers={"Content-Type": kind})
            assert answer.status == 415, (path, kind)
        large = b'{"username": "' + b"x" * (1 << 20) + b'"}'
        answer = await registry.call("POST", path, data=large, headers={"Content-Type": "application/json"})
        assert answer.status == 413, path
    for username, password in ((5, PASSWORD), ("ada", 5), (None, PASSWORD), ("ada", None), ("ada", ["x"])):
        assert (await login(registry, username, password)).status == 400


async def test_me_returns_the_signed_in_user(registry: Registry):
    ada = await registry.user()
    answer = await ada.call("GET", "/auth/me")
    assert (answer.status, answer.json["user"]["username"]) == (200, "ada")
    assert (await registry.get("/auth/me")).status == 401


async def test_only_valid_bearer_tokens_are_accepted(registry: Registry):
    ada = await registry.user()
    for scheme in ("Bearer", "bearer", "BEARER", "BeArEr"):
        assert (await registry.get("/auth/me", headers={"Authorization": f"{scheme} {ada.token}"})).status == 200
    head, payload, signature = ada.token.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    claims = jwt.decode(ada.token, SECRET, algorithms=["HS256"])
    past = datetime.now(UTC) - timedelta(hours=1)
    for value in (
        "", "Bearer", "Bearer ", ada.token, f"Basic {ada.token}", f"Token {ada.token}", f"Bearer {ada.token}x",
        f"Bearer {none}.{payload}.", f"Bearer {none}.{payload}.{signature}", f"Bearer {head}.{payload}.",
        f"Bearer {jwt.encode(claims, SECRET, algorithm='HS512')}", f"Bearer {jwt.encode(claims, 'x' * 40)}",
        f"Bearer {forged(sub='1', exp=past)}", f"Bearer {forged(sub='999')}", f"Bearer {forged(sub='x')}",
        f"Bearer {forged(ver=7)}", f"Bearer {forged(sub='1', jti='a b')}", "Bearer syn_x", "Bearer é", "Bearer a b",
        "Bearer " + "x" * 5000, f"Bearer  {'.' * 20}", "Bearer \udcff", "Bearer null",
    ):  # fmt: skip
        answer = await registry.get("/auth/me", headers={"Authorization": value})
        assert answer.status == 401, value
        assert answer.headers["WWW-Authenticate"].startswith("Bearer"), value


async def test_verify_of_a_token_in_the_body_is_always_200(registry: Registry):
    ada = await registry.user()
    for method in ("POST", "GET"):
        answer = await registry.call(method, "/auth/verify", json={"token": ada.token})
        assert answer.status == 200
        assert answer.json["valid"] is True
        assert answer.json["user"]["username"] == "ada"
        for token in ("", "x", ada.token[:-1], "syn_x", forged(sub="99"), "a\u00e9", "x" * 9000, f"Bearer {ada.token}"):
            answer = await registry.call(method, "/auth/verify", json={"token": token})
            assert (answer.status, answer.json) == (200, {"valid": False}), token
            # The token in the body is checked, not the one in the header.
            assert (await ada.call(method, "/auth/verify", json={"token": token})).json == {"valid": False}


BLANKS = (" {} ", "{}\n", "\r\n{}\r\n", "\t{}", "\u00a0{}\u2028")


async def test_verify_ignores_blanks_and_line_breaks_around_a_token(registry: Registry):
    ada = await registry.user()
    api = (await ada.call("POST", "/auth/tokens", json={"name": "ci", "scopes": ["read"]})).json["token"]
    for token in (ada.token, api):
        for blank in BLANKS:
            answer = await registry.call("POST", "/auth/verify", json={"token": blank.format(token)})
            assert (answer.status, answer.json["valid"]) == (200, True), blank
        for value in (f"Bearer  {token}", f"Bearer\t{token} ", f" bearer \t {token}"):
            for path in ("/auth/me", "/auth/verify"):
                assert (await registry.get(path, headers={"Authorization": value})).status == 200, value


async def test_verify_refuses_an_address_that_sent_too_many_wrong_tokens(make_registry: MakeRegistry):
    registry = await make_registry(REGISTRY_RATE_LIMITS="read=1000/minute,register=off,login=off")
    ada = await registry.user()
    for _ in range(MOST_FAILURES):
        answer = await registry.call("POST", "/auth/verify", json={"token": tokens.make_api_token()})
        assert (answer.status, answer.json) == (200, {"valid": False})
    for more in ({"json": {"token": tokens.make_api_token()}}, {"headers": bearer(tokens.make_api_token())}):
        refused = await registry.call("POST", "/auth/verify", **more)
        assert (refused.status, refused.json["code"]) == (429, "rate_limited")
        assert "wrong credentials" in refused.json["detail"]
        assert ";r=0;" in refused.headers["RateLimit"]
    assert (await registry.call("POST", "/auth/verify", json={"token": ada.token})).json["valid"] is True


async def test_verify_of_the_header_alone_is_200_or_401(registry: Registry):
    ada = await registry.user()
    names = ("application/json", "text/plain", "", "application/x-www-form-urlencoded", "multipart/form-data")
    kinds = [{}, *({"Content-Type": name} for name in names)]
    for method in ("POST", "GET"):
        for kind in kinds:
            for body in (None, b""):
                good = await registry.call(method, "/auth/verify", data=body, headers={**bearer(ada.token), **kind})
                assert good.status == 200, (method, kind, body)
                assert good.json["valid"] is True
                assert good.json["user"]["username"] == "ada"
                bad = await registry.call(method, "/auth/verify", data=body, headers={**bearer("x"), **kind})
                assert bad.status == 401, (method, kind, body)
                nothing = await registry.call(method, "/auth/verify", data=body, headers=kind)
                assert nothing.status == 401, (method, kind, body)
                assert nothing.headers["WWW-Authenticate"].startswith("Bearer")
    assert (await ada.call("POST", "/auth/verify", json={})).status == 200
    assert (await registry.call("POST", "/auth/verify", json={})).status == 401
    assert (await ada.call("HEAD", "/auth/verify")).status == 200


async def test_verify_refuses_an_invalid_body(registry: Registry):
    ada = await registry.user()
    for body in ({"token": None}, {"token": 5}, [], "x"):
        assert (await ada.call("POST", "/auth/verify", json=body)).status == 400, body
    for body, kind, status in ((b"{", "application/json", 400), (b'{"token": "x"}', "text/plain", 415)):
        answer = await registry.call("POST", "/auth/verify", data=body, headers={"Content-Type": kind})
        assert answer.status == status


async def test_logout_ends_only_the_token_of_the_request(registry: Registry):
    ada = await registry.user()
    other = (await login(registry)).json["token"]
    answer = await ada.call("POST", "/auth/logout")
    assert (answer.status, answer.json["success"]) == (200, True)
    for path, method in (("/auth/me", "GET"), ("/auth/logout", "POST"), ("/auth/verify", "POST"), ("/packages", "GET")):
        assert (await ada.call(method, path)).status == 401, path
    assert (await registry.call("POST", "/auth/verify", json={"token": ada.token})).json == {"valid": False}
    assert (await registry.get("/auth/me", headers=bearer(other))).status == 200
    assert (await registry.call("POST", "/auth/logout")).status == 401


async def test_a_password_change_ends_all_tokens_but_the_new_one(registry: Registry):
    ada = await registry.user()
    other = (await login(registry)).json["token"]
    api = (await ada.call("POST", "/auth/tokens", json={"name": "ci", "scopes": ["publish"]})).json["token"]
    change = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    answer = await ada.call("POST", "/auth/password", json=change)
    assert answer.status == 200
    for token in (ada.token, other, api):
        assert (await registry.get("/auth/me", headers=bearer(token))).status == 401
    assert (await registry.get("/auth/me", headers=bearer(answer.json["token"]))).status == 200
    assert (await login(registry)).status == 401
    assert (await login(registry, password=NEW_PASSWORD)).status == 200


async def test_an_invalid_password_change_names_the_wrong_fields(registry: Registry):
    ada = await registry.user()
    for change, fields in (
        ({"current_password": "wrong-one", "new_password": NEW_PASSWORD}, {"current_password"}),
        ({"current_password": PASSWORD, "new_password": "short"}, {"new_password"}),
        ({"current_password": PASSWORD, "new_password": "password123"}, {"new_password"}),
        ({}, {"current_password", "new_password"}),
        ({"current_password": 5, "new_password": None}, {"current_password", "new_password"}),
    ):
        answer = await ada.call("POST", "/auth/password", json=change)
        assert answer.status == 400, change
        assert {error["field"] for error in answer.json["errors"]} == fields
    assert (await registry.call("POST", "/auth/password", json={})).status == 401
    assert (await ada.call("GET", "/auth/me")).status == 200


async def test_keys_are_rotated_without_ending_logins(make_registry: MakeRegistry):
    before = await make_registry(REGISTRY_SECRET_KEY="old-key-old-key-old-key-old-key-old-key")
    old = (await before.user()).token
    both = "new-key-new-key-new-key-new-key-new-key,old-key-old-key-old-key-old-key-old-key"
    during = await make_registry(REGISTRY_SECRET_KEY=both)
    assert (await during.get("/auth/me", headers=bearer(old))).status == 200
    new = (await login(during)).json["token"]
    after = await make_registry(REGISTRY_SECRET_KEY=both.split(",")[0])
    assert (await after.get("/auth/me", headers=bearer(new))).status == 200
    assert (await after.get("/auth/me", headers=bearer(old))).status == 401
