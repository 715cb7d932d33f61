"""The bytes of an archive: one file, or volumes that are one when ``cat`` joins them."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from portunix_vdisk.platform.errors import Corrupt
from portunix_vdisk.steps.closing import Closing
from portunix_vdisk.steps.durable import fsync_folder

MAX_VOLUMES = 9999


class Readable(Protocol):
    """Bytes at offsets."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes at ``offset``, fewer only at the end. Raises ``OSError``."""


def read_exactly(file: Readable, offset: int, length: int) -> bytes:
    """``length`` bytes at ``offset``. Raises ``Corrupt`` at the end, ``OSError``."""
    data = file.read(offset, length)
    if len(data) < length:
        raise Corrupt("the archive is truncated", hint="copy or export it again")
    return data


def volume_path(path: Path, number: int) -> Path:
    """Path of a volume, from 1: ``NAME.001``."""
    return path.with_name(f"{path.name}.{number:03}")


def whole_path(path: Path) -> Path:
    """The name that all volumes share, for the name of the first volume; any other path as it is."""
    return path.with_name(path.name[:-4]) if path.name.endswith(".001") and len(path.name) > 4 else path


def exists(path: Path) -> bool:
    """Whether there is an archive file of this name, in one piece or in volumes."""
    return path.exists() or volume_path(path, 1).exists()


def volumes_of(path: Path) -> list[Path]:
    """The files that make up ``path``: itself, its volumes in order, or none."""
    if path.exists():
        return [path]
    found: list[Path] = []
    while len(found) < MAX_VOLUMES and (volume := volume_path(path, len(found) + 1)).exists():
        found.append(volume)
    return found


def take_back(partial: Path, final: Path) -> None:
    """Undo what a killed run renamed of volumes whose first one, which makes an archive of them, has no name yet."""
    if not volume_path(partial, 1).exists() or volume_path(final, 1).exists():
        return
    for number in range(2, MAX_VOLUMES):
        here, there = volume_path(partial, number), volume_path(final, number)
        if not here.exists():
            if not there.exists():
                return
            there.rename(here)


class ArchiveFile(Closing):
    """An open archive file; a context manager. Reading is safe from several threads.

    Args:
        path: its name; volumes are called ``NAME.001``, ``NAME.002`` …
        writable: open for writing.
        create: make it if there is none; with a ``limit``, in volumes.
        limit: size at which a volume is full, in bytes; None for one file.

    Raises ``FileNotFoundError`` and other ``OSError``.
    """

    def __init__(self, path: Path, *, writable: bool = False, create: bool = False, limit: int | None = None) -> None:
        self.path = path
        self.limit = limit
        self._flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC | os.O_NONBLOCK
        if writable:
            self._flags |= os.O_NOFOLLOW
        self._medium = _filesystem_of(path.parent)
        self._starts: list[int] = []
        self._descriptors: list[int] = []
        files = volumes_of(path)
        self.split = bool(files and files[0] != path) or (not files and limit is not None)
        try:
            for file in files:
                self._add(file, 0)
            if not files:
                self._add(volume_path(path, 1) if self.split else path, os.O_CREAT if create else 0)
        except BaseException:
            self.close()
            raise
        if self.limit is None and len(self._starts) > 1:
            self.limit = self._starts[1]  # all but the last one are full

    def close(self) -> None:
        """Release the files."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    @property
    def size(self) -> int:
        """Length of all volumes in bytes."""
        return self._starts[-1] + os.fstat(self._descriptors[-1]).st_size

    @property
    def files(self) -> list[Path]:
        """The files that it is made of."""
        if not self.split:
            return [self.path]
        return [volume_path(self.path, number + 1) for number in range(len(self._descriptors))]

    def lock(self) -> None:
        """Lock against other processes until it is closed. Raises ``BlockingIOError``."""
        fcntl.flock(self._descriptors[0], fcntl.LOCK_EX | fcntl.LOCK_NB)

    def is_still_there(self) -> bool:
        """Whether the first file still has its name."""
        held = os.fstat(self._descriptors[0])
        try:
            there = self.files[0].stat()
        except OSError:
            return False
        return (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino)

    def part_at(self, offset: int) -> tuple[int, int]:
        """First byte and end of the volume in which a byte of the archive lies."""
        number = bisect_right(self._starts, offset) - 1
        start = self._starts[number]
        return start, start + os.fstat(self._descriptors[number]).st_size

    def is_medium_there(self) -> bool:
        """Whether its folder is still on the filesystem on which it was when the file was opened."""
        return _filesystem_of(self.path.parent) == self._medium

    def read(self, offset: int, length: int) -> bytes:
        parts: list[bytes] = []
        while length > 0:
            number = bisect_right(self._starts, offset) - 1
            part = os.pread(self._descriptors[number], length, offset - self._starts[number])
            if not part:
                break
            if len(part) == length and not parts:
                return part
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return b"".join(parts)

    def write(self, offset: int, parts: Sequence[bytes]) -> None:
        """Write all parts one after the other, however often the system takes less. Raises ``OSError``."""
        left = [memoryview(part) for part in parts if part]
        while left:
            number = bisect_right(self._starts, offset) - 1
            inside = offset - self._starts[number]
            now = left
            if self.limit is not None and self.split:
                if inside >= self.limit:
                    self._add(volume_path(self.path, len(self._descriptors) + 1), os.O_CREAT | os.O_EXCL)
                    fsync_folder(self.path.parent)
                    continue
                now = _first(left, self.limit - inside)
            written = os.pwritev(self._descriptors[number], now, inside)
            if written <= 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            offset += written
            while left and written >= len(left[0]):
                written -= len(left.pop(0))
            if left and written:
                left[0] = left[0][written:]

    def truncate(self, end: int) -> None:
        """Drop everything from ``end`` on; volumes that begin there vanish. Raises ``OSError``."""
        while len(self._starts) > 1 and self._starts[-1] >= end:
            volume_path(self.path, len(self._descriptors)).unlink()
            self._starts.pop()
            os.close(self._descriptors.pop())
        if self.size != end:  # fusefat refuses what would change nothing
            os.ftruncate(self._descriptors[-1], end - self._starts[-1])

    def sync(self) -> None:
        """Return when everything written, and the names, are on stable storage. Raises ``OSError``."""
        for descriptor in self._descriptors:
            os.fsync(descriptor)
        fsync_folder(self.path.parent)

    def write_back(self) -> None:
        """Bring the data of the last file to stable storage. Raises ``OSError``."""
        for descriptor in self._descriptors[-2:]:
            os.fdatasync(descriptor)

    def forget_cache(self) -> None:
        """Let later reads come from the medium and not from memory. Call :meth:`sync` first."""
        for descriptor in self._descriptors:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def _add(self, path: Path, flags: int) -> None:
        descriptor = os.open(path, self._flags | flags, 0o666)
        start = self.size if self._descriptors else 0
        self._descriptors.append(descriptor)
        self._starts.append(start)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))


class Joined:
    """The first ``at`` bytes of one file with another one behind them, for reading."""

    def __init__(self, first: Readable, at: int, more: Readable) -> None:
        self._first = first
        self._at = at
        self._more = more

    @property
    def size(self) -> int:
        return self._at + self._more.size

    def read(self, offset: int, length: int) -> bytes:
        if offset >= self._at:
            return self._more.read(offset - self._at, length)
        head = self._first.read(offset, min(length, self._at - offset))
        if offset + len(head) < self._at or len(head) == length:
            return head
        return head + self._more.read(0, length - len(head))


class Prefix:
    """The first bytes of a file, for reading."""

    def __init__(self, file: Readable, size: int) -> None:
        self._file = file
        self.size = size

    def read(self, offset: int, length: int) -> bytes:
        return self._file.read(offset, max(0, min(length, self.size - offset)))


def _first(parts: Sequence[memoryview], room: int) -> list[memoryview]:
    """The first ``room`` bytes of ``parts``."""
    taken: list[memoryview] = []
    for part in parts:
        if room <= 0:
            break
        taken.append(part[:room])
        room -= len(taken[-1])
    return taken


def _filesystem_of(folder: Path) -> int | None:
    try:
        return folder.stat().st_dev
    except OSError:
        return None
