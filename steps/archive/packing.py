"""From a place on the disk to the payload of a member: the work that threads do in an export."""

from __future__ import annotations

import hashlib
import os
import threading
import zlib
from bisect import bisect_right
from collections.abc import Container, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import zstandard

from portunix_vdisk.platform.base import Extent, ImageMap
from portunix_vdisk.platform.errors import Failed
from portunix_vdisk.steps.archive.layout import CHUNK_SIZE, Kind, chunk_length

LEVEL: Final = 3
_ZEROS: Final = bytes(CHUNK_SIZE)


@dataclass(frozen=True, slots=True)
class Packed:
    """One chunk, ready to be written. ``kind`` SAME: the digest was known, there is no payload."""

    offset: int
    length: int
    digest: bytes
    kind: Kind
    payload: bytes
    crc: int


def covered_chunks(image: ImageMap) -> list[int]:
    """Offsets of all chunks that have data, ascending."""
    offsets: list[int] = []
    for extent in image.extents:
        first = extent.start // CHUNK_SIZE
        if offsets and offsets[-1] // CHUNK_SIZE == first:
            first += 1
        end = -(-(extent.start + extent.length) // CHUNK_SIZE)
        offsets.extend(chunk * CHUNK_SIZE for chunk in range(first, end))
    return offsets


class _Local(threading.local):
    """What each thread keeps: allocating and faulting in 4 MiB for every chunk would cost a tenth of the time."""

    def __init__(self) -> None:
        self.buffer = bytearray(CHUNK_SIZE)
        self.compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True, write_content_size=True)


class Packer:
    """Reads, hashes and compresses chunks of an image file; usable from several threads.

    Args:
        path: the image, for messages.
        descriptor: the image file, opened for reading.
        image: where its data lies.
        known: digests whose payload is in the archive already; it may grow while threads look into it.
    """

    def __init__(self, path: Path, descriptor: int, image: ImageMap, known: Container[bytes]) -> None:
        self._path = path
        self._descriptor = descriptor
        self._size = image.size
        self._extents: Sequence[Extent] = image.extents
        self._ends = [extent.start + extent.length for extent in image.extents]
        self._known = known
        self._local = _Local()

    def pack(self, offset: int) -> Packed:
        """The chunk at ``offset``. Raises ``Failed`` when it can't be read."""
        length = chunk_length(offset, self._size)
        buffer = self._local.buffer
        if length != CHUNK_SIZE:
            buffer = bytearray(length)
        self._read(offset, length, buffer)
        if buffer == _ZEROS[:length]:
            return Packed(offset, length, bytes(32), Kind.ZERO, b"", 0)
        digest = hashlib.sha256(buffer).digest()
        if digest in self._known:
            return Packed(offset, length, digest, Kind.SAME, b"", 0)
        payload, kind = self._local.compressor.compress(buffer), Kind.ZSTD
        if len(payload) >= length - length // 32:
            payload, kind = bytes(buffer), Kind.RAW
        return Packed(offset, length, digest, kind, payload, zlib.crc32(payload))

    def data_bytes(self, offset: int) -> int:
        """How many bytes of the chunk at ``offset`` are data and not hole."""
        end = offset + chunk_length(offset, self._size)
        return sum(stop - start for start, stop, _ in self._pieces(offset, end))

    def announce(self, offset: int) -> None:
        """Let the system read the chunk at ``offset`` into its cache meanwhile."""
        for start, stop, place in self._pieces(offset, offset + chunk_length(offset, self._size)):
            with suppress(OSError):  # only advice
                os.posix_fadvise(self._descriptor, place, stop - start, os.POSIX_FADV_WILLNEED)

    def _pieces(self, offset: int, end: int) -> list[tuple[int, int, int]]:
        """Data between two disk offsets: start and end on the disk, offset in the image file."""
        pieces = []
        for number in range(bisect_right(self._ends, offset), len(self._extents)):
            extent = self._extents[number]
            if extent.start >= end:
                break
            start, stop = max(extent.start, offset), min(extent.start + extent.length, end)
            pieces.append((start, stop, extent.offset + start - extent.start))
        return pieces

    def _read(self, offset: int, length: int, buffer: bytearray) -> None:
        filled = 0
        with memoryview(buffer) as view:
            for start, stop, place in self._pieces(offset, offset + length):
                if start - offset > filled:
                    view[filled : start - offset] = _ZEROS[: start - offset - filled]
                self._read_piece(view[start - offset : stop - offset], place, start)
                filled = stop - offset
            if filled < length:
                view[filled:length] = _ZEROS[: length - filled]

    def _read_piece(self, view: memoryview, place: int, start: int) -> None:
        while view:
            try:
                got = os.preadv(self._descriptor, [view], place)
            except OSError as error:
                raise Failed(
                    f"cannot read {self._path} at byte {place} (disk offset {start}): {error.strerror}",
                    state="what was written so far is kept",
                    hint="check the disk that holds the image, then run the same command to continue",
                ) from error
            if got == 0:
                raise Failed(
                    f"{self._path} ends before byte {place}: it was changed while it was read",
                    state="what was written so far is kept",
                    hint="run the same command to continue",
                )
            view, place, start = view[got:], place + got, start + got
