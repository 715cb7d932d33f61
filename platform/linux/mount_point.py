"""On whose behalf root acts, and the folder on which they want their disk."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.platform.base import Owner
from portunix_vdisk.platform.commands import display
from portunix_vdisk.platform.errors import BadUsage, Refused
from portunix_vdisk.platform.linux import mounts


@dataclass(frozen=True, slots=True)
class Caller:
    """For whom a privileged verb runs.

    ``restricted`` callers came through sudo and may only use files and folders that are theirs anyway.
    """

    owner: Owner
    restricted: bool


@dataclass(frozen=True, slots=True)
class MountPoint:
    """An open, checked folder: its descriptor, its real path, and whether we made it."""

    descriptor: int
    path: Path
    made: bool


@contextmanager
def acting_as(caller: Caller) -> Iterator[None]:
    """Use the file rights of a restricted caller meanwhile.

    It changes the whole process, so only the attach program, which has one thread, meets restricted callers.
    """
    if not caller.restricted or caller.owner.uid == os.geteuid():
        yield
        return
    groups, group, user = os.getgroups(), os.getegid(), os.geteuid()
    os.setgroups(_groups_of(caller.owner))
    os.setegid(caller.owner.gid)
    os.seteuid(caller.owner.uid)
    try:
        yield
    finally:
        os.seteuid(user)
        os.setegid(group)
        os.setgroups(groups)


def _groups_of(owner: Owner) -> list[int]:
    try:
        return os.getgrouplist(pwd.getpwuid(owner.uid).pw_name, owner.gid)
    except KeyError:
        return [owner.gid]


@contextmanager
def open_mount_point(point: Path, caller: Caller) -> Iterator[MountPoint]:
    """Open the folder to mount on; a missing one is made, with its parents, and belongs to the caller.

    A folder that was made goes again if the context fails.

    Raises:
        BadUsage: not an absolute path.
        Refused: not a folder, not theirs, not empty, or something is mounted there.
    """
    shown = display(str(point))
    if not point.is_absolute() or "\0" in str(point):
        raise BadUsage(f"the mount point needs an absolute path, not {shown!r}")
    made = False
    try:
        with acting_as(caller):
            made = _make(point, caller)
            # Without following a symbolic link at its end, except what the person themselves resolved before.
            descriptor = os.open(point.resolve(), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise Refused(
            f"cannot use {shown} as a mount point: {error.strerror}",
            state="the disk is attached and not mounted",
            hint=f"choose a folder of yours, or make it: sudo install -d -o {caller.owner.uid} {shown}",
        ) from error
    try:
        real = Path(f"/proc/self/fd/{descriptor}").readlink()
        _check(descriptor, real, caller)
        yield MountPoint(descriptor, real, made)
    except BaseException:
        if made:
            with suppress(OSError), acting_as(caller):
                point.rmdir()
        raise
    finally:
        os.close(descriptor)


def mount_point_of(actual: Path, wanted: Path) -> bool:
    """Whether both paths name the same mounted folder."""
    return actual == wanted or actual == Path(os.path.realpath(wanted))


def _make(point: Path, caller: Caller) -> bool:
    missing = [folder for folder in (point, *point.parents) if not os.path.lexists(folder)]
    for folder in reversed(missing):
        folder.mkdir(mode=0o755)
        if not caller.restricted:
            os.chown(folder, caller.owner.uid, caller.owner.gid, follow_symlinks=False)
    return bool(missing)


def _check(descriptor: int, real: Path, caller: Caller) -> None:
    shown = display(str(real))
    state = "the disk is attached and not mounted"
    if caller.restricted and os.fstat(descriptor).st_uid != caller.owner.uid:
        raise Refused(
            f"the folder {shown} is not yours",
            state,
            f"choose a folder of yours, or make it yours: sudo chown {caller.owner.uid} {shown}",
        )
    if any(entry.point == real for entry in mounts.mounted()):
        raise Refused(f"something else is already mounted at {shown}", state, "choose another mount point")
    if next(os.scandir(descriptor), None) is not None:
        raise Refused(f"the folder {shown} is not empty; mounting there would hide its files", state, "choose another")
