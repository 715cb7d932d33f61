"""Reading folders without ever following a symbolic link.

Names are text as ``os.fsdecode`` gives it, so that any bytes survive (surrogateescape). A folder is named by its path
below the top of its tree, parts joined by ``/``; the top itself is the empty text.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

FILE = stat.S_IFREG
FOLDER = stat.S_IFDIR
SYMLINK = stat.S_IFLNK
NTFS_TICK = 100
"""Nanoseconds that NTFS counts time in; what is between is lost."""

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_AT_ONCE = 64
_ENTRIES_PER_PAUSE = 1000


class Entry(NamedTuple):
    """What ``lstat`` tells of one name; ``link`` is the text of a symbolic link, else empty."""

    mode: int
    size: int
    mtime_ns: int
    uid: int
    gid: int
    device: int
    inode: int
    links: int
    link: str

    @property
    def kind(self) -> int:
        """File type bits of the mode: :data:`FILE`, :data:`FOLDER`, :data:`SYMLINK` or something special."""
        return self.mode & 0o170000


@dataclass(frozen=True, slots=True)
class Listing:
    """The entries of one folder by name, and why some of them could not be read.

    ``failure`` is set when the folder itself could not be read to its end; ``entries`` is then incomplete and must
    not be taken as the truth about what is gone.
    """

    entries: Mapping[str, Entry] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    failure: str = ""


def join(folder: str, name: str) -> str:
    """Path of a name in a folder, both below the top of a tree."""
    return f"{folder}/{name}" if folder else name


def shown(path: str) -> str:
    """A path as text for people: what is not UTF-8, and control characters, as backslash escapes."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def reason(error: OSError) -> str:
    """Why a system call failed, in a few words."""
    return (error.strerror or str(error)).lower()


def entry_of(info: os.stat_result, link: str = "") -> Entry:
    """An entry from a stat result."""
    return Entry(
        info.st_mode,
        info.st_size,
        info.st_mtime_ns,
        info.st_uid,
        info.st_gid,
        info.st_dev,
        info.st_ino,
        info.st_nlink,
        link,
    )


def look(name: str, folder: int) -> Entry:
    """The entry of a name in an open folder. Raises ``OSError``."""
    info = os.stat(name, dir_fd=folder, follow_symlinks=False)
    return entry_of(info, os.readlink(name, dir_fd=folder) if stat.S_ISLNK(info.st_mode) else "")


def open_quietly(name: str, flags: int, folder: int | None = None) -> int:
    """``os.open`` that leaves the access time alone where that is allowed. Raises ``OSError``."""
    try:
        return os.open(name, flags | os.O_NOATIME, dir_fd=folder)
    except PermissionError:
        return os.open(name, flags, dir_fd=folder)


def read_folder(descriptor: int, pause: Callable[[], None]) -> Listing:
    """List an open folder; ``pause`` is called every now and then and may raise to stop."""
    entries: dict[str, Entry] = {}
    problems: dict[str, str] = {}
    seen = 0
    new = tuple.__new__
    try:
        with os.scandir(descriptor) as found:
            for item in found:
                name = item.name
                seen += 1
                if seen % _ENTRIES_PER_PAUSE == 0:
                    pause()
                try:
                    info = item.stat(follow_symlinks=False)
                    link = os.readlink(name, dir_fd=descriptor) if info.st_mode & 0o170000 == SYMLINK else ""
                except FileNotFoundError:
                    continue
                except OSError as error:
                    problems[name] = reason(error)
                    continue
                # This loop runs twice for each file: no call that can be spared.
                entries[name] = new(
                    Entry,
                    (
                        info.st_mode,
                        info.st_size,
                        info.st_mtime_ns,
                        info.st_uid,
                        info.st_gid,
                        info.st_dev,
                        info.st_ino,
                        info.st_nlink,
                        link,
                    ),
                )
    except OSError as error:
        return Listing(entries, problems, reason(error))
    return Listing(entries, problems)


class Descent:
    """Opens the folders of one tree by their path below its top, each part relative to the one above.

    No symbolic link is followed below the top, whatever happens to the tree meanwhile. A walk in order opens each
    folder once; a bounded number of descriptors stays open however deep the tree is.

    Args:
        top: descriptor of the tree's top folder; stays the caller's.
        device: if given, a folder on any other filesystem is refused with ``OSError``.
    """

    def __init__(self, top: int, device: int | None = None) -> None:
        self._top = top
        self._device = device
        self._names: list[str] = []
        self._descriptors: list[int] = []
        self._path: str | None = None
        self._last = top

    def open(self, path: str) -> int:
        """Descriptor of a folder, valid until the next call. Raises ``OSError``."""
        if path == self._path:
            return self._last
        self._path = None
        parts = path.split("/") if path else []
        common = 0
        for ours, wanted in zip(self._names, parts, strict=False):
            if ours != wanted:
                break
            common += 1
        self._ascend(common)
        self._names.extend(parts[common:])
        self._descriptors.extend([-1] * (len(parts) - common))
        start = len(parts)
        while start and self._descriptors[start - 1] < 0:
            start -= 1
        try:
            for depth in range(start, len(parts)):
                above = self._descriptors[depth - 1] if depth else self._top
                self._descriptors[depth] = self._enter(self._names[depth], above)
                self._close(depth - _OPEN_AT_ONCE)
        except OSError:
            self._ascend(start)
            raise
        self._path = path
        self._last = self._descriptors[-1] if parts else self._top
        return self._last

    def close(self) -> None:
        """Close everything but the top."""
        self._path = None
        self._ascend(0)

    def _enter(self, name: str, above: int) -> int:
        descriptor = open_quietly(name, _FOLDER_FLAGS, above)
        if self._device is not None and os.fstat(descriptor).st_dev != self._device:
            os.close(descriptor)
            raise OSError(0, "another filesystem is mounted there")
        return descriptor

    def _ascend(self, depth: int) -> None:
        for index in range(depth, len(self._names)):
            self._close(index)
        del self._names[depth:]
        del self._descriptors[depth:]

    def _close(self, index: int) -> None:
        if index >= 0 and self._descriptors[index] >= 0:
            os.close(self._descriptors[index])
            self._descriptors[index] = -1
