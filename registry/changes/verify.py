"""Checks the log of changes: its hash chain, and the checkpoints that cover it. Knows neither database nor HTTP."""

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from registry.changes.chain import FIRST, link
from registry.changes.keys import decode, encode, is_signed, signed_part, vouched_for


class DoesNotFit(Exception):
    """The log was changed. `seq` is the first one that does not fit; None if a key or a signature does not fit."""

    def __init__(self, seq: int | None, reason: str) -> None:
        super().__init__(reason if seq is None else f"Change {seq} does not fit: {reason}")
        self.seq = seq


class Chain:
    """Follows the chain from its first change. `seq` and `hash` (hexadecimal) are those of the last change so far.

    `marks` are hashes that are known from elsewhere, as (seq, hash, where it is from). The chain must have them.
    """

    def __init__(self, marks: Iterable[tuple[int, str, str]] = ()) -> None:
        self.seq = 0
        self.hash = FIRST.hex()
        self.count = 0
        self._marks = sorted(marks, reverse=True)
        self._compare()

    def add(self, change: Mapping[str, Any]) -> None:
        """Adds the next change, with its hash. Raises DoesNotFit."""
        seq = change.get("seq")
        if not isinstance(seq, int) or seq <= self.seq:
            raise DoesNotFit(self.seq, f"the change after it has the seq {seq!r}, which is not higher.")
        self._require_marks_until(seq)
        try:
            hash_ = link(bytes.fromhex(self.hash), change).hex()
        except (ValueError, RecursionError) as error:
            raise DoesNotFit(seq, f"{error}.") from None
        if hash_ != change.get("hash"):
            raise DoesNotFit(seq, "its hash does not follow from its content and the change before it.")
        self.seq, self.hash = seq, hash_
        self.count += 1
        self._compare()

    def end(self) -> None:
        """Checks that the log reaches as far as the known hashes. Raises DoesNotFit."""
        self._require_marks_until(None)

    def _compare(self) -> None:
        while self._marks and self._marks[-1][0] == self.seq:
            _, hash_, source = self._marks.pop()
            if hash_ != self.hash:
                raise DoesNotFit(self.seq, f"{source} has another hash for it, so the log was rewritten.")

    def _require_marks_until(self, seq: int | None) -> None:
        """Raises DoesNotFit if a known hash below `seq` is left: the chain has no change there."""
        if self._marks and (seq is None or self._marks[-1][0] < seq):
            missing, _, source = self._marks[-1]
            raise DoesNotFit(missing, f"it is missing, but {source} covers it.")


class Source(Protocol):
    """Where a log is read from. The methods raise RegistryError or StackError if it can't be read."""

    async def checkpoint(self) -> Mapping[str, Any] | None:
        """A new checkpoint of the present end of the log; None if the log is not signed."""

    async def stored(self) -> list[Mapping[str, Any]]:
        """Earlier checkpoints that the registry keeps."""

    async def keys(self) -> list[Mapping[str, Any]]:
        """The public keys that the registry lists."""

    def changes(self) -> AsyncIterator[Mapping[str, Any]]:
        """All changes with their hashes, in order. May raise DoesNotFit."""


@dataclass(frozen=True)
class Verified:
    """The log that fits: its number of changes, its last seq and hash, and the number of checkpoints that were checked.

    `checkpoint` is the newest one, with the `public_key` that signed it; None if the log is not signed.
    """

    changes: int
    seq: int
    hash: str
    checkpoints: int
    checkpoint: Mapping[str, Any] | None

    def state(self) -> dict[str, Any]:
        """What to remember for the next verification."""
        return dict(self.checkpoint or {"seq": self.seq, "hash": self.hash})


async def verify(source: Source, *, key: str | None = None, state: Mapping[str, Any] | None = None) -> Verified:
    """Checks the whole log, and that it continues the log of an earlier `state`.

    `key` is a public key (base64) that must have signed the newest checkpoint, or must vouch for the key that did.
    Without one, the key of the state is used. Without any, the registry's own list of keys is believed.

    Raises DoesNotFit, and what `source` raises.
    """
    newest, stored, listed = await source.checkpoint(), await source.stored(), await source.keys()
    anchor = key or (state or {}).get("public_key")
    if newest is None and anchor:
        raise DoesNotFit(None, "The log has no signed checkpoint, but a key is expected.")
    everybody = {each["key_id"]: decode(each["public_key"]) for each in listed}
    trusted = everybody if anchor is None else vouched_for([decode(anchor)], listed)
    for checkpoint in stored:
        _check(checkpoint, everybody)
    if newest is not None:
        _check(newest, trusted)
        _check_validity(newest, listed)
    marks = [(each["seq"], each["hash"], "a stored checkpoint") for each in stored]
    marks += [(newest["seq"], newest["hash"], "the newest checkpoint")] if newest else []
    marks += [(state["seq"], state["hash"], "the remembered state")] if state else []
    chain = Chain(marks)
    async for change in source.changes():
        chain.add(change)
    chain.end()
    kept = newest and {**newest, "public_key": encode(trusted[newest["key_id"]])}
    return Verified(chain.count, chain.seq, chain.hash, len(stored) + (newest is not None), kept)


def _check(checkpoint: Mapping[str, Any], keys: Mapping[str, bytes]) -> None:
    """Checks the signature of a checkpoint by one of `keys`. Raises DoesNotFit."""
    content = signed_part(checkpoint)
    key = keys.get(content["key_id"])
    where = f"The checkpoint at {content['seq']}"
    if key is None:
        raise DoesNotFit(None, f"{where} is signed by the key {content['key_id']}, which no trusted key vouches for.")
    if not is_signed(content, decode(checkpoint["signature"]), key):
        raise DoesNotFit(None, f"{where} has a wrong signature.")


def _check_validity(checkpoint: Mapping[str, Any], listed: list[Mapping[str, Any]]) -> None:
    """Checks that the key of a checkpoint was not replaced long before. Raises DoesNotFit."""
    for key in listed:
        valid_to = key.get("valid_to")
        if key["key_id"] == checkpoint["key_id"] and valid_to is not None and checkpoint["at"] > valid_to:
            raise DoesNotFit(None, f"The checkpoint at {checkpoint['seq']} is signed by a key that ended {valid_to}.")
