"""Making the filesystem of an attached disk larger or smaller, by its own program. With root's rights.

ext4 and NTFS are changed while nobody has them mounted; XFS and Btrfs change themselves while they are mounted, so they
are, for that time, where only root looks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from portunix_vdisk.platform.base import FileSystemType
from portunix_vdisk.platform.commands import display
from portunix_vdisk.platform.errors import Corrupt, Failed, Refused, ToolFailed
from portunix_vdisk.platform.linux import mounts
from portunix_vdisk.platform.linux.checking import CHECKS
from portunix_vdisk.platform.linux.mounting import Mounting

_BLOCK: Final = 4096
_REPAIRED: Final = (0, 1)
"""Exit statuses of e2fsck: sound; sound now."""
_EXT4_SUPERBLOCK: Final = 1024
_LOG_BLOCK_AT: Final = 24
_ANSWER: Final = re.compile(rb"minimum size of the filesystem: ([0-9]+)")
_MIGHT: Final = re.compile(rb"You might resize at ([0-9]+) bytes")


def smallest(mounting: Mounting, image: Path, fs: FileSystemType) -> int:
    """See :meth:`Sizing.smallest`."""
    with _device(mounting, image) as device:
        return _smallest(mounting, device, fs)


def resize(mounting: Mounting, image: Path, fs: FileSystemType, size: int) -> None:
    """See :meth:`Sizing.filesystem`."""
    with _device(mounting, image) as device:
        room = _length(device)
        size = min(size, room) // _BLOCK * _BLOCK
        run = mounting.commands.run
        match fs:
            case FileSystemType.EXT4:
                _must_be_sound(mounting, device)
                run("resize2fs", device, f"{size // 512}s")
            case FileSystemType.NTFS:
                _smallest(mounting, device, fs)
                # Forced, for it would ask. It leaves a note that Windows should check the filesystem; so did we.
                run("ntfsresize", "--force", "--force", "--no-progress-bar", "--size", str(size), device)
                run("ntfsfix", "--clear-dirty", device)
            case FileSystemType.XFS:
                with _mounted(device, fs) as point:
                    run("xfs_growfs", "-d", point)
            case FileSystemType.BTRFS:
                with _mounted(device, fs) as point:
                    run("btrfs", "filesystem", "resize", str(size), point)
            case _:
                raise Refused(f"nothing changes the size of a {fs} filesystem", state="nothing was changed")
        _written(device)
        program, *options = CHECKS[fs]
        checked = run(program, *options, device, accept=range(256))
        if checked.status:
            raise Corrupt(f"the {fs} filesystem is not in order afterwards: {_last(checked.stdout + checked.stderr)}")


def _smallest(mounting: Mounting, device: str, fs: FileSystemType) -> int:
    run = mounting.commands.run
    match fs:
        case FileSystemType.EXT4:
            _must_be_sound(mounting, device)
            found = _ANSWER.search(run("resize2fs", "-P", device).stdout)
            return int(found[1]) * _block_of(device) if found else _length(device)
        case FileSystemType.NTFS:
            try:
                found = _MIGHT.search(run("ntfsresize", "--info", "--no-progress-bar", device).stdout)
            except ToolFailed as error:
                raise Refused(
                    f"ntfsresize does not touch this NTFS filesystem: {_last(error.output.encode())}",
                    state="nothing was changed",
                    hint="mount and unmount the disk once; if that does not help, let Windows check it: chkdsk /f",
                ) from error
            # A filesystem without any free cluster could not even be mounted for writing.
            return int(found[1]) if found else _length(device)
        case FileSystemType.BTRFS:
            with _mounted(device, fs) as point:
                return int(run("btrfs", "inspect-internal", "min-dev-size", point).stdout.split()[0])
    return _length(device)


def _must_be_sound(mounting: Mounting, device: str) -> None:
    found = mounting.commands.run("e2fsck", "-f", "-p", device, accept=range(256))
    if found.status not in _REPAIRED:
        raise Corrupt(
            f"the ext4 filesystem is damaged: {_last(found.stdout + found.stderr)}",
            state="nothing was changed",
            hint="portunix vdisk check DISK --repair",
        )


@contextmanager
def _device(mounting: Mounting, image: Path) -> Iterator[str]:
    """The block device of an attached disk that nobody uses, which it stays meanwhile."""
    with mounting.held(image, "resize") as facts:
        if facts is None or facts.state is None or not facts.device or facts.problem or facts.mounts:
            raise Refused(f"{display(str(image))} is not attached, or is mounted", state="nothing was changed")
        yield facts.device


@contextmanager
def _mounted(device: str, fs: FileSystemType) -> Iterator[Path]:
    import tempfile  # takes long to import, and the attach program rarely needs it

    point = Path(tempfile.mkdtemp(prefix="portunix-vdisk-", dir="/run"))
    try:
        options = "nouuid" if fs is FileSystemType.XFS else ""
        try:
            mounts.mount(device, str(point), str(fs), mounts.MS_NOSUID | mounts.MS_NODEV, options)
        except OSError as error:
            raise Failed(f"cannot mount the {fs} filesystem: {error.strerror}", state="nothing was changed") from error
        try:
            yield point
        finally:
            mounts.unmount(point)
    finally:
        point.rmdir()


def _length(device: str) -> int:
    descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.lseek(descriptor, 0, os.SEEK_END)
    finally:
        os.close(descriptor)


def _block_of(device: str) -> int:
    with open(device, "rb") as file:  # noqa: PTH123 - a name, not a path of ours
        file.seek(_EXT4_SUPERBLOCK + _LOG_BLOCK_AT)
        return 1024 << int.from_bytes(file.read(4), "little")


def _written(device: str) -> None:
    """Everything is where it belongs, or ``OSError``."""
    descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _last(said: bytes) -> str:
    lines = [line.strip() for line in display(said).splitlines() if line.strip()]
    return lines[-1] if lines else "its program does not say why"
