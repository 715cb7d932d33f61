"""Reading and writing exact numbers of bytes at offsets of plain files."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from portunix_vdisk.platform.errors import Corrupt


def read_exactly(descriptor: int, offset: int, length: int) -> bytes:
    """``length`` bytes at ``offset``. Raises ``Corrupt`` at the file's end, ``OSError``."""
    data = os.pread(descriptor, length, offset)
    if len(data) < length:
        parts = [data]
        while (missing := length - sum(map(len, parts))) > 0:
            part = os.pread(descriptor, missing, offset + length - missing)
            if not part:
                raise Corrupt("the archive is truncated", hint="copy or export it again")
            parts.append(part)
        data = b"".join(parts)
    return data


def read_up_to(descriptor: int, offset: int, length: int) -> bytes:
    """``length`` bytes at ``offset``, fewer only at the file's end. Raises ``OSError``."""
    parts = []
    while length > 0 and (part := os.pread(descriptor, length, offset)):
        parts.append(part)
        offset, length = offset + len(part), length - len(part)
    return b"".join(parts)


def write_all(descriptor: int, offset: int, parts: Sequence[bytes]) -> None:
    """Write all parts one after the other from ``offset``, however often the system takes less. Raises ``OSError``."""
    left = [memoryview(part) for part in parts if part]
    while left:
        written = os.pwritev(descriptor, left, offset)
        if written <= 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        offset += written
        while left and written >= len(left[0]):
            written -= len(left.pop(0))
        if left and written:
            left[0] = left[0][written:]
