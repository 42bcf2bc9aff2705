"""The environment of service processes that may be killed: everything is their own but the servers."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from registry.devstack.elasticsearch import Elasticsearch
from registry.settings import Settings
from tests.client import remove_indices
from tests.faults import ALL
from tests.faults.fleet import without_search

collect_ignore = [] if ALL else ["test_under_load.py"]


@pytest.fixture
async def environ(database_url: str, elasticsearch: Elasticsearch) -> AsyncIterator[dict[str, str]]:
    """For `serving_process`: processes with the same variables and folder are processes of one registry."""
    variables = {
        **without_search(database_url),
        "REGISTRY_ES_URL": elasticsearch.url,
        "REGISTRY_ES_PREFIX": f"t{uuid4().hex[:12]}-",
    }
    yield variables
    await remove_indices(Settings.read(variables).search)
