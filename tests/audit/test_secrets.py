"""No password, token, code or secret is in the audit log, in a queued mail, or in a line of the log."""

import logging

import pytest

from registry.db.engine import Statement
from registry.keys import DB
from tests.client import PASSWORD, Registry
from tests.conftest import MakeRegistry
from tests.factors.conftest import App, answer, challenge, log_in
from tests.mail.server import mail_server, token_of
from tests.mail.test_mail_http import ADA

FRESH = "Another-Horse-43"
WRITTEN = Statement(
    "SELECT string_agg(row::text, E'\\n') FROM (SELECT to_jsonb(a) AS row FROM audit_entries AS a "
    "UNION ALL SELECT to_jsonb(j) FROM jobs AS j UNION ALL SELECT to_jsonb(t) FROM mail_tokens AS t "
    "UNION ALL SELECT to_jsonb(s) FROM totp_secrets AS s UNION ALL SELECT to_jsonb(c) FROM recovery_codes AS c "
    "UNION ALL SELECT to_jsonb(l) FROM login_challenges AS l UNION ALL SELECT to_jsonb(s) FROM sessions AS s "
    "UNION ALL SELECT to_jsonb(u) FROM users AS u UNION ALL SELECT to_jsonb(p) FROM password_failures AS p) AS rows",
    {},
)


async def secrets_of(registry: Registry, reset_token: str) -> set[str]:
    """Uses every kind of secret, right and wrong. Returns all of them."""
    ada = await registry.user("ada", email=ADA)
    found = {PASSWORD, FRESH, ada.token, reset_token, "wrong-password-1", "wrong-password-2", "no-such-code-9"}
    await log_in(registry, "ada", "wrong-password-1")
    await log_in(registry, "wrong-password-2", "x")
    token = (await ada.call("POST", "/auth/tokens", json={"name": "ci", "scopes": ["read"]})).json["token"]
    await registry.call("POST", "/auth/tokens/report", json={"token": token, "url": f"https://x.example/?q={token}"})
    await ada.call("POST", "/auth/totp", json={"password": "wrong-password-1"})
    made = (await ada.call("POST", "/auth/totp", json={"password": PASSWORD})).json
    app = App(made["secret"])
    code = app.code()
    codes = (await ada.call("POST", "/auth/totp/confirm", json={"code": code})).json["recovery_codes"]
    asked = (await challenge(registry))["challenge"]
    await answer(registry, asked, code="no-such-code-9")
    await answer(registry, asked, code=codes[0])
    await registry.call("POST", "/auth/password/reset/confirm", json={"token": reset_token, "password": FRESH})
    return found | {token, made["secret"], asked, *codes, *(each.replace("-", "") for each in codes)}


async def test_no_secret_is_written(make_registry: MakeRegistry, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    async with mail_server() as mailbox:
        registry = await make_registry(REGISTRY_SMTP_URL=mailbox.url)
        await registry.user("ada", email=ADA)
        assert (await registry.call("POST", "/auth/password/reset", json={"email": ADA})).status == 202
        reset_token = token_of(await mailbox.wait_for(ADA, "Reset your password"))
        secrets = await secrets_of(registry, reset_token)
        async with registry.app[DB].read() as conn:
            rows = await conn.value(WRITTEN)
    assert "password.reset" in rows
    ours = [record for record in caplog.records if record.name.startswith("registry")]
    assert any(record.getMessage() == "password reset by mail" for record in ours)
    written = rows + "\n".join(str(vars(record)) for record in caplog.records if not record.name.startswith("mail.log"))
    assert [secret for secret in secrets if secret in written] == []
