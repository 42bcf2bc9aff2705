"""The environment of service processes that may be killed: everything is their own but the servers."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from registry.devstack.elasticsearch import Elasticsearch
from registry.settings import Settings
from tests.client import remove_indices
from tests.conftest import ITERATIONS, SECRET
from tests.faults import ALL

collect_ignore = [] if ALL else ["test_under_load.py"]


@pytest.fixture
async def environ(database_url: str, elasticsearch: Elasticsearch) -> AsyncIterator[dict[str, str]]:
    """For `serving_process`: processes with the same variables and folder are processes of one registry."""
    variables = {
        "REGISTRY_DB_URL": database_url,
        "REGISTRY_ES_URL": elasticsearch.url,
        "REGISTRY_ES_PREFIX": f"t{uuid4().hex[:12]}-",
        "REGISTRY_SECRET_KEY": SECRET,
        "REGISTRY_PBKDF2_ITERATIONS": ITERATIONS,
        "REGISTRY_RATE_LIMITS": "off",
        "REGISTRY_SHUTDOWN_GRACE": "1s",
    }
    yield variables
    await remove_indices(Settings.read(variables).search)
