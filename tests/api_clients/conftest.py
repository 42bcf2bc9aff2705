import os
from pathlib import Path

import pytest

from tests.api_clients import node
from tests.servers import cache_folder


@pytest.fixture(scope="session")
def node_packages() -> Path:
    """The folder `node_modules` with the packages of package-lock.json."""
    return node.packages(cache_folder(os.environ))
