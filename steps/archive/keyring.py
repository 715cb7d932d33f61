"""The keys of the archives that this process may read: kept in memory only, never part of a step or a result."""

from __future__ import annotations

from pathlib import Path

from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.steps.archive.keys import MasterKey

_keys: dict[str, MasterKey] = {}


class Locked(Refused):
    """The archive is encrypted, and nobody gave its password."""


def add_key(archive_uuid: str, key: MasterKey) -> None:
    """Let this process read and continue the archive."""
    _keys[archive_uuid] = key


def has_key(archive_uuid: str) -> bool:
    """Whether :func:`key_of` would give one."""
    return archive_uuid in _keys


def key_of(archive_uuid: str, path: Path) -> MasterKey:
    """The key of an archive; ``path`` names it in messages. Raises ``Locked``."""
    key = _keys.get(archive_uuid)
    if key is None:
        raise Locked(
            f"{path} is encrypted",
            state="nothing was changed",
            hint="give its password, for example: --password-file FILE",
        )
    return key


def forget_keys() -> None:
    """Drop all keys."""
    _keys.clear()


_passwords: dict[Path, bytes] = {}


def set_new_password(output: Path, password: bytes) -> None:
    """The password that a new archive at ``output`` gets."""
    _passwords[output] = password


def new_password(output: Path) -> bytes:
    """The password of a new archive. Raises ``Locked``."""
    if output not in _passwords:
        raise Locked(
            f"{output} needs a password", state="nothing was written", hint="for example: --password-file FILE"
        )
    return _passwords[output]
