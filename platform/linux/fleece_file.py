"""The file that takes the old content of what is overwritten while a snapshot is read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from portunix_vdisk.platform.commands import display
from portunix_vdisk.platform.errors import BadUsage, Refused
from portunix_vdisk.platform.linux import mounts
from portunix_vdisk.platform.linux.host import free_space
from portunix_vdisk.platform.linux.mount_point import acting_as
from portunix_vdisk.platform.linux.mounting import Mounting

_CLUSTER: Final = 1 << 16
_LEAST: Final = 1 << 20
_TABLES: Final = 16 << 20
"""Bytes that QCOW2's tables may take beside the content, and one part in 1000 of it."""


@dataclass(frozen=True, slots=True)
class Fleece:
    """An open file without a name, and how many bytes it may take; it is as long as that, and sparse."""

    descriptor: int
    limit: int


@contextmanager
def fleece_file(mounting: Mounting, rooms: Sequence[Path], size: int, device: int) -> Iterator[Fleece]:
    """A QCOW2 file for a disk of ``size`` bytes in whichever of these folders of the caller has the most room.

    It never takes more than half of what is free: the image may have to grow there, and whoever reads the snapshot may
    be killed and leave it. It is gone as soon as nobody has it open. ``device`` is the filesystem that will be frozen:
    it cannot be there.

    Raises ``Refused`` where none of the folders will do.
    """
    with acting_as(mounting.caller):
        room, descriptor = _opened(rooms, device)
    try:
        limit = min(free_space(room) // 2, size + size // 1000 + _TABLES) // _CLUSTER * _CLUSTER
        if limit < _LEAST:
            raise Refused(
                f"no space left in {display(str(room))} for what is overwritten meanwhile",
                state="nothing was changed",
                hint="free some space there, or unmount the disk",
            )
        path = f"/proc/self/fd/{descriptor}"
        mounting.commands.launch("qemu-img", "create", "-q", "-f", "qcow2", path, str(size), pass_fds=(descriptor,))
        os.ftruncate(descriptor, limit)
        yield Fleece(descriptor, limit)
    finally:
        os.close(descriptor)


def _opened(rooms: Sequence[Path], device: int) -> tuple[Path, int]:
    """The folder, and an empty file in it without a name.

    Never one with a name, not even for a moment: the caller could make it refer to other files, which root would read.
    """
    why = "there is no such folder"
    for room in sorted(rooms, key=_free, reverse=True):
        if not room.is_absolute() or "\0" in str(room):
            raise BadUsage(f"the folder for the snapshot needs an absolute path, not {display(str(room))!r}")
        try:
            descriptor = os.open(room, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
        except OSError as error:
            why = f"{display(str(room))}: {error.strerror}"
            continue
        if device not in (os.fstat(descriptor).st_dev, mounts.device_below(descriptor)):
            return room, descriptor
        os.close(descriptor)
        why = f"{display(str(room))} lies on the disk itself"
    raise Refused(
        f"what is overwritten meanwhile cannot be kept anywhere: {why}",
        state="nothing was changed",
        hint="unmount the disk, export it, and mount it again",
    )


def _free(room: Path) -> int:
    try:
        found = os.statvfs(room)
    except (OSError, ValueError):
        return 0
    return found.f_bavail * found.f_frsize
