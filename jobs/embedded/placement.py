"""Who PostgreSQL runs as and where its files live: it refuses to run as root."""

import hashlib
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import structlog

from jobs.embedded.errors import EmbeddedServerError

log = structlog.get_logger(__name__)

NAMESPACE = ("unshare", "--user", "--map-user=1000")
"""Root outside, an ordinary user inside: files stay root's, closed directories stay passable."""


@dataclass(frozen=True)
class Placement:
    """`account` is None for the caller's own; `prefix` goes before every command."""

    directory: Path
    install: Path
    account: tuple[int, int] | None = None
    prefix: tuple[str, ...] = ()


def place(directory: Path, install: Path) -> Placement:
    """Decide how to run the server of `directory` with the programs of `install`.

    As root: the owner of data that exists already, else `postgres` or `nobody` where it can pass all
    directories, else root in a user namespace, else that user with everything below /var/tmp, which the log
    says.
    """
    if os.geteuid() != 0:
        return Placement(directory, install)
    cluster, elsewhere = directory / "cluster", _elsewhere(directory)
    if cluster.exists() and cluster.stat().st_uid == 0:
        return Placement(directory, install, prefix=NAMESPACE)
    account = (cluster.stat().st_uid, cluster.stat().st_gid) if cluster.exists() else _account()
    if passable(directory, account) and passable(install, account):
        return Placement(directory, install, account=account)
    if not cluster.exists() and not elsewhere.exists() and _namespaces_work():
        return Placement(directory, install, prefix=NAMESPACE)
    copy = _copy(install, elsewhere)
    log.warning("embedded_postgres_placed_elsewhere", wanted=str(directory), used=str(elsewhere))
    return Placement(elsewhere, copy, account=account)


def passable(path: Path, account: tuple[int, int]) -> bool:
    """Return whether the account may enter every existing directory from the root down to `path`."""
    uid, gid = account
    for directory in (path, *path.parents):
        if not directory.exists():
            continue
        status = directory.stat()
        shift = 6 if status.st_uid == uid else 3 if status.st_gid == gid else 0
        if not status.st_mode >> shift & 1:
            return False
    return True


def _elsewhere(directory: Path) -> Path:
    return Path("/var/tmp") / f"fleet-jobs-{hashlib.sha256(bytes(directory)).hexdigest()[:12]}"  # noqa: S108


def _account() -> tuple[int, int]:
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise EmbeddedServerError("PostgreSQL cannot run as root, and neither postgres nor nobody is a user here")


def _namespaces_work() -> bool:
    try:
        return subprocess.run([*NAMESPACE, "true"], check=False, capture_output=True).returncode == 0
    except OSError:
        return False


def _copy(install: Path, elsewhere: Path) -> Path:
    """Copy the programs below `elsewhere`, which must be root's own: anybody may create names in /var/tmp.

    The package's libraries stand beside it, and the programs look for them there.
    """
    package = install.parent
    try:
        elsewhere.mkdir(mode=0o711, exist_ok=True)
        if elsewhere.is_symlink() or elsewhere.stat().st_uid != 0:
            raise EmbeddedServerError(f"{elsewhere} belongs to somebody else")
        copy = elsewhere / f"programs-{version('embedded-postgres')}"
        if not copy.exists():
            partial = elsewhere / "programs.partial"
            shutil.rmtree(partial, ignore_errors=True)
            for part in (package, package.with_name(f"{package.name}.libs")):
                if part.exists():
                    shutil.copytree(part, partial / part.name, symlinks=True)
            partial.rename(copy)
    except OSError as error:
        raise EmbeddedServerError(f"cannot write to {elsewhere}: {error.strerror}") from error
    return copy / package.name / install.name
