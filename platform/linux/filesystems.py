"""Making filesystems on plain files, without root."""

from __future__ import annotations

import os
import re
from pathlib import Path
from uuid import UUID

from portunix_vdisk.platform.base import MIB, SECTOR, FileSystemType, Owner
from portunix_vdisk.platform.commands import Commands
from portunix_vdisk.platform.errors import BadUsage, Failed
from portunix_vdisk.platform.formats import FILE_SYSTEMS

LABEL_BYTES = 16
_JOURNAL = 64
"""MiB; larger ones only cost space in a disk that travels."""


def make_filesystem(
    commands: Commands, path: Path, fs: FileSystemType, *, label: str, uuid: str, owner: Owner, start: int = 0
) -> None:
    """Make a filesystem that fills the file; see :meth:`Platform.make_filesystem`. Labels are cut to what fits.

    Where a mkfs wants zeros it must write them: whoever copies the file leaves holes out, and below may be noise.
    Raises ``BadUsage`` for less than it needs, ``ToolFailed``, ``Missing``.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise Failed(f"cannot make a filesystem: {error.strerror}: {path}") from error
    if size < FILE_SYSTEMS[fs].smallest:
        raise BadUsage(f"{fs} needs at least {FILE_SYSTEMS[fs].smallest // MIB} MiB, not {size} bytes")
    program, *words = _command(fs, size, label, uuid, owner, start // SECTOR)
    commands.run(program, *words, path.absolute(), variables={"UNIX_IO_NOZEROOUT": "1"})


def _command(fs: FileSystemType, size: int, label: str, uuid: str, owner: Owner, sector: int) -> list[str]:
    """The program that makes it, with its options."""
    match fs:
        case FileSystemType.EXT4:
            journal = min(_JOURNAL, size // MIB // 4)
            # lazy: zero tables and journal later, when mounted, else 135 MB of a 20 GB disk are written now. One flex
            # group for everything keeps metadata together and small; an inode for each 8 KiB, because there will be
            # many files.
            extended = f"lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner={owner.uid}:{owner.gid}"
            options = ["-t", "ext4", "-F", "-q", "-m", "0", "-J", f"size={journal}", "-i", "8192", "-G", "4096"]
            return ["mke2fs", *options, "-E", extended, "-L", cut(label), "-U", uuid]
        case FileSystemType.NTFS:
            # The boot sector says where the partition begins; Windows looks at it.
            options = ["-q", "-Q", "-F", "-s", "512", "-p", str(sector), "-H", "255", "-S", "63"]
            return ["mkntfs", *options, "-L", cut(label, 32)]
        case FileSystemType.FAT32:
            number = UUID(uuid).hex[:8]
            return ["mkfs.vfat", "-F", "32", "-h", str(sector), "-i", number, "-n", _fat_label(label)]
        case FileSystemType.EXFAT:
            return ["mkfs.exfat", "-L", _ascii(label)[:11]]
        case FileSystemType.XFS:
            return ["mkfs.xfs", "-q", "-f", "-K", "-m", f"uuid={uuid}", "-L", cut(label, 12)]
        case FileSystemType.BTRFS:
            return ["mkfs.btrfs", "-q", "-f", "-K", "-U", uuid, "-L", cut(label, 100)]


def cut(label: str, length: int = LABEL_BYTES) -> str:
    """A label that fits into so many bytes, not cut within a character."""
    return os.fsencode(label)[:length].decode("utf-8", errors="ignore")


def _ascii(label: str) -> str:
    return re.sub(r"[^A-Za-z0-9_. -]", "_", label)


def _fat_label(label: str) -> str:
    """Eleven characters without a point, in capitals: others look wrong somewhere."""
    return _ascii(label).replace(".", "_").upper()[:11]
