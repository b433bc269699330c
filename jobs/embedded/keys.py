"""The passwords and keys of an embedded stack: made once, kept beside its data, readable by its owner only."""

import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec

from db.encryption import new_key
from db.roles import LOGIN_ROLES
from jobs.embedded.errors import EmbeddedServerError
from jobs.embedded.process import write_private


@dataclass(frozen=True)
class Keys:
    """`roles` by login role; `encryption` as FLEET_ENCRYPTION_KEYS wants it; `accounts` by simulated tenant."""

    roles: dict[str, str] = field(default_factory=dict, repr=False)
    accounts: dict[str, str] = field(default_factory=dict, repr=False)
    encryption: str = field(default_factory=new_key, repr=False)
    flower: str = field(default_factory=lambda: secrets.token_urlsafe(18), repr=False)


def keep(path: Path, accounts: tuple[str, ...]) -> Keys:
    """Return the keys in `path`, made now where one is missing: losing one would lose what it locks.

    Raises:
        EmbeddedServerError: the file is there and cannot be read as what this wrote.
    """
    try:
        known = msgspec.json.decode(path.read_bytes(), type=Keys) if path.exists() else Keys()
    except (msgspec.DecodeError, OSError) as error:
        raise EmbeddedServerError(f"cannot read the keys in {path}: {error}") from None
    for wanted, kept in ((LOGIN_ROLES, known.roles), (accounts, known.accounts)):
        for name in wanted:
            kept.setdefault(name, secrets.token_urlsafe(24))
    write_private(path, msgspec.json.format(msgspec.json.encode(asdict(known))).decode() + "\n")
    return known
