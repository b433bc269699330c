"""Secrets at rest: AES-256-GCM under a ring of keys, so that a key can be replaced while old rows are still read.

What is stored is the key's id (4 bytes), a nonce (12), and the ciphertext with its tag. The nonce is random: one key
serves for some four billion secrets (NIST SP 800-38D, 8.3), far more than a platform has connections.
"""

import base64
import binascii
import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Self
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
_ID_BYTES = 4
_NONCE_BYTES = 12
_TAG_BYTES = 16


class EncryptionError(Exception):
    """A key or a stored secret is not usable. The message names neither."""


class Keyring:
    """The keys of this deployment: the first encrypts, all decrypt."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        for number, key in enumerate(keys, 1):
            if len(key) != KEY_BYTES:
                raise EncryptionError(f"key {number}: expected {KEY_BYTES} bytes, got {len(key)}")
        self._keys = [(_key_id(key), AESGCM(key)) for key in keys]

    @classmethod
    def from_settings(cls, keys: Sequence[str]) -> Self:
        """Return the ring of keys given as base64, as `fleet-jobs keygen` prints them.

        Raises:
            EncryptionError: a key is not base64, or not of 32 bytes.
        """
        return cls([_decoded(number, key) for number, key in enumerate(keys, 1)])

    def encrypt(self, plaintext: bytes, *, associated: bytes) -> bytes:
        """Return the secret under the first key, bound to `associated`: it decrypts nowhere else.

        Raises:
            EncryptionError: the ring is empty.
        """
        if not self._keys:
            raise EncryptionError("there is no encryption key")
        key_id, cipher = self._keys[0]
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return key_id + nonce + cipher.encrypt(nonce, plaintext, associated)

    def decrypt(self, stored: bytes, *, associated: bytes) -> bytes:
        """Return the plaintext of what `encrypt` made with any key of the ring and the same `associated`.

        Raises:
            EncryptionError: its key is not in the ring, or it was changed or belongs to another row.
        """
        stored = bytes(stored)
        if len(stored) < _ID_BYTES + _NONCE_BYTES + _TAG_BYTES:
            raise EncryptionError("the stored secret is too short to be one")
        key_id, nonce, ciphertext = stored[:4], stored[4:16], stored[16:]
        ciphers = [cipher for known, cipher in self._keys if known == key_id]
        if not ciphers:
            raise EncryptionError(f"none of the {len(self._keys)} encryption keys is the one it was encrypted with")
        for cipher in ciphers:
            try:
                return cipher.decrypt(nonce, ciphertext, associated)
            except InvalidTag:
                continue
        raise EncryptionError("the stored secret was changed, or belongs to another row")

    def encrypt_credentials(self, tenant_id: UUID, connection_id: UUID, credentials: Mapping[str, str]) -> bytes:
        """Return what a connection's row stores of its credentials, by name: a JSON object, encrypted for that row."""
        return self.encrypt(
            json.dumps(dict(credentials)).encode(), associated=connection_context(tenant_id, connection_id)
        )

    def decrypt_credentials(self, tenant_id: UUID, connection_id: UUID, stored: bytes) -> dict[str, str]:
        """Return a connection's credentials by name.

        Raises:
            EncryptionError: as `decrypt`.
        """
        plaintext = self.decrypt(stored, associated=connection_context(tenant_id, connection_id))
        credentials: dict[str, str] = json.loads(plaintext)
        return credentials

    def is_current(self, stored: bytes) -> bool:
        """Tell whether the first key encrypted it: what is not must be encrypted again before its key may go."""
        return bool(self._keys) and bytes(stored[:_ID_BYTES]) == self._keys[0][0]


def connection_context(tenant_id: UUID, connection_id: UUID) -> bytes:
    """Return what binds a connection's credentials to its row, so that no row's secret can be read as another's."""
    return b"connections.credentials/" + tenant_id.bytes + connection_id.bytes


def new_key() -> str:
    """Return a new random key, as base64."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()[:_ID_BYTES]


def _decoded(number: int, key: str) -> bytes:
    try:
        return base64.b64decode(key.strip().replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        raise EncryptionError(f"key {number}: expected base64 of {KEY_BYTES} bytes") from None
