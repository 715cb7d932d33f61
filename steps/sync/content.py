"""The bytes of one file: copying them, holes included, and comparing them."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

from portunix_vdisk.steps.sync.scan import open_quietly, reason

BLOCK = 1 << 20
READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""O_NONBLOCK: a file that has become a fifo must not stop us; it means nothing for regular files."""


class SourceUnreadable(Exception):
    """A source file cannot be read; says why."""


class SourceChanged(Exception):
    """A source file is not what it was when the copy was planned, or changed while it was read."""


class Version(NamedTuple):
    """Tells whether a file changed while it was being read."""

    size: int
    mtime_ns: int


def open_source(name: str, folder: int, version: Version) -> tuple[int, os.stat_result]:
    """Open a regular file that must be in the given version.

    Raises :class:`SourceUnreadable`, :class:`SourceChanged`.
    """
    try:
        descriptor = open_quietly(name, READ_FLAGS, folder)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
            raise SourceChanged from error
        raise SourceUnreadable(reason(error)) from error
    info = os.fstat(descriptor)
    if not stat.S_ISREG(info.st_mode) or info.st_size != version.size or info.st_mtime_ns != version.mtime_ns:
        os.close(descriptor)
        raise SourceChanged
    return descriptor, info


def copy_content(source: int, target: int, info: os.stat_result, pulse: Callable[[int], None]) -> None:
    """Copy an open file in the version ``info`` into an empty one; holes stay holes.

    Args:
        source: descriptor to read from; its position is at the start.
        target: descriptor to write to.
        info: what ``fstat`` said of the source before.
        pulse: told every now and then how many bytes were copied since; may raise to stop.

    Raises:
        SourceUnreadable: an error of the source.
        SourceChanged: the source became another version meanwhile.
        OSError: an error of the target.
    """
    size = info.st_size
    if 0 < size <= BLOCK and info.st_blocks * 512 >= size:
        data = _read(source, size + 1)
        if len(data) != size:
            raise SourceChanged
        _write(target, memoryview(data), 0, fresh=True)
        pulse(size)
    elif size:
        buffer = memoryview(bytearray(BLOCK))
        done = 0
        for start, end in _data(source, info):
            position = start
            while position < end:
                part = buffer[: min(BLOCK, end - position)]
                count = _read_into(source, part, position)
                if not count:
                    raise SourceChanged
                _write(target, part[:count], position)
                position += count
                pulse(position - done)
                done = position
        if os.fstat(target).st_size != size:
            os.ftruncate(target, size)
        pulse(size - done)
    after = os.fstat(source)
    if after.st_size != size or after.st_mtime_ns != info.st_mtime_ns:
        raise SourceChanged


def equal_content(one: int, other: int, size: int, pulse: Callable[[], None]) -> bool:
    """Whether two open files have the same ``size`` bytes. Raises ``OSError`` and what ``pulse`` raises."""
    first, second = memoryview(bytearray(BLOCK)), memoryview(bytearray(BLOCK))
    position = 0
    while position < size:
        pulse()
        count = os.preadv(one, [first], position)
        if not count or os.preadv(other, [second[:count]], position) != count or first[:count] != second[:count]:
            return False
        position += count
    return position == size


def _data(source: int, info: os.stat_result) -> Iterator[tuple[int, int]]:
    """The ranges of a file that hold data."""
    size = info.st_size
    if info.st_blocks * 512 >= size:
        yield 0, size
        return
    position = 0
    while position < size:
        try:
            start = os.lseek(source, position, os.SEEK_DATA)
            end = os.lseek(source, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            if error.errno == errno.EINVAL:  # a filesystem that cannot tell
                yield position, size
                return
            raise SourceUnreadable(reason(error)) from error
        yield start, min(end, size)
        position = end


def _read(source: int, length: int) -> bytes:
    try:
        return os.read(source, length)
    except OSError as error:
        raise SourceUnreadable(reason(error)) from error


def _read_into(source: int, buffer: memoryview, position: int) -> int:
    try:
        return os.preadv(source, [buffer], position)
    except OSError as error:
        raise SourceUnreadable(reason(error)) from error


def _write(target: int, data: memoryview, position: int, *, fresh: bool = False) -> None:
    if fresh:  # the position is where it has to be: one plain write is the cheapest way
        written = os.write(target, data)
        data, position = data[written:], position + written
    while data:
        written = os.pwrite(target, data, position)
        data, position = data[written:], position + written
