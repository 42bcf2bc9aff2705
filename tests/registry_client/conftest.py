"""Fixtures of the client's tests: users with homes of their own, and servers that a test controls."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.registry_client.commands import User
from tests.registry_client.stand_in import Handler, StandIn

MakeUser = Callable[..., User]
MakeStandIn = Callable[[Handler], StandIn]


@pytest.fixture
def make_user(tmp_path: Path) -> MakeUser:
    """Makes a user. `url` is their SYNAPSE_REGISTRY_URL; other keywords are further variables."""
    made: list[User] = []

    def make(url: str = "", **environ: str) -> User:
        made.append(User(tmp_path / f"home{len(made)}", url, **environ))
        return made[-1]

    return make


@pytest.fixture
def stand_in() -> Iterator[MakeStandIn]:
    """Starts a stand-in that answers with the given function."""
    with ExitStack() as stack:
        yield lambda handler: stack.enter_context(StandIn(handler).running())
