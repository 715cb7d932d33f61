"""Making the disk in a VHD larger or smaller, where it is.

Killed between any two writes, the file says either the one or the other size, and doing it again finishes it.

Source of the format: see :mod:`portunix_vdisk.platform.vhd`.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from portunix_vdisk.platform import vhd
from portunix_vdisk.platform.base import SECTOR
from portunix_vdisk.platform.linux.raw_image import RawImage

_ANY = 1 << 62
_PAGE = 4096
_PIECE = 64 << 10
_SIZE_AT, _GEOMETRY_AT, _SUM_AT = 48, 56, 64
_LARGEST_GEOMETRY = struct.pack(">HBB", 65535, 16, 255)
"""What says more than cylinders, heads and sectors can say: readers then go by the size in bytes."""
_HEADER_BYTES, _ENTRIES_AT, _HEADER_SUM_AT = 1024, 28, 36
_ENTRY = 4


def resize_fixed(descriptor: int, size: int) -> None:
    """The same for a fixed VHD: the file is the disk and a footer.

    Killed while it grows, what was the footer may stay where it was: in a sector that nobody has used so far.
    """
    layout = vhd.inspect(descriptor)
    footer = _with_size(layout.footer, size)
    # One write makes the file longer and ends it with a footer; what was one before lies where nothing is yet.
    os.pwrite(descriptor, footer, size)
    os.fsync(descriptor)
    os.ftruncate(descriptor, size + SECTOR)
    if layout.size < size:
        os.pwrite(descriptor, bytes(SECTOR), layout.size)
    os.fsync(descriptor)


def resize_dynamic(descriptor: int, path: Path, size: int) -> None:
    """Make the disk in an open dynamic VHD one of ``size`` bytes; what is added reads as zeros.

    Raises ``Corrupt``, ``OSError``.
    """
    layout = vhd.inspect(descriptor)
    if not layout.footer_in_place:
        vhd.restore_footer(descriptor, layout)
    blocks = vhd.blocks_of(descriptor)
    entries = -(-size // blocks.size)
    if size < layout.size:
        _forget(RawImage(descriptor, path, _ANY), descriptor, blocks, size)
    if entries > len(blocks.table):
        _make_room(RawImage(descriptor, path, _ANY), descriptor, entries)
        _set_entries(descriptor, entries)
    os.pwrite(descriptor, _with_size(layout.footer, size), 0)
    os.fsync(descriptor)
    if entries < len(blocks.table):
        _set_entries(descriptor, entries)
    vhd.restore_footer(descriptor, vhd.inspect(descriptor))


def _forget(file: RawImage, descriptor: int, blocks: vhd.VhdBlocks, size: int) -> None:
    """What lies behind ``size`` shall read as zeros, should the disk grow again."""
    first, within = divmod(size, blocks.size)
    if within and (place := blocks.place(first)) is not None:
        file.zero(place + within, blocks.size - within)
    for number in range(first + bool(within), len(blocks.table)):
        place = blocks.place(number)
        if place is not None:
            os.pwrite(descriptor, vhd.UNUSED.to_bytes(_ENTRY, "big"), blocks.table_at + _ENTRY * number)
            file.zero(place, blocks.size)
    os.fsync(descriptor)


def _make_room(file: RawImage, descriptor: int, entries: int) -> None:
    """Let the table grow where it is: blocks that are in its way move to the end of the file."""
    blocks = vhd.blocks_of(descriptor)
    end = blocks.table_at + -(-entries * _ENTRY // SECTOR) * SECTOR
    for number, entry in enumerate(blocks.table):
        if entry != vhd.UNUSED and entry * SECTOR < end:
            _move(file, descriptor, blocks, number, end)
    layout = vhd.inspect(descriptor)
    if layout.end < end:
        os.pwrite(descriptor, layout.footer, end)
    first = blocks.table_at + _ENTRY * len(blocks.table)
    os.pwrite(descriptor, b"\xff" * (end - first), first)
    os.fsync(descriptor)


def _move(file: RawImage, descriptor: int, blocks: vhd.VhdBlocks, number: int, least: int) -> None:
    """Copy a block to the end of the file, but not before ``least``, and let the table point there."""
    layout = vhd.inspect(descriptor)
    start = max(layout.end, least)
    start += -(start + blocks.bitmap) % _PAGE
    length = blocks.bitmap + blocks.size
    os.pwrite(descriptor, layout.footer, start + length)
    file.zero(layout.end, start + length - layout.end)
    former = blocks.table[number] * SECTOR
    for offset in range(0, length, _PIECE):
        piece = os.pread(descriptor, min(_PIECE, length - offset), former + offset)
        if any(piece):
            os.pwrite(descriptor, piece, start + offset)
    os.fsync(descriptor)
    os.pwrite(descriptor, (start // SECTOR).to_bytes(_ENTRY, "big"), blocks.table_at + _ENTRY * number)
    os.fsync(descriptor)


def _set_entries(descriptor: int, entries: int) -> None:
    header_at = int.from_bytes(os.pread(descriptor, 8, 16), "big")
    header = bytearray(os.pread(descriptor, _HEADER_BYTES, header_at))
    struct.pack_into(">I", header, _ENTRIES_AT, entries)
    # All that changes lies in one sector.
    os.pwrite(descriptor, _summed(header, _HEADER_SUM_AT), header_at)
    os.fsync(descriptor)


def _with_size(footer: bytes, size: int) -> bytes:
    changed = bytearray(footer)
    struct.pack_into(">Q", changed, _SIZE_AT, size)
    changed[_GEOMETRY_AT : _GEOMETRY_AT + 4] = _LARGEST_GEOMETRY
    return _summed(changed, _SUM_AT)


def _summed(data: bytearray, at: int) -> bytes:
    data[at : at + 4] = bytes(4)
    struct.pack_into(">I", data, at, ~sum(data) & 0xFFFFFFFF)
    return bytes(data)
