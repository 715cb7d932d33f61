"""Mounting and unmounting by the kernel's own calls, and what is mounted now.

Sources: mount(2), umount2(2), syncfs(2), proc_pid_mountinfo(5), include/uapi/linux/fs.h.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOATIME = 1, 2, 4, 1024
_UMOUNT_NOFOLLOW = 8
_FITRIM = 0xC0185879
_RANGE = struct.Struct("=QQQ")
"""struct fstrim_range: start, length, shortest run; all in bytes, the length also comes back."""

_OCTAL = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One line of ``/proc/self/mountinfo``: device number, where, kind of filesystem, what."""

    device: int
    point: Path
    kind: str
    source: str
    failed: bool
    """Whether the filesystem itself is read-only although the mount is not: it met errors."""
    mapped: bool
    """Whether it shows other owners than the filesystem has."""


def mounted() -> list[MountEntry]:
    """Everything that is mounted in our namespace, oldest first."""
    entries = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        left, _, right = line.partition(b" - ")
        fields, (kind, source, *options) = left.split(), right.split()
        of_mount, of_filesystem = fields[5].split(b","), (options[0] if options else b"").split(b",")
        major, minor = fields[2].split(b":")
        entries.append(
            MountEntry(
                os.makedev(int(major), int(minor)),
                Path(_plain(fields[4])),
                os.fsdecode(kind),
                _plain(source),
                b"emergency_ro" in of_filesystem or (b"ro" in of_filesystem and b"ro" not in of_mount),
                b"idmapped" in of_mount,
            )
        )
    return entries


def device_below(descriptor: int) -> int:
    """The number that :func:`mounted` gives the filesystem of an open file; 0 where it cannot be told.

    Btrfs gives each of its subvolumes another one in ``stat``. Source: proc(5), ``mnt_id`` in ``/proc/PID/fdinfo``.
    """
    facts = Path(f"/proc/self/fdinfo/{descriptor}").read_bytes()
    found = next((line.split()[1] for line in facts.splitlines() if line.startswith(b"mnt_id:")), b"")
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        number, _, device = line.split()[:3]
        if number == found:
            major, minor = device.split(b":")
            return os.makedev(int(major), int(minor))
    return 0


def is_fuse(kind: str) -> bool:
    """Whether a program shows what is mounted, and not the kernel."""
    return kind in ("fuse", "fuseblk") or kind.startswith("fuse.")


def _plain(field: bytes) -> str:
    """Blanks, tabs, newlines and backslashes are written as octal."""
    return os.fsdecode(_OCTAL.sub(lambda match: bytes([int(match[1], 8)]), field))


def mount(source: str, target: str, kind: str, flags: int, options: str) -> None:
    """Mount ``source`` on ``target``. Raises ``OSError``."""
    _check(_libc().mount(os.fsencode(source), os.fsencode(target), kind.encode(), flags, options.encode()), target)


def unmount(target: Path) -> None:
    """Unmount, never lazily: when it returns, the filesystem is gone. Raises ``OSError``."""
    _check(_libc().umount2(os.fsencode(target), _UMOUNT_NOFOLLOW), str(target))


def sync(folder: Path) -> None:
    """Write everything of the filesystem at ``folder`` to its disk. Raises ``OSError`` if some of it was lost."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _check(_libc().syncfs(descriptor), str(folder))
    finally:
        os.close(descriptor)


def trim(folder: Path) -> int:
    """Discard the free blocks of the filesystem at ``folder``; bytes discarded. Needs root. Raises ``OSError``."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Blocks freed by a transaction that isn't committed yet would be left out.
        _check(_libc().syncfs(descriptor), str(folder))
        done = fcntl.ioctl(descriptor, _FITRIM, _RANGE.pack(0, 2**64 - 1, 0))
    finally:
        os.close(descriptor)
    return int(_RANGE.unpack(done)[1])


def _libc() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.mount.argtypes = [ctypes.c_char_p] * 3 + [ctypes.c_ulong, ctypes.c_char_p]
    return library


def _check(result: int, name: str) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name)
