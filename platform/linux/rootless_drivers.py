"""The programs that show the files of a filesystem to the person who starts them, without root."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.platform.base import FileSystemType
from portunix_vdisk.platform.commands import Commands, display
from portunix_vdisk.platform.errors import Corrupt, Missing, Refused, ToolFailed
from portunix_vdisk.platform.formats import FILE_SYSTEMS
from portunix_vdisk.platform.linux import mounts
from portunix_vdisk.platform.linux.drivers import Showing

_FUSE = "/dev/fuse"
_EXT4_MAGIC, _EXT4_STATE = 1024 + 0x38, 1024 + 0x3A
"""Bytes into a filesystem; the state is 1 if it was unmounted in order, 2 and 4 are errors and orphans.

Source: https://www.kernel.org/doc/html/latest/filesystems/ext4/globals.html#super-block
"""


@dataclass(frozen=True, slots=True)
class _Driver:
    """A program and its options: for writing, for reading only, and for whom the files are (``{uid}``, ``{gid}``)."""

    name: str
    writable: str
    read_only: str
    owner: str = ""


# fakeroot: files of other owners, who may be the same person on another machine, can be read and written too.
# Not here: exfat-fuse asks fusermount for allow_other and blkdev, and cannot be told otherwise. ntfs-3g is set-user-ID,
# which the kernel does not let into what a storage daemon of the person shows (without allow_other all its ids must be
# theirs); on an image file it finds no partition, and its own locks, gone as soon as it is a daemon, leave no room for
# those by which others know that the image is in use. In a user namespace neither starts, and only there would the
# files be seen.
_DRIVERS: Mapping[FileSystemType, _Driver] = {
    FileSystemType.EXT4: _Driver("fuse2fs", "fakeroot", "fakeroot,ro"),
    FileSystemType.FAT32: _Driver("fusefat", "rw+", "ro", "uid={uid},gid={gid},umask=022"),
}


def reaches(fs: FileSystemType, start: int) -> bool:
    """Whether the filesystem's program can be told to look for it at this byte of a raw image."""
    return start == 0 or fs is FileSystemType.EXT4


def need(commands: Commands, fs: FileSystemType) -> None:
    """Raise ``Missing`` or ``Refused`` where this machine cannot mount such a filesystem without root."""
    driver = _DRIVERS.get(fs)
    if driver is None:
        raise Refused(
            f"{fs.value} cannot be mounted without root: {FILE_SYSTEMS[fs].rooted}",
            state="nothing was changed",
            hint="mount it with root or sudo",
        )
    commands.need(driver.name)
    commands.need("fusermount3")
    if not os.access(_FUSE, os.R_OK | os.W_OK):
        raise Missing(
            f"mounting without root needs {_FUSE}, which you may not use",
            state="nothing was changed",
            hint=f"as root: modprobe fuse; chmod 666 {_FUSE}",
        )


def lock(descriptor: int) -> None:
    """Take the lock that the program will hold. Raises ``Refused`` while an earlier one lives."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Refused(
            "a program that shows this filesystem runs already; it is mounted where we cannot see it",
            state="nothing was changed",
            hint="unmount it there: in another container or session",
        ) from None


def show(commands: Commands, showing: Showing, start: int, kept: Sequence[int]) -> None:
    """Start the program, which keeps these descriptors open while it lives. ``start``: where the filesystem begins.

    Raises ``Corrupt`` where it cannot make sense of the filesystem, ``Missing``.
    """
    need(commands, showing.fs)
    driver = _DRIVERS[showing.fs]
    point = Path(f"/proc/self/fd/{showing.place}").readlink()
    options = [driver.read_only if showing.read_only else driver.writable]
    if driver.owner:
        options.append(driver.owner.format(uid=showing.owner.uid, gid=showing.owner.gid))
    if start:
        options.append(f"offset={start}")
    said = "it does not say why"
    try:
        commands.launch(driver.name, "-o", ",".join(options), showing.device, point, pass_fds=kept)
    except ToolFailed as error:
        said = (display(error.output).strip().splitlines() or [said])[-1]
    # fuse2fs ends with 0 where it failed, too.
    if not any(entry.point == point and mounts.is_fuse(entry.kind) for entry in mounts.mounted()):
        raise Corrupt(
            f"{driver.name} cannot show the filesystem: {said}",
            state="the disk is attached and not mounted",
            hint="portunix vdisk unmount the disk, then mount it once with root, which may tell more",
        )


def is_whole(descriptor: int, start: int) -> bool:
    """Whether the filesystem that begins at ``start`` says that it was unmounted in order; True for all but ext4."""
    if os.pread(descriptor, 2, start + _EXT4_MAGIC) != b"\x53\xef":
        return True
    return os.pread(descriptor, 2, start + _EXT4_STATE)[0] & 3 == 1
