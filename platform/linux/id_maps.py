"""Showing what belongs to one user on a disk as another's: the tables of ids, and what the kernel needs of them.

The owner and the caller swap their numbers, and all others keep theirs. So every id has exactly one counterpart, what
others own stays theirs, and no number can be written to the disk that nobody has. Only the mount is so: on the disk
nothing changes.

Sources: user_namespaces(7), mount_setattr(2), Documentation/filesystems/idmappings.rst of Linux.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.platform.base import Attachment, FileSystemType, Owner
from portunix_vdisk.platform.commands import Commands, ended
from portunix_vdisk.platform.errors import Missing

HIGHEST_ID = 2**32 - 2
"""The largest number that a user or a group can have; the next one means none."""
_NOBODYS = (FileSystemType.FAT32, FileSystemType.EXFAT)
"""Filesystems that keep no owners: everything on them is the caller's."""
_PATIENCE, _STEP = 5.0, 0.001
"""Seconds for a process to make its namespace, and between two looks."""


@dataclass(frozen=True, slots=True)
class IdMap:
    """Whose files (``disk``, as the numbers on the disk are) are shown as whose (``shown``)."""

    disk: Owner
    shown: Owner


def id_map(disk: Owner, caller: Owner) -> IdMap | None:
    """How a disk is shown to its user; None where they need no map, or may have none.

    Root's numbers are never exchanged: root needs it not, and what belongs to root on a disk, whatever a catalog or an
    archive says about its owner, is never shown as somebody else's.
    """
    if not disk.uid or not caller.uid or max(disk.uid, disk.gid) > HIGHEST_ID:
        return None
    owner = Owner(disk.uid, disk.gid if disk.gid and caller.gid else caller.gid)
    return None if owner == caller else IdMap(owner, caller)


def why_not_shown(held: Attachment, fs: FileSystemType, disk: Owner, caller: Owner) -> str:
    """Why the files of a mounted disk's owner do not count as the caller's; empty if they do, or the caller is root."""
    if held.mapped or caller.uid in (0, disk.uid) or fs in _NOBODYS:
        return ""
    if held.rootless:
        return f"new files get your number, {caller.uid}, on the disk"
    if not disk.uid:
        return "what is root's on a disk is never shown as somebody else's"
    return f"nothing here can show {fs.value} as if it did; unmount it and mount it with --chown to make them yours"


def table(one: int, other: int) -> str:
    """Lines of ``/proc/PID/uid_map`` in which two ids swap: the id on the disk, the one that is shown, how many."""
    low, high = sorted((one, other))
    if low == high:
        return f"0 0 {HIGHEST_ID + 1}\n"
    runs = [(0, 0, low), (low, high, 1), (low + 1, low + 1, high - low - 1), (high, low, 1)]
    runs.append((high + 1, high + 1, HIGHEST_ID - high))
    return "".join(f"{first} {shown} {count}\n" for first, shown, count in runs if count)


@contextmanager
def namespace(commands: Commands, wanted: IdMap) -> Iterator[int]:
    """Descriptor of a user namespace with the tables of a map. Raises ``Missing`` where root may not make one."""
    # cat ends when its input does, so also if we do.
    process = commands.start("unshare", "--user", "cat", stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    descriptor = -1
    try:
        with ended(process):
            assert process.stdin is not None
            folder = Path(f"/proc/{process.pid}")
            descriptor = _namespace_of(process, folder / "ns/user")
            # Each in one piece: a table can be written once.
            try:
                (folder / "uid_map").write_text(table(wanted.disk.uid, wanted.shown.uid))
                (folder / "gid_map").write_text(table(wanted.disk.gid, wanted.shown.gid))
            except OSError as error:  # a container's root, who has not all ids
                raise Missing("root may not exchange ids on this machine") from error
            process.stdin.close()
        yield descriptor
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _namespace_of(process: subprocess.Popen[bytes], link: Path) -> int:
    ours, deadline = Path("/proc/self/ns/user").stat().st_ino, time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        descriptor = os.open(link, os.O_RDONLY | os.O_CLOEXEC)
        if os.fstat(descriptor).st_ino != ours:
            return descriptor
        os.close(descriptor)
        time.sleep(_STEP)
    raise Missing("the kernel of this machine makes no user namespaces")
