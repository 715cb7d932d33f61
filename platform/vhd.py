"""The structures of a VHD file, checked as the hostile input that they may be.

Source: Microsoft, "Virtual Hard Disk Image Format Specification", version 1.0 (2006). A dynamic VHD begins with a copy
of its footer; then come the dynamic disk header, the block allocation table (BAT), the blocks, each after its sector
bitmap, and the footer. Numbers are big-endian.
"""

from __future__ import annotations

import os
import struct
import sys
from array import array
from dataclasses import dataclass
from itertools import pairwise

from portunix_vdisk.platform.base import SECTOR
from portunix_vdisk.platform.errors import Corrupt, Refused

LARGEST = 2039 << 30
"""Bytes of the largest disk that QEMU makes of this format and every reader accepts."""

_FOOTER = struct.Struct(">8sIIQI4sI4sQQ4sII16s")
_HEADER = struct.Struct(">8sQQIIII")
_FIXED, _DYNAMIC, _DIFFERENCING = 2, 3, 4
UNUSED = 0xFFFFFFFF
"""What the allocation table says of a block that has no place in the file and reads as zeros."""
_MOST_ENTRIES = 1 << 22
"""Entries of the largest table: 2 TiB in the smallest blocks that Windows makes, 512 KiB. QEMU's have 2 MiB."""


@dataclass(frozen=True, slots=True)
class VhdLayout:
    """What a VHD file says about itself, found to be consistent.

    ``size`` is that of the guest-visible disk; ``end`` is where the footer belongs; ``footer`` its 512 bytes;
    ``footer_in_place`` is False when a writer was killed between a new block and the footer behind it;
    ``fixed``: the file is the disk and a footer.
    """

    size: int
    end: int
    footer: bytes
    footer_in_place: bool
    fixed: bool = False


@dataclass(frozen=True, slots=True)
class VhdBlocks:
    """The blocks of a dynamic VHD. ``table`` names the sector where each one's bitmap begins, and behind it the block.

    ``table_at`` is where that table lies in the file, ``size`` the bytes of a block, ``bitmap`` those in front of it.
    """

    table_at: int
    table: array[int]
    size: int

    @property
    def bitmap(self) -> int:
        """A bit for each sector of the block, in whole sectors."""
        return -(-(self.size // SECTOR // 8) // SECTOR) * SECTOR

    def place(self, number: int) -> int | None:
        """Where the content of a block begins in the file."""
        entry = self.table[number]
        return None if entry == UNUSED else entry * SECTOR + self.bitmap


def inspect(descriptor: int) -> VhdLayout:
    """Check footer, header and allocation table of an open VHD.

    Raises:
        Corrupt: a checksum is wrong, or an entry points outside the file or into something else.
        Refused: a differencing VHD, which needs another file.
    """
    length = os.fstat(descriptor).st_size
    first = os.pread(descriptor, SECTOR, 0)
    last = os.pread(descriptor, SECTOR, max(0, length - SECTOR))
    if not _valid(first, b"conectix", 64) and _valid(last, b"conectix", 64):
        if _kind(last) == _FIXED:
            return _fixed(last, length)
        raise Corrupt("the first sector of the VHD is damaged", hint="restore the file from a copy or an export")
    if not _valid(first, b"conectix", 64):
        raise Corrupt("this is no VHD file, or its first sector is damaged", hint="restore it from a copy or an export")
    if _kind(first) == _DIFFERENCING:
        raise Refused("this is a differencing VHD, which only holds changes to another file")
    if _kind(first) != _DYNAMIC:
        raise Corrupt(f"unknown kind of VHD: {_kind(first)}")
    fields = _FOOTER.unpack_from(first)
    header_at, size = fields[3], fields[9]
    end = _end_of_blocks(descriptor, header_at, size, length)
    return VhdLayout(size, end, first, length == end + SECTOR and last == first)


def data_of(descriptor: int) -> tuple[tuple[int, int], ...]:
    """Start and end on the disk of each run of blocks that the file has room for, ascending.

    The file may be in use: it only ever grows, so that nothing it had when this was called is left out. Raises as
    :func:`inspect`.
    """
    layout = inspect(descriptor)
    if layout.fixed:
        return ((0, layout.size),)
    blocks = blocks_of(descriptor)
    runs: list[tuple[int, int]] = []
    for number, entry in enumerate(blocks.table):
        start, end = number * blocks.size, min((number + 1) * blocks.size, layout.size)
        if entry == UNUSED or start >= end:
            continue
        if runs and runs[-1][1] == start:
            runs[-1] = runs[-1][0], end
        else:
            runs.append((start, end))
    return tuple(runs)


def blocks_of(descriptor: int) -> VhdBlocks:
    """The blocks of an open dynamic VHD that was inspected."""
    header_at = _FOOTER.unpack_from(os.pread(descriptor, SECTOR, 0))[3]
    table_at, entries, block = _table_of(descriptor, header_at)
    return VhdBlocks(table_at, _read_table(descriptor, table_at, entries), block)


def restore_footer(descriptor: int, layout: VhdLayout) -> None:
    """Put the footer where it belongs; what lies behind belongs to no block. Raises ``OSError``."""
    os.pwrite(descriptor, layout.footer, layout.end)
    os.ftruncate(descriptor, layout.end + SECTOR)
    os.fsync(descriptor)


def _kind(footer: bytes) -> int:
    return int.from_bytes(footer[60:64], "big")


def _valid(sector: bytes, cookie: bytes, checksum_at: int) -> bool:
    """The checksum is the complement of the sum of all bytes, its own four taken as zero."""
    if not sector.startswith(cookie) or len(sector) < SECTOR:
        return False
    stored = int.from_bytes(sector[checksum_at : checksum_at + 4], "big")
    return stored == ~(sum(sector) - sum(sector[checksum_at : checksum_at + 4])) & 0xFFFFFFFF


def _fixed(footer: bytes, length: int) -> VhdLayout:
    size = int(_FOOTER.unpack_from(footer)[9])
    if not 0 < size <= length - SECTOR:
        raise Corrupt(f"the VHD claims {size} bytes, but the file has only {length}: it is truncated")
    return VhdLayout(size, length - SECTOR, footer, True, fixed=True)


def _end_of_blocks(descriptor: int, header_at: int, size: int, length: int) -> int:
    """Check header and table; where the last block ends."""
    header = os.pread(descriptor, 1024, header_at) if SECTOR <= header_at <= length - 1024 else b""
    if len(header) < 1024 or not _valid(header, b"cxsparse", 36):
        raise Corrupt("the header of the VHD is damaged", hint="restore the file from a copy or an export")
    table_at, entries, block = _table_of(descriptor, header_at)
    if block < 8 * SECTOR or block & (block - 1) or not 0 < size <= entries * block:
        raise Corrupt(f"the header of the VHD makes no sense: {entries} blocks of {block} bytes for {size} bytes")
    if entries > _MOST_ENTRIES:
        raise Corrupt(f"the block table of the VHD has {entries} entries, more than any disk of this format needs")
    table_end = table_at + -(-entries * 4 // SECTOR) * SECTOR
    if table_at < header_at + 1024 or table_end > length:
        raise Corrupt("the block table of the VHD lies outside the file: it is truncated or damaged")
    blocks = VhdBlocks(table_at, _read_table(descriptor, table_at, entries), block)
    table = blocks.table
    if entries and min(table) * SECTOR < table_end:  # first, since sparse files have millions of these
        raise Corrupt("the block table of the VHD points into its own header")
    used = sorted(entry for entry in table if entry != UNUSED)
    whole = blocks.bitmap + block
    if not used:
        return table_end
    if any((later - former) * SECTOR < whole for former, later in pairwise(used)):
        raise Corrupt("the block table of the VHD names the same bytes twice")
    end = used[-1] * SECTOR + whole
    if end > length:
        raise Corrupt(f"the VHD is truncated: a block ends at byte {end}, the file at {length}")
    return end


def _table_of(descriptor: int, header_at: int) -> tuple[int, int, int]:
    """Offset of the block allocation table in the file, its number of entries, bytes of a block."""
    table_at, _, entries, block = _HEADER.unpack_from(os.pread(descriptor, 1024, header_at))[2:6]
    return int(table_at), int(entries), int(block)


def _read_table(descriptor: int, table_at: int, entries: int) -> array[int]:
    table = array("I")
    table.frombytes(os.pread(descriptor, entries * 4, table_at))
    if sys.byteorder == "little":
        table.byteswap()
    return table
