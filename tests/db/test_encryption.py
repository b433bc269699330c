"""Secrets at rest: keys can be replaced, rows cannot be exchanged, and no message names a secret."""

import base64
from uuid import UUID, uuid4

import pytest

from db.encryption import EncryptionError, Keyring, connection_context, new_key

OLD, NEW = b"o" * 32, b"n" * 32
TENANT, CONNECTION = UUID(int=1), UUID(int=2)
HERE = connection_context(TENANT, CONNECTION)


def test_what_is_encrypted_comes_back_and_never_looks_the_same() -> None:
    ring = Keyring([NEW])
    first, second = (ring.encrypt(b"token", associated=HERE) for _ in range(2))

    assert first != second
    assert b"token" not in first
    assert ring.decrypt(first, associated=HERE) == ring.decrypt(second, associated=HERE) == b"token"


def test_a_new_first_key_encrypts_and_the_old_one_still_decrypts() -> None:
    stored = Keyring([OLD]).encrypt(b"token", associated=HERE)
    ring = Keyring([NEW, OLD])

    assert ring.decrypt(stored, associated=HERE) == b"token"
    assert not ring.is_current(stored)
    assert ring.is_current(ring.encrypt(b"token", associated=HERE))


def test_a_key_that_is_gone_is_told_from_a_changed_row() -> None:
    stored = Keyring([OLD]).encrypt(b"token", associated=HERE)

    with pytest.raises(EncryptionError, match="none of the 1 encryption keys"):
        Keyring([NEW]).decrypt(stored, associated=HERE)
    with pytest.raises(EncryptionError, match="changed, or belongs to another row"):
        Keyring([OLD]).decrypt(stored[:-1] + bytes([stored[-1] ^ 1]), associated=HERE)


@pytest.mark.parametrize(
    "other",
    [connection_context(TENANT, uuid4()), connection_context(uuid4(), CONNECTION), b""],
    ids=["another-row", "another-tenant", "nowhere"],  # random bytes would be another test in every process
)
def test_a_secret_moved_to_another_row_or_tenant_is_unreadable(other: bytes) -> None:
    ring = Keyring([NEW])

    with pytest.raises(EncryptionError, match="belongs to another row"):
        ring.decrypt(ring.encrypt(b"token", associated=HERE), associated=other)


@pytest.mark.parametrize("length", [0, 3, 4, 16, 31])
def test_rubbish_in_the_column_is_an_error_of_ours(length: int) -> None:
    with pytest.raises(EncryptionError, match="too short"):
        Keyring([NEW]).decrypt(b"\x00" * length, associated=HERE)


def test_an_empty_ring_refuses_to_encrypt() -> None:
    with pytest.raises(EncryptionError, match="no encryption key"):
        Keyring([]).encrypt(b"token", associated=HERE)


def test_settings_may_hold_either_alphabet_and_a_newline() -> None:
    key = b"\xfb\xff" * 16
    stored = Keyring([key]).encrypt(b"token", associated=HERE)

    for given in (base64.b64encode(key).decode(), base64.urlsafe_b64encode(key).decode() + "\n"):
        assert Keyring.from_settings([given]).decrypt(stored, associated=HERE) == b"token"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("hunter2!", "key 2: expected base64 of 32 bytes"),
        (base64.b64encode(b"hunter2").decode(), "key 2: expected 32 bytes, got 7"),
    ],
)
def test_a_bad_key_is_known_by_its_place_not_by_its_value(given: str, problem: str) -> None:
    with pytest.raises(EncryptionError) as caught:
        Keyring.from_settings([new_key(), given])

    assert str(caught.value) == problem
    assert given not in str(caught.value)


def test_the_credentials_of_a_row_are_named_and_stay_with_it() -> None:
    ring = Keyring([NEW])
    stored = ring.encrypt_credentials(TENANT, CONNECTION, {"token": "höchst geheim"})

    assert ring.decrypt_credentials(TENANT, CONNECTION, stored) == {"token": "höchst geheim"}
    with pytest.raises(EncryptionError, match="belongs to another row"):
        ring.decrypt_credentials(TENANT, uuid4(), stored)
