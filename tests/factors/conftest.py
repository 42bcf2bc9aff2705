from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyotp
import pytest

from tests.client import PASSWORD, Answer, Registry, User
from tests.conftest import MakeRegistry
from tests.factors.authenticator import Authenticator

ORIGIN = "https://registry.example"


@pytest.fixture
async def site(make_registry: MakeRegistry) -> Registry:
    """A registry with a public address, so that passkeys work."""
    return await make_registry(REGISTRY_PUBLIC_URL=ORIGIN)


@dataclass
class App:
    """An authenticator app. `code()` never shows the same code twice."""

    secret: str
    used: set[int] = field(default_factory=set)

    def code(self) -> str:
        """A code that is good now and was not shown before: of this time step, the one after, or the one before."""
        current = int(datetime.now(UTC).timestamp()) // 30
        step = next(step for step in (current, current + 1, current - 1) if step not in self.used)
        self.used.add(step)
        return self.of(step)

    def of(self, step: int) -> str:
        return pyotp.TOTP(self.secret).generate_otp(step)

    def wrong(self) -> str:
        """A code that is not good."""
        current = int(datetime.now(UTC).timestamp()) // 30
        good = {self.of(step) for step in range(current - 3, current + 4)}
        return next(code for code in ("000000", "111111", "222222", "333333", "444444", "555555", "666666", "777777")
                    if code not in good)  # fmt: skip


async def add_app(user: User, **proof: Any) -> tuple[App, list[str]]:
    """Adds an authenticator app. Returns it, and the recovery codes."""
    made = await user.call("POST", "/auth/totp", json=proof or {"password": PASSWORD})
    assert made.status == 200, made.body
    app = App(made.json["secret"])
    confirmed = await user.call("POST", "/auth/totp/confirm", json={"code": app.code()})
    assert confirmed.status == 200, confirmed.body
    return app, confirmed.json["recovery_codes"]


async def add_passkey(user: User, authenticator: Authenticator, **proof: Any) -> Answer:
    options = await user.call("POST", "/auth/passkeys/options", json=proof or {"password": PASSWORD})
    assert options.status == 200, options.body
    answer = await user.call("POST", "/auth/passkeys", json={**authenticator.create(options.json), "name": "Laptop"})
    assert answer.status == 201, answer.body
    return answer


async def log_in(registry: Registry, username: str = "ada", password: str = PASSWORD) -> Answer:
    return await registry.call("POST", "/auth/login", json={"username": username, "password": password})


async def answer(registry: Registry, challenge: str, **factor: Any) -> Answer:
    return await registry.call("POST", "/auth/login", json={"challenge": challenge, **factor})


async def challenge(registry: Registry, username: str = "ada") -> Any:
    """The first step of a login: the body of the answer that asks for a second factor."""
    asked = await log_in(registry, username)
    assert (asked.status, asked.json["code"]) == (401, "second_factor_required"), asked.body
    return asked.json


async def is_signed_in(registry: Registry, token: str) -> bool:
    return (await registry.get("/auth/me", headers={"Authorization": f"Bearer {token}"})).status == 200
