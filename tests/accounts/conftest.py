from datetime import UTC, datetime

import pytest

from registry.accounts.identity import Principal, User
from registry.accounts.login import login
from registry.accounts.register import register
from registry.db.engine import Database
from registry.setting_parts import AccountSettings
from tests.accounts.authenticating import authenticate

PASSWORD = "Correct-Horse-42"


@pytest.fixture
async def ada(db: Database, settings: AccountSettings) -> User:
    return await register(db, settings, "Ada", PASSWORD, "ada@example.com")


@pytest.fixture
async def ada_token(db: Database, settings: AccountSettings, ada: User) -> str:
    return (await login(db, settings, "ada", PASSWORD))[1]


@pytest.fixture
async def ada_login(db: Database, settings: AccountSettings, ada_token: str) -> Principal:
    return await authenticate(db, settings, ada_token)


@pytest.fixture
def user() -> User:
    """A user that is not in the database."""
    return User(7, "ada", None, "user", True, 3, datetime.now(UTC), None)
