"""Opening, checking and installing a model, and its vectors."""

import math
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from registry.errors import StackError
from registry.search.meaning import files
from registry.search.meaning.files import KNOWN_MODEL, install, sha256
from registry.search.meaning.model import Model, open_model
from tests.service import run_command


def floats(vector: bytes) -> list[float]:
    """The numbers of a vector in bfloat16."""
    return [struct.unpack(">f", vector[at : at + 2] + b"\0\0")[0] for at in range(0, len(vector), 2)]


def cosine(one: bytes, other: bytes) -> float:
    return sum(a * b for a, b in zip(floats(one), floats(other), strict=True))


def test_vectors_have_the_length_one_and_are_near_for_similar_meanings(model: Model) -> None:
    query, screen, library = model.encode(
        ["make the monitor warmer at night", "redshift: Adjusts the color temperature of your screen", "GNU C library"]
    )
    assert len(query) == 2 * 384
    assert math.sqrt(cosine(query, query)) == pytest.approx(1, abs=0.01)
    assert cosine(query, screen) > 0.5 > 0.1 > cosine(query, library)


def test_a_text_has_the_same_vector_alone_and_among_others(model: Model) -> None:
    texts = [f"{'very ' * number}long text" for number in range(40)]
    together = model.encode(texts)
    for number in (0, 7, 39):
        assert cosine(together[number], model.encode([texts[number]])[0]) == pytest.approx(1, abs=0.01)


def test_rounding_keeps_the_upper_half_of_each_number() -> None:
    import numpy as np

    from registry.search.meaning.model import _bfloat16

    numbers = np.array([1.0, -0.5, 0.1, 1.00390625], dtype=np.float32)
    assert floats(_bfloat16(np, numbers)) == [1.0, -0.5, 0.10009765625, 1.0]


def changed(folder: Path, tmp_path: Path, name: str, content: bytes) -> Path:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / name).write_bytes(content)
    return copy


def test_another_model_needs_its_own_sum(model_folder: Path, tmp_path: Path) -> None:
    folder = changed(model_folder, tmp_path, "model.onnx", b"not a model")
    with pytest.raises(ValueError, match=f"has the SHA-256 .*, not {KNOWN_MODEL}"):
        open_model(folder)
    with pytest.raises(ValueError, match="is no sentence model that works here"):
        open_model(folder, sha256(folder / "model.onnx"))
    assert open_model(model_folder, KNOWN_MODEL).id == open_model(model_folder).id


def test_the_known_model_needs_its_own_vocabulary(model_folder: Path, tmp_path: Path) -> None:
    folder = changed(model_folder, tmp_path, "vocab.txt", b"[UNK]\n[CLS]\n[SEP]\n[PAD]\n")
    with pytest.raises(ValueError, match="not the vocabulary of this model"):
        open_model(folder)


@pytest.mark.parametrize(
    ("vocabulary", "problem"),
    [
        ("{known}\none more piece", "is no sentence model that works here with this vocabulary"),
        ("[UNK]\n[SEP]\n[PAD]", r"is not a vocabulary of word pieces: it has no piece \[CLS\]"),
    ],
)
def test_a_vocabulary_that_does_not_belong_to_the_model_is_refused(
    model_folder: Path, tmp_path: Path, vocabulary: str, problem: str
) -> None:
    known = (model_folder / "vocab.txt").read_text(encoding="utf-8").rstrip("\n")
    folder = changed(model_folder, tmp_path, "vocab.txt", vocabulary.format(known=known).encode())
    with (folder / "model.onnx").open("ab") as model:
        model.write(b"2\1x")  # a comment: the same model with another sum
    with pytest.raises(ValueError, match=problem):
        open_model(folder, sha256(folder / "model.onnx"))
    shutil.copy(model_folder / "vocab.txt", folder)
    assert open_model(folder, sha256(folder / "model.onnx"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.onnx can't be read \(No such file or directory\)"):
        open_model(tmp_path)


def test_a_missing_package_is_named(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match="onnxruntime is not installed; run pip install"):
        open_model(model_folder)


def test_an_installation_is_complete_and_a_second_one_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "model"
    assert install(folder)
    assert sorted(file.name for file in folder.iterdir()) == ["LICENSE", "model.onnx", "vocab.txt"]
    written = (folder / "model.onnx").stat().st_ino
    assert not install(folder)
    assert (folder / "model.onnx").stat().st_ino == written
    (folder / "vocab.txt").unlink()
    assert install(folder)
    assert open_model(folder).id


@pytest.mark.parametrize("name", ["LICENSE", "model.onnx", "vocab.txt"])
def test_an_installation_never_replaces_a_file_with_other_content(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("ours")
    with pytest.raises(StackError, match=f"{name} has other content"):
        install(tmp_path)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [(name, "ours")]


def test_another_model_in_the_package_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "KNOWN_MODEL", "0" * 64)
    with pytest.raises(StackError, match="is not the expected model"):
        install(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_an_installation_without_the_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "WHEEL", "no_such_package")
    with pytest.raises(StackError, match="The package with the model is not installed"):
        install(tmp_path)


async def test_the_command_installs_the_model_and_says_what_to_set(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    status, out, err = await run_command(tmp_path, "search-model", "install", str(folder))
    assert (status, err) == (0, "")
    assert f"Set REGISTRY_SEARCH_MODEL={folder} " in out
    assert sha256(folder / "model.onnx") == KNOWN_MODEL


async def test_the_command_says_why_a_folder_cannot_be_used(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    status, out, err = await run_command(tmp_path, "search-model", "install", str(file))
    assert (status, out) == (1, "")
    assert err == f"{file} can't be written (File exists).\n"


def test_without_a_model_the_service_does_not_need_its_packages() -> None:
    code = "import sys; sys.modules.update(numpy=None, onnxruntime=None); import registry.app, registry.worker"
    subprocess.run([sys.executable, "-c", code], check=True)
    code = "import sys, registry.app, registry.worker; print('onnxruntime' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
