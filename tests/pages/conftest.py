"""A registry that is filled for pages. All tests of a session share it, so they must not change it."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio
from ephemeral_port_reserve import reserve

from registry.devstack.elasticsearch import Elasticsearch
from registry.devstack.postgres import Postgres
from registry.settings import Settings
from tests.client import remove_indices
from tests.conftest import LOG_KEY, SECRET, new_database
from tests.mail.server import mail_server
from tests.pages.seed import SETTINGS, Seeded, fill, until_indexed
from tests.service import Service, serving_process


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def seeded(
    postgres: Postgres, elasticsearch: Elasticsearch, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Seeded]:
    """The filled registry, as a process of its own, once search finds everything."""
    folder = tmp_path_factory.mktemp("pages")
    async with _settings(postgres, elasticsearch, folder) as settings:
        filled = await fill(settings)
        async with serving_process(folder, **settings):
            await until_indexed(filled.db_url)
            yield filled


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def playground(
    postgres: Postgres, elasticsearch: Elasticsearch, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    """A registry for tests that change something. They share it, so they make users and packages of their own."""
    folder = tmp_path_factory.mktemp("playground")
    async with _settings(postgres, elasticsearch, folder) as settings, serving_process(folder, **settings) as service:
        yield service


@contextlib.asynccontextmanager
async def _settings(postgres: Postgres, elasticsearch: Elasticsearch, folder: Path) -> AsyncIterator[dict[str, str]]:
    """The settings of a registry with a database of its own. Its search indices are removed at the end."""
    async with mail_server() as mailbox, contextlib.AsyncExitStack() as stack:
        db_url = stack.enter_context(new_database(postgres, "synapse"))
        settings = {
            **SETTINGS,
            "REGISTRY_SMTP_URL": mailbox.url,
            "REGISTRY_PORT": str(reserve()),
            "REGISTRY_DB_URL": db_url,
            "REGISTRY_ES_URL": elasticsearch.url,
            "REGISTRY_ES_PREFIX": f"p{uuid4().hex[:12]}-",
            "REGISTRY_STORAGE_PATH": str(folder / "storage"),
            "REGISTRY_SPOOL_PATH": str(folder / "spool"),
            "REGISTRY_SECRET_KEY": SECRET,
            "REGISTRY_LOG_KEY": LOG_KEY,
        }
        yield settings
        await remove_indices(Settings.read(settings).search)
