"""The model of the installed wheel, in a folder of its own, and a stand-in for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.search.meaning.files import install
from registry.search.meaning.model import Model, open_model
from tests.search.meaning.slow import SlowModel


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    install(folder)
    return folder


@pytest.fixture(scope="session")
def model(model_folder: Path) -> Model:
    return open_model(model_folder)


@pytest.fixture
def slow() -> Iterator[SlowModel]:
    model = SlowModel()
    yield model
    model.go.set()
