"""An initial root filesystem for a Linux kernel: a cpio archive of the "newc" kind.

Source of the format: Documentation/driver-api/early-userspace/buffer-format.rst of the Linux kernel.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

_END = "TRAILER!!!"


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link."""

    target: str


Entry = bytes | Link
"""Content of a file, executable in any case, or a link."""


def archive(entries: Mapping[str, Entry]) -> bytes:
    """All entries, by path without a leading slash, with the folders they need."""
    pieces = [_member(folder, stat.S_IFDIR | 0o755, b"") for folder in _folders(entries)]
    for path, entry in entries.items():
        if isinstance(entry, Link):
            pieces.append(_member(path, stat.S_IFLNK | 0o777, entry.target.encode()))
        else:
            pieces.append(_member(path, stat.S_IFREG | 0o755, entry))
    return b"".join((*pieces, _member(_END, 0, b"")))


def _folders(entries: Mapping[str, Entry]) -> Iterator[str]:
    parents = {str(parent) for path in entries for parent in PurePosixPath(path).parents}
    yield from sorted(parents - {"."})  # a folder before what is in it


def _member(path: str, mode: int, data: bytes) -> bytes:
    name = path.encode() + b"\0"
    # magic; inode, mode, uid, gid, links, mtime, length, two devices of two numbers, length of the name, checksum
    numbers = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % number for number in numbers) + name
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
