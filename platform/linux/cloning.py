"""A second file that shares its blocks with an image, where the host's filesystem can do that (btrfs, xfs).

Source: ioctl_ficlonerange(2), include/uapi/linux/fs.h.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path

from portunix_vdisk.platform.errors import Failed, Refused
from portunix_vdisk.platform.linux.mount_point import Caller, acting_as

_FICLONE, _FICLONERANGE = 0x40049409, 0x4020940D
_RANGE = struct.Struct("=qQQQ")
"""struct file_clone_range: source, its offset, length, target's offset."""
_CANNOT = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.ENOSYS, errno.EXDEV)
_BLOCK = 1 << 16


def clone_of(image: Path) -> Path:
    """The file that shares its blocks with the image, until its only reader has opened it."""
    return image.with_name(image.name + ".snapshot.partial")


def remove_clone(caller: Caller, image: Path) -> None:
    """Remove what a killed process left."""
    with suppress(OSError), acting_as(caller):
        clone_of(image).unlink(missing_ok=True)


def try_to_clone(image: int, clone: int) -> None:
    """Before anything is frozen for it. Raises ``Refused``."""
    try:
        fcntl.ioctl(clone, _FICLONERANGE, _RANGE.pack(image, 0, _BLOCK, 0))
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        raise Refused(
            "the disk is mounted and written to, and the filesystem that holds its image cannot keep its present state",
            state="nothing was changed",
            hint="unmount the disk; mounted with portunix vdisk mount --live it can be exported while it is used",
        ) from error


def clone_whole(image: int, clone: int) -> None:
    """Give an open, empty file all of an image's content. Raises ``OSError``."""
    fcntl.ioctl(clone, _FICLONE, image)


def share_blocks(image: Path, copy: Path) -> bool:
    """See :meth:`Platform.share_blocks`."""
    try:
        source = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
        try:
            target = os.open(copy, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                clone_whole(source, target)
                os.fsync(target)
            except OSError as error:
                copy.unlink()
                if error.errno not in _CANNOT:
                    raise
                return False
            finally:
                os.close(target)
        finally:
            os.close(source)
    except OSError as error:
        raise Failed(f"cannot copy {image} to {copy}: {error.strerror}", state="nothing was changed") from error
    return True
