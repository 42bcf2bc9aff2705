"""Encrypts secrets that are stored in the database: keys of authenticator apps, secrets of webhooks.

The keys are derived from REGISTRY_SECRET_KEY. The newest one encrypts, and all of them decrypt, so the setting can be
rotated in the same way as for logins.
"""

import base64
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from registry.errors import SecretUnreadable


class Sealer:
    """Encrypts and decrypts secrets of one `purpose`. A secret of another purpose can't be decrypted."""

    def __init__(self, secret_keys: Sequence[str], purpose: str) -> None:
        self._purpose = purpose
        self._fernet = MultiFernet([Fernet(_derived(key, purpose)) for key in secret_keys])

    def seal(self, secret: bytes) -> str:
        """`secret` encrypted and authenticated, as ASCII text."""
        return self._fernet.encrypt(secret).decode("ascii")

    def open(self, sealed: str) -> bytes:
        """The secret. Raises SecretUnreadable if none of the keys sealed it, or it was changed."""
        try:
            return self._fernet.decrypt(sealed.encode("ascii", "replace"))
        except InvalidToken:
            raise SecretUnreadable(
                f"A stored secret ({self._purpose}) can't be decrypted. REGISTRY_SECRET_KEY lacks the key that sealed "
                "it. Add that key again, after the newest one."
            ) from None

    def can_open(self, sealed: str) -> bool:
        """Whether one of the keys sealed this secret."""
        try:
            self.open(sealed)
        except SecretUnreadable:
            return False
        return True

    def reseal(self, sealed: str) -> str:
        """The same secret, sealed with the newest key. Raises SecretUnreadable."""
        return self.seal(self.open(sealed))


def _derived(key: str, purpose: str) -> bytes:
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=f"synapse-registry:{purpose}".encode())
    return base64.urlsafe_b64encode(derived.derive(key.encode()))
