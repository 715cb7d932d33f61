"""Making filesystems on plain files, without root."""

from __future__ import annotations

import os
from pathlib import Path

from portunix_vdisk.platform.base import MIB, FileSystemType, Owner
from portunix_vdisk.platform.commands import Commands
from portunix_vdisk.platform.errors import BadUsage, Failed
from portunix_vdisk.platform.formats import FILE_SYSTEMS

LABEL_BYTES = 16
_JOURNAL = 64
"""MiB; larger ones only cost space in a disk that travels."""


def make_filesystem(commands: Commands, path: Path, fs: FileSystemType, *, label: str, uuid: str, owner: Owner) -> None:
    """Make a filesystem that fills the file; see :meth:`Platform.make_filesystem`. Labels are cut to 16 bytes.

    Raises ``BadUsage`` for less than it needs, ``ToolFailed``, ``Missing``.
    """
    assert fs is FileSystemType.EXT4
    try:
        size = path.stat().st_size
    except OSError as error:
        raise Failed(f"cannot make a filesystem: {error.strerror}: {path}") from error
    if size < FILE_SYSTEMS[fs].smallest:
        raise BadUsage(f"{fs} needs at least {FILE_SYSTEMS[fs].smallest // MIB} MiB, not {size} bytes")
    journal = min(_JOURNAL, size // MIB // 4)
    # lazy: zero tables and journal later, when mounted, else 135 MB of a 20 GB disk are written now. One flex group
    # for everything keeps metadata together and small; an inode for each 8 KiB, because there will be many files.
    extended = f"lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner={owner.uid}:{owner.gid}"
    # Where it wants zeros it would make holes; whoever copies the file must be able to tell them from what it leaves.
    commands.run(
        "mke2fs", "-t", "ext4", "-F", "-q", "-m", "0", "-J", f"size={journal}", "-i", "8192", "-G", "4096",
        "-E", extended, "-L", cut(label), "-U", uuid, path.absolute(),
        variables={"UNIX_IO_NOZEROOUT": "1"},
    )  # fmt: skip


def cut(label: str) -> str:
    """A label that fits, not cut within a character."""
    return os.fsencode(label)[:LABEL_BYTES].decode("utf-8", errors="ignore")
