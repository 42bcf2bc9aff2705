"""Checkpoints: signed statements that say which change was the last one at that time, and what its hash was.

A checkpoint is made for everybody who asks. A periodic job also stores one after many changes or after an hour, so that
`synapse-registry log verify` finds out if somebody rewrites the log in the database.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from typing_extensions import TypedDict

from registry.changes import store
from registry.changes.chain import timestamp
from registry.changes.keys import SigningKey, decode, encode, signed_part
from registry.changes.log import ChangeLog
from registry.db.engine import Database, Row
from registry.errors import NotConfigured

# A checkpoint is stored after this many changes, or after this time if there was any change.
EVERY_CHANGES = 1000
EVERY = timedelta(hours=1)
# How long the old key stays valid when there is a new one: processes that don't know the new key yet still use it.
OVERLAP = timedelta(days=7)

NO_KEY = "This registry does not sign its log of changes, because the operator has not set REGISTRY_LOG_KEY."


class Checkpoint(TypedDict):
    """`signature` is the Ed25519 signature of the canonical JSON of the other members, in base64."""

    seq: int
    hash: str
    at: str
    key_id: str
    signature: str


class ListedKey(TypedDict):
    """A public key, in base64. It signs checkpoints from `valid_from` until `valid_to`, None unless it was replaced.

    `voucher` is the signature of the object {"key_id", "public_key"} by the older key `vouched_by`; both are None for
    the first key.
    """

    key_id: str
    public_key: str
    valid_from: str
    valid_to: str | None
    vouched_by: str | None
    voucher: str | None


class Checkpoints:
    """Signs the log with the first of `seeds` (private keys, newest first)."""

    def __init__(self, db: Database, log: ChangeLog, seeds: Sequence[bytes]) -> None:
        self._db = db
        self._log = log
        self._keys = [SigningKey(seed) for seed in seeds]
        self._are_keys_stored = False

    @property
    def can_sign(self) -> bool:
        return bool(self._keys)

    async def sign(self) -> Checkpoint:
        """A checkpoint of the present end of the log. Raises NotConfigured if there is no key."""
        if not self.can_sign:
            raise NotConfigured(NO_KEY)
        await self._store_keys()
        head, key = await self._log.head(), self._keys[0]
        made: Checkpoint = {
            "seq": head.seq,
            "hash": head.hash.hex(),
            "at": timestamp(head.now),
            "key_id": key.key_id,
            "signature": "",
        }
        made["signature"] = encode(key.sign(signed_part(made)))
        return made

    async def keys(self) -> list[ListedKey]:
        """All keys that ever signed checkpoints, oldest first."""
        await self._store_keys()
        async with self._db.read() as conn:
            rows = await store.keys(conn)
        replaced_at = {row.vouched_by: row.valid_from for row in rows if row.vouched_by}
        return [_listed(row, replaced_at.get(row.key_id)) for row in rows]

    async def store_if_due(self) -> None:
        """Stores a checkpoint if the last stored one is old enough. For a periodic job."""
        if not self.can_sign:
            return
        async with self._db.read() as conn:
            last = await store.last_checkpoint(conn)
        head = await self._log.head()
        if head.seq == 0 or (last is not None and not _is_due(last, head.seq, head.now)):
            return
        made = await self.sign()
        async with self._db.transaction() as conn:
            await store.add_checkpoint(conn, **_columns(made))

    async def _store_keys(self) -> None:
        """Stores the public keys, which outlive the private ones. Each key but the first gets a voucher."""
        if self._are_keys_stored:
            return
        older: SigningKey | None = None
        async with self._db.transaction() as conn:
            for key in reversed(self._keys):
                voucher = None if older is None else older.vouch_for(key.public_key)
                await store.add_key(conn, key.key_id, key.public_key, older.key_id if older else None, voucher)
                older = key
        self._are_keys_stored = True


def _listed(row: Row, replaced_at: datetime | None) -> ListedKey:
    return {
        "key_id": row.key_id,
        "public_key": encode(bytes(row.public_key)),
        "valid_from": timestamp(row.valid_from),
        "valid_to": None if replaced_at is None else timestamp(replaced_at + OVERLAP),
        "vouched_by": row.vouched_by,
        "voucher": None if row.voucher is None else encode(bytes(row.voucher)),
    }


def _is_due(last: Row, seq: int, now: datetime) -> bool:
    return bool(seq - last.seq >= EVERY_CHANGES or (seq > last.seq and now - last.at >= EVERY))


def _columns(made: Checkpoint) -> dict[str, Any]:
    return {**made, "hash": bytes.fromhex(made["hash"]), "signature": decode(made["signature"])}


def checkpoint_of(row: Row) -> Checkpoint:
    """A stored checkpoint."""
    return {
        "seq": row.seq,
        "hash": bytes(row.hash).hex(),
        "at": timestamp(row.at),
        "key_id": row.key_id,
        "signature": encode(bytes(row.signature)),
    }
