"""The receiver, and a registry that may send to it."""

from collections.abc import AsyncIterator

import pytest

from tests.client import Registry
from tests.conftest import MakeRegistry
from tests.webhooks.receiver import LOCAL, Receiver, receiving


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as each:
        yield each


@pytest.fixture
async def sending(make_registry: MakeRegistry) -> Registry:
    return await make_registry(**LOCAL)
