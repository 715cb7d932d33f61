"""Getting the keys of encrypted archives, and the passwords of encrypted disks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from portunix_vdisk.platform.errors import BadUsage, WrongPassword
from portunix_vdisk.steps.archive.bases import base_chain
from portunix_vdisk.steps.archive.keyring import add_key, forget_keys, has_key, key_of, set_new_password
from portunix_vdisk.steps.archive.keys import MasterKey
from portunix_vdisk.steps.archive.unlock import read_header, read_lock
from portunix_vdisk.steps.disk import Disk
from portunix_vdisk.steps.luks import is_text
from portunix_vdisk.tasks.describe import show_path
from portunix_vdisk.tasks.session import Session


def unlock(session: Session, archive: Path) -> None:
    """Make an archive, finished or not, readable in this session; asks for its password where it has one.

    Raises ``WrongPassword``, ``Refused`` where nobody can be asked, and what reading the archive raises.
    """
    header = read_header(archive)
    if not header.encrypted or has_key(header.archive_uuid):
        return
    subject = f"the archive {show_path(archive.name)}"
    password = session.password(subject)
    session.at_end(forget_keys)
    add_key(header.archive_uuid, MasterKey.unlock(read_lock(archive), password, header.archive_uuid, subject))


def unlock_chain(session: Session, archive: Path, bases: Sequence[Path] = ()) -> None:
    """The same for an archive and all that it is a delta against."""
    for path in base_chain(archive, bases):
        unlock(session, path)


def keys_of(archives: Sequence[Path]) -> bytes:
    """The keys of unlocked archives, for :func:`take_keys` in a process of ours: never anywhere but in a pipe."""
    headers = {header.archive_uuid: path for path in archives if (header := read_header(path)).encrypted}
    lines = [f"{uuid} {key_of(uuid, path).secret().hex()}\n" for uuid, path in headers.items()]
    return "".join(lines).encode()


def take_keys(lines: bytes) -> None:
    """Make archives readable in this process."""
    for line in lines.decode().splitlines():
        uuid, _, secret = line.partition(" ")
        add_key(uuid, MasterKey(bytes.fromhex(secret)))


def set_password(session: Session, archive: Path, name: str = "password") -> None:
    """Ask for the password that an archive gets, twice where it is typed."""
    session.at_end(forget_keys)
    set_new_password(archive, session.password(f"the archive {show_path(archive.name)}", new=True, name=name))


def disk_secret(session: Session, disk: Disk, *, new: bool = False) -> bytes:
    """The password of a disk, asked for once in a session; empty for one that is not encrypted.

    Raises ``Refused`` where nobody can be asked, ``BadUsage`` and ``WrongPassword`` for one that cannot be.
    """
    if not disk.encrypted:
        return b""
    subject = f"the disk {disk.name}"
    secret = session.password(subject, new=new)
    if not is_text(secret):
        if new:
            raise BadUsage(f"the password for {subject} has to be text in UTF-8", state="nothing was done")
        raise WrongPassword(f"wrong password for {subject}", state="nothing was done", hint="try again")
    return secret
