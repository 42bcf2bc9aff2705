"""The environment of service processes that may be killed: everything is their own but the servers."""

import pytest

from registry.devstack.elasticsearch import Elasticsearch
from tests.faults import ALL
from tests.faults.fleet import without_search

collect_ignore = [] if ALL else ["test_under_load.py"]


@pytest.fixture
def environ(database_url: str, elasticsearch: Elasticsearch, index_prefix: str) -> dict[str, str]:
    """For `serving_process`: processes with the same variables and folder are processes of one registry."""
    return {
        **without_search(database_url),
        "REGISTRY_ES_URL": elasticsearch.url,
        "REGISTRY_ES_PREFIX": index_prefix,
    }
