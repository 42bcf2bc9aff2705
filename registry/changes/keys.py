"""The Ed25519 keys that sign checkpoints of the log of changes.

To replace a key, the operator puts a new one before it. The old key then signs the new one: it vouches for it. So
whoever trusts the old key can find out that the new one belongs to the same registry.
"""

import base64
import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SEED_BYTES = 32


def make_seed() -> bytes:
    """A new private key."""
    return secrets.token_bytes(SEED_BYTES)


def key_id_of(public_key: bytes) -> str:
    """The id of a public key: the first 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(public_key).hexdigest()[:16]


@dataclass(frozen=True)
class SigningKey:
    """A private key of 32 bytes."""

    seed: bytes

    @cached_property
    def public_key(self) -> bytes:
        return self._private.public_key().public_bytes_raw()

    @cached_property
    def key_id(self) -> str:
        return key_id_of(self.public_key)

    @cached_property
    def _private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)

    def sign(self, content: Mapping[str, Any]) -> bytes:
        """The signature of the canonical JSON of `content`."""
        return self._private.sign(rfc8785.dumps(dict(content)))

    def vouch_for(self, public_key: bytes) -> bytes:
        """The signature with which this key vouches for a new one."""
        return self.sign(_introduction(public_key))


def signed_part(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What the signature of a checkpoint covers."""
    return {name: checkpoint[name] for name in ("seq", "hash", "at", "key_id")}


def is_signed(content: Mapping[str, Any], signature: bytes, public_key: bytes) -> bool:
    """Whether the key signed the canonical JSON of `content`."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, rfc8785.dumps(dict(content)))
    except (InvalidSignature, ValueError):
        return False
    return True


def vouched_for(trusted: Iterable[bytes], listed: Iterable[Mapping[str, Any]]) -> dict[str, bytes]:
    """The keys that can be trusted, by id: the `trusted` ones, and all that they vouch for, directly or in steps.

    `listed` are keys as GET /changes/keys lists them.
    """
    found = {key_id_of(key): key for key in trusted}
    pending = [key for key in listed if key.get("voucher") and key.get("vouched_by")]
    while True:
        new = [key for key in pending if key["key_id"] not in found and _is_vouched(key, found)]
        if not new:
            return found
        found |= {key["key_id"]: decode(key["public_key"]) for key in new}


def _is_vouched(key: Mapping[str, Any], trusted: Mapping[str, bytes]) -> bool:
    voucher = trusted.get(key["vouched_by"])
    if voucher is None:
        return False
    public_key = decode(key["public_key"])
    return key_id_of(public_key) == key["key_id"] and is_signed(
        _introduction(public_key), decode(key["voucher"]), voucher
    )


def _introduction(public_key: bytes) -> dict[str, str]:
    return {"key_id": key_id_of(public_key), "public_key": encode(public_key)}


def encode(data: bytes) -> str:
    """Standard base64."""
    return base64.b64encode(data).decode()


def decode(text: str) -> bytes:
    """The bytes of standard base64. Raises ValueError."""
    return base64.b64decode(text, validate=True)
