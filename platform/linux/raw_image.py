"""A raw image: guest offsets are file offsets. And what everybody needs who reads and writes image files."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from portunix_vdisk.platform.base import MIB
from portunix_vdisk.platform.commands import display
from portunix_vdisk.platform.errors import Corrupt, Failed, NotFound

_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_PIECE = MIB


class RawImage:
    """A raw image: guest offsets are file offsets."""

    def __init__(self, descriptor: int, path: Path, size: int) -> None:
        self._descriptor = descriptor
        self._path = path
        self.size = size

    def read(self, offset: int, length: int) -> bytes:
        """See :meth:`BlockImage.read`."""
        inside(offset, length, self.size)
        parts = []
        with reported(self._path, "cannot read"):
            while length:
                part = os.pread(self._descriptor, length, offset)
                if not part:
                    raise Corrupt(f"{display(str(self._path))} became shorter while it was read")
                parts.append(part)
                offset += len(part)
                length -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """See :meth:`BlockImage.write`."""
        view = memoryview(data).cast("B")
        inside(offset, len(view), self.size)
        with reported(self._path, "cannot write to"):
            while len(view):
                count = os.pwrite(self._descriptor, view, offset)
                offset += count
                view = view[count:]

    def zero(self, offset: int, length: int) -> None:
        """See :meth:`BlockImage.zero`."""
        inside(offset, length, self.size)
        if not length or punch(self._descriptor, offset, length):
            return
        for start in range(offset, offset + length, _PIECE):
            self.write(start, bytes(min(_PIECE, offset + length - start)))

    def flush(self) -> None:
        """See :meth:`BlockImage.flush`."""
        with reported(self._path, "cannot write to"):
            os.fsync(self._descriptor)


def inside(offset: int, length: int, size: int) -> None:
    """Raises ``ValueError`` for a place that isn't on a disk of ``size`` bytes."""
    if offset < 0 or length < 0 or offset + length > size:
        raise ValueError(f"{length} bytes at {offset} are outside a disk of {size} bytes")


def punch(descriptor: int, offset: int, length: int) -> bool:
    """Make a hole in an open file, which stays as long; False where its filesystem knows none."""
    library = ctypes.CDLL(None, use_errno=True)
    library.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return not library.fallocate(descriptor, _PUNCH_HOLE | _KEEP_SIZE, offset, length)


@contextmanager
def reported(path: Path, what: str) -> Iterator[None]:
    """Errors of the system about this file are raised as ``NotFound`` and ``Failed``; ``what`` was tried with it."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {display(str(path))}") from error
    except OSError as error:
        raise Failed(f"{what} {display(str(path))}: {error.strerror}") from error
