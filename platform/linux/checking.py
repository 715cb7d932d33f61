"""Checking a filesystem without changing anything: attached for reading only, by its own checker."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from portunix_vdisk.platform.base import AttachRequest, FileSystemType, ImageType, Partition
from portunix_vdisk.platform.commands import display
from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.platform.linux.mounting import Mounting

CHECKS: Final = {
    FileSystemType.EXT4: ("e2fsck", "-f", "-n"),
    FileSystemType.NTFS: ("ntfsfix", "-n"),
    FileSystemType.FAT32: ("fsck.vfat", "-n"),
    FileSystemType.EXFAT: ("fsck.exfat", "-n"),
    FileSystemType.XFS: ("xfs_repair", "-n"),
    FileSystemType.BTRFS: ("btrfs", "check", "--readonly"),
}
"""What looks at a filesystem without changing it, and ends with 0 where it is sound."""
_UNCLEAN: Final = ("skipping journal recovery", "valuable metadata changes in a log", "dirty bit is set")
_MOST: Final = 20


def check_filesystem(
    mounting: Mounting, image: Path, type: ImageType, partition: Partition, fs: FileSystemType, secret: bytes
) -> list[str]:
    """What the checker says is wrong, at most 20 lines; empty where the filesystem is sound.

    Raises ``Refused`` where the disk is in use, or was not unmounted in order, so that nobody can tell.
    """
    attached = mounting.attach(AttachRequest(image, type, partition, read_only=True, secret=secret))
    try:
        program, *options = CHECKS[fs]
        output = mounting.commands.run(program, *options, attached.device, accept=range(256))
    finally:
        mounting.detach(image)
    if output.status == 0:
        return []
    words = display(output.stdout + output.stderr)
    if any(sign in words.lower() for sign in _UNCLEAN):
        raise Refused(
            f"the {fs} filesystem was not unmounted in order, and its checker cannot tell what that left",
            state="nothing was changed",
            hint="mount the disk once and unmount it, then check it again",
        )
    said = [line.strip() for line in words.replace(attached.device, "the disk").splitlines() if line.strip()]
    return said[-_MOST:] or [f"{program} ended with status {output.status}"]
