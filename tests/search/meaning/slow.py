"""A stand-in for the model that waits until the test lets it answer."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from registry.search.meaning.wordpiece import Vocabulary

PIECES = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "red", "green", "blue", *(f"word{number}" for number in range(100))]


@dataclass
class SlowModel:
    """Answers when `go` is set, with `failure` if there is one. `asked` are the texts that it got."""

    id: str = "slow"
    vocabulary: Vocabulary = field(default_factory=lambda: Vocabulary(PIECES))
    go: threading.Event = field(default_factory=threading.Event)
    asked: list[str] = field(default_factory=list)
    failure: Exception | None = None

    def encode(self, texts: Sequence[str]) -> list[bytes]:
        if texts != [""]:  # the encoder asks for the size of a vector
            self.asked += texts
            self.go.wait(20)
            if self.failure:
                raise self.failure
        return [b"\x3f\x80" for _ in texts]
