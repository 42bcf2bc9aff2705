"""A sentence model: turns texts into vectors, such that texts of similar meaning have similar vectors.

onnxruntime and numpy belong to the extra `semantic`. They are imported when a model is opened, never without one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from registry.search.meaning.files import EXTRA, MODEL, VOCABULARY, checked_sums
from registry.search.meaning.wordpiece import Vocabulary

MOST_PIECES = 64
# More texts at once are not faster.
AT_ONCE = 16
# Elasticsearch indexes no longer vectors.
MOST_DIMENSIONS = 4096
BYTES_PER_NUMBER = 2
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True)
class Model:
    """An opened model. Its methods may run in several threads at once.

    `id` stands for everything that the vector of a text depends on: the model, its vocabulary and how they are used.
    """

    id: str
    vocabulary: Vocabulary
    session: Any
    inputs: tuple[str, ...]

    def encode(self, texts: Sequence[str]) -> list[bytes]:
        """The vectors of the texts: numbers in bfloat16, big-endian. Each vector has the length 1.

        Takes about 3 ms for each text.
        """
        pieces = [self.vocabulary.numbers(text, MOST_PIECES) for text in texts]
        # Texts of a batch are padded to the longest one, so texts of similar length share a batch.
        order = sorted(range(len(texts)), key=lambda place: len(pieces[place]))
        found: dict[int, bytes] = {}
        for start in range(0, len(order), AT_ONCE):
            batch = order[start : start + AT_ONCE]
            found |= zip(batch, self._encode_batch([pieces[place] for place in batch]), strict=True)
        return [found[place] for place in range(len(texts))]

    def _encode_batch(self, pieces: Sequence[Sequence[int]]) -> list[bytes]:
        import numpy as np

        numbers = np.zeros((len(pieces), max(map(len, pieces))), dtype=np.int64)
        mask = np.zeros_like(numbers)
        for row, each in enumerate(pieces):
            numbers[row, : len(each)] = each
            mask[row, : len(each)] = 1
        given = dict(zip(INPUTS, (numbers, mask, np.zeros_like(numbers)), strict=True))
        states = self.session.run(None, {name: given[name] for name in self.inputs})[0]
        sums = (states * mask[:, :, None]).sum(axis=1)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        return [_bfloat16(np, vector) for vector in sums / np.maximum(lengths, 1e-9)]


def _bfloat16(np: Any, vector: Any) -> bytes:
    """The upper half of each 32-bit number, rounded to the nearest."""
    bits = vector.astype(np.float32).view(np.uint32).astype(np.uint64)
    return bytes(((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(">u2").tobytes())


def open_model(folder: Path, wanted_sha256: str = "") -> Model:
    """Opens the model in `folder`. Raises ValueError with what is wrong with it or with the installation."""
    model_sum, vocabulary_sum = checked_sums(folder, wanted_sha256)
    try:
        import numpy  # noqa: F401 - the session needs it
        import onnxruntime
    except ImportError as missing:
        raise ValueError(f"the package {missing.name} is not installed; run {EXTRA}") from None
    identity = sha256(f"{model_sum} {vocabulary_sum} {MOST_PIECES}".encode()).hexdigest()[:16]
    try:
        vocabulary = Vocabulary.read(folder / VOCABULARY)
    except ValueError as wrong:
        raise ValueError(f"{folder / VOCABULARY} is not a vocabulary of word pieces: {wrong}") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # the error that is raised says the same
    try:
        session = onnxruntime.InferenceSession(folder / MODEL, options, providers=["CPUExecutionProvider"])
        inputs = tuple(each.name for each in session.get_inputs())
        model = Model(identity, vocabulary, session, inputs)
        # A short text, and the longest one with the last piece of the vocabulary.
        size = len(model._encode_batch([[0], [vocabulary.last] * MOST_PIECES])[0])
    except Exception as error:  # onnxruntime has many kinds of errors, and all mean that this model can't be used
        raise ValueError(
            f"{folder / MODEL} is no sentence model that works here with this vocabulary ({type(error).__name__})"
        ) from error
    if not 0 < size <= MOST_DIMENSIONS * BYTES_PER_NUMBER:
        raise ValueError(f"{folder / MODEL} makes vectors of {size // BYTES_PER_NUMBER} numbers")
    return model


def require_model(folder: Path, wanted_sha256: str = "") -> None:
    """Raises ValueError with what the setting wants if the model in `folder` can't be used."""
    try:
        open_model(folder, wanted_sha256)
    except ValueError as problem:
        raise ValueError(f"the folder of a model that can be used: {problem}") from problem


def text_of(name: str, description: str) -> str:
    """The text that stands for a package. With its keywords, the results were worse."""
    return f"{name}: {description}"
