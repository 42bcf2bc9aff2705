import os
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from datetime import UTC, datetime
from uuid import uuid4

import psycopg2
import pytest
import sqlalchemy as sa

from registry.accounts.authenticate import authenticate
from registry.accounts.identity import Principal, User
from registry.accounts.login import login
from registry.accounts.register import register
from registry.db.engine import Database, open_database
from registry.db.tables import metadata
from registry.devstack.postgres import Postgres
from registry.settings import AccountSettings, Settings

PASSWORD = "Correct-Horse-42"


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with Postgres(tmp_path_factory.mktemp("postgres"), durable=False, environ=os.environ) as server:
        engine = sa.create_engine(sa.make_url(server.url()).set(drivername="postgresql+psycopg2"))
        metadata.create_all(engine)
        engine.dispose()
        yield server


@pytest.fixture
async def db(postgres: Postgres) -> AsyncIterator[Database]:
    """A database of its own, with every table."""
    name = f"test_{uuid4().hex}"
    with closing(psycopg2.connect(postgres.url("postgres"))) as connection:
        connection.autocommit = True
        connection.cursor().execute(f"CREATE DATABASE {name} TEMPLATE synapse")
    settings = Settings.read({"REGISTRY_DB_URL": postgres.url(name)})
    async with open_database(settings.database) as database:
        yield database


@pytest.fixture
def settings() -> AccountSettings:
    read = Settings.read({"REGISTRY_SECRET_KEY": "k" * 40, "REGISTRY_PBKDF2_ITERATIONS": "100000"})
    return read.accounts


@pytest.fixture
async def ada(db: Database, settings: AccountSettings) -> User:
    return await register(db, settings, "Ada", PASSWORD, "ada@example.com")


@pytest.fixture
async def ada_token(db: Database, settings: AccountSettings, ada: User) -> str:
    return (await login(db, settings, "ada", PASSWORD))[1]


@pytest.fixture
async def ada_login(db: Database, settings: AccountSettings, ada_token: str) -> Principal:
    principal = await authenticate(db, settings, f"Bearer {ada_token}")
    assert principal is not None
    return principal


@pytest.fixture
def user() -> User:
    """A user of no database."""
    return User(7, "ada", None, "user", True, 3, datetime.now(UTC))
