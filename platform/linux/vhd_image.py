"""The disk inside a dynamic VHD, read and written in place.

QEMU could do it, but only behind a socket, and every byte is then copied three times more. Its blocks lie 512 bytes
beside the pages of the file, so that whatever is written to one page of the disk touches two; ours lie on pages.

Source of the format: see :mod:`portunix_vdisk.platform.vhd`.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

from portunix_vdisk.platform import vhd
from portunix_vdisk.platform.base import SECTOR, Extent
from portunix_vdisk.platform.linux.holes import data_of
from portunix_vdisk.platform.linux.raw_image import RawImage, inside

_PAGE = 4096


class VhdImage:
    """A dynamic VHD, opened.

    A block that is new gets its place behind the last one. The footer is written behind it first, then the block, then
    its entry in the table: killed at any moment, nothing refers to what is not there.
    """

    def __init__(self, descriptor: int, path: Path) -> None:
        layout = vhd.inspect(descriptor)
        self._file = RawImage(descriptor, path, 1 << 62)
        self._footer, self._end = layout.footer, layout.end
        self._blocks = vhd.blocks_of(descriptor)
        self._growing = threading.Lock()
        self._marked: set[int] = set()
        """Blocks whose bitmap says that all their sectors are in use."""
        self.size = layout.size

    def read(self, offset: int, length: int) -> bytes:
        """See :meth:`BlockImage.read`."""
        inside(offset, length, self.size)
        parts = []
        for number, within, count in self._pieces(offset, length):
            place = self._blocks.place(number)
            parts.append(bytes(count) if place is None else self._file.read(place + within, count))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """See :meth:`BlockImage.write`."""
        view = memoryview(data).cast("B")
        inside(offset, len(view), self.size)
        for number, within, count in self._pieces(offset, len(view)):
            piece, view = view[:count], view[count:]
            if self._blocks.place(number) is None:
                with self._growing:
                    if self._blocks.place(number) is None:
                        self._add(number, within, piece)
                        continue
            self._mark(number)
            self._file.write(self._place(number) + within, piece)

    def zero(self, offset: int, length: int) -> None:
        """See :meth:`BlockImage.zero`. The format cannot give a block back, but its file can have a hole there."""
        inside(offset, length, self.size)
        for number, within, count in self._pieces(offset, length):
            place = self._blocks.place(number)
            if place is not None:
                self._file.zero(place + within, count)

    def flush(self) -> None:
        """See :meth:`BlockImage.flush`."""
        self._file.flush()

    def _pieces(self, offset: int, length: int) -> Iterator[tuple[int, int, int]]:
        """Number of a block, offset in it and bytes, for each block that a place on the disk touches."""
        while length:
            number, within = divmod(offset, self._blocks.size)
            count = min(self._blocks.size - within, length)
            yield number, within, count
            offset, length = offset + count, length - count

    def _place(self, number: int) -> int:
        place = self._blocks.place(number)
        assert place is not None
        return place

    def _add(self, number: int, within: int, piece: memoryview) -> None:
        blocks = self._blocks
        start = self._end + -(self._end + blocks.bitmap) % _PAGE
        end = start + blocks.bitmap + blocks.size
        self._file.write(end, self._footer)
        # What was the footer, and whatever a killed writer may have left, must not be taken for content.
        self._file.zero(self._end, end - self._end)
        self._file.write(start, b"\xff" * blocks.bitmap)
        self._file.write(start + blocks.bitmap + within, piece)
        blocks.table[number] = start // SECTOR
        self._file.write(blocks.table_at + 4 * number, blocks.table[number].to_bytes(4, "big"))
        self._marked.add(number)
        self._end = end

    def _mark(self, number: int) -> None:
        """Others may have set only the bits of sectors that were written; readers may take the rest for zeros."""
        if number not in self._marked:
            self._file.write(self._place(number) - self._blocks.bitmap, b"\xff" * self._blocks.bitmap)
            self._marked.add(number)


def extents(descriptor: int) -> Iterator[Extent]:
    """Where the file of a dynamic VHD, which was inspected, has data of the disk, in the order of the disk."""
    blocks, size = vhd.blocks_of(descriptor), vhd.inspect(descriptor).size
    runs = list(data_of(descriptor, os.fstat(descriptor).st_size))
    ends = [end for _, end in runs]
    for number, entry in enumerate(blocks.table):
        start = number * blocks.size
        if entry == vhd.UNUSED or start >= size:
            continue
        place = entry * SECTOR + blocks.bitmap
        last = place + min(blocks.size, size - start)
        for at in range(bisect_right(ends, place), len(runs)):
            begin, end = max(runs[at][0], place), min(runs[at][1], last)
            if begin >= end:
                break
            yield Extent(start + begin - place, end - begin, begin)
