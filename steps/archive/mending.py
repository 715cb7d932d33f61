"""Bytes of an archive that are to become others: looked at as if they were written already, then written safely."""

from __future__ import annotations

import errno
from bisect import insort
from pathlib import Path
from typing import Final

from portunix_vdisk.platform.errors import Failed, VdiskError
from portunix_vdisk.steps.archive.storage import ArchiveFile, Readable

PAGE: Final = 4096
"""What is written at once: systems read and write whole pages, and one that cannot be read is replaced whole."""


class Lenient:
    """An archive on a medium that no longer gives everything back: what cannot be read is zeros, page by page."""

    def __init__(self, file: Readable) -> None:
        self._file = file

    @property
    def size(self) -> int:
        return self._file.size

    def read(self, offset: int, length: int) -> bytes:
        try:
            return self._file.read(offset, length)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
        parts: list[bytes] = []
        end = min(offset + length, self.size)
        while offset < end:
            step = min(PAGE - offset % PAGE, end - offset)
            try:
                parts.append(self._file.read(offset, step))
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                parts.append(bytes(step))
            offset += step
        return b"".join(parts)


class Overlay:
    """A file with some bytes replaced, for reading. Its length stays as it is."""

    def __init__(self, file: Readable) -> None:
        self._file = file
        self.pieces: list[tuple[int, bytes]] = []
        """What was put where, in the order of the file, nothing over another."""

    @property
    def size(self) -> int:
        return self._file.size

    def put(self, offset: int, data: bytes) -> None:
        """Let these bytes be read at ``offset``."""
        insort(self.pieces, (offset, data))

    @property
    def held(self) -> int:
        """Bytes that were put and not written."""
        return sum(len(data) for _, data in self.pieces)

    def drop(self, offset: int) -> None:
        """Take back what was put at ``offset``."""
        self.pieces = [piece for piece in self.pieces if piece[0] != offset]

    def read(self, offset: int, length: int) -> bytes:
        there = self._file.read(offset, length)
        end = offset + len(there)
        over = [(at, data) for at, data in self.pieces if at < end and at + len(data) > offset]
        if not over:
            return there
        made = bytearray(there)
        for at, data in over:
            start, stop = max(at, offset), min(at + len(data), end)
            made[start - offset : stop - offset] = data[start - at : stop - at]
        return bytes(made)


def is_unreadable(error: VdiskError) -> bool:
    """Whether this is about a place that a medium doesn't give back: damage, as far as archives are concerned."""
    cause: BaseException | None = error
    while isinstance(cause, VdiskError):
        cause = cause.__cause__
    return isinstance(cause, OSError) and cause.errno == errno.EIO


def write_pieces(target: ArchiveFile, overlay: Overlay) -> int:
    """Write what an overlay replaced, durably, and only pages in which something differs; how many bytes that were.

    Every byte that is written is right, and the ones it replaces were damaged: a crash leaves some of them mended.
    Raises ``OSError``.
    """
    written, done = 0, -1
    for at, data in overlay.pieces:
        while_in = max(at, done)
        while while_in < at + len(data):
            first, last = target.part_at(while_in)
            start = first + (while_in - first) // PAGE * PAGE
            end = min(start + PAGE, last)
            wanted = overlay.read(start, end - start)
            if _there(target, start, end - start) != wanted:
                target.write(start, (wanted,))
                written += end - start
            while_in = done = end
    if written:
        target.sync()
        target.forget_cache()
    return written


def write_mended(archive: Path, overlay: Overlay) -> int:
    """The same for the archive of this name; the overlay is empty then. Raises ``Failed``."""
    if not overlay.pieces:
        return 0
    try:
        with ArchiveFile(archive, writable=True) as target:
            written = write_pieces(target, overlay)
        overlay.pieces.clear()
        return written
    except OSError as error:
        raise Failed(
            f"cannot mend {archive}: {error.strerror}",
            state="some of what was damaged may be mended; nothing else was changed",
            hint="copy the archive to another medium, and repair the copy",
        ) from error


def _there(file: ArchiveFile, offset: int, length: int) -> bytes | None:
    try:
        return file.read(offset, length)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return None
