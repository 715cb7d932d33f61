"""The structures of a VHDX file, checked as the hostile input that they may be.

QEMU cannot tell where in a VHDX the data lies, so the block allocation table (BAT) is read here.

Source: Microsoft, [MS-VHDX] "Virtual Hard Disk v2 (VHDX) File Format". A VHDX begins with its identifier (64 KiB), two
headers (64 KiB each, the one with the higher sequence number counts) and two copies of the region table, which says
where the BAT and the metadata are. Numbers are little-endian, checksums CRC-32C with their own field taken as zero.
"""

from __future__ import annotations

import os
import struct
import sys
from array import array
from dataclasses import dataclass
from uuid import UUID

from portunix_vdisk.platform.base import MIB, SECTOR, Extent
from portunix_vdisk.platform.crc32c import crc32c
from portunix_vdisk.platform.errors import Corrupt, Refused

LARGEST = 64 << 40
"""Bytes of the largest disk that the format allows."""
BLOCK = MIB
"""Bytes of a block in the images that we make."""

_KIB64 = 64 << 10
_PAGE = 4096
_HEADERS, _REGION_TABLES = (1 * _KIB64, 2 * _KIB64), (3 * _KIB64, 4 * _KIB64)
# signature, checksum, sequence number, three GUIDs (the last is the log's), versions of log and format, length and
# offset of the log
_HEADER = struct.Struct("<4sIQ16s16s16sHHIQ")
_HEADER_SIZE = 4096
_REGIONS = struct.Struct("<4sIII")
_REGION = struct.Struct("<16sQII")
_METADATA = struct.Struct("<8sHH20x")
_ITEM = struct.Struct("<16sIII4x")
_MOST_REGIONS, _MOST_ITEMS = 2047, 2047
_BAT = UUID("2dc27766-f623-4200-9d64-115e9bfd4a08").bytes_le
_METADATA_REGION = UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e").bytes_le
_PARAMETERS = UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b").bytes_le
_DISK_SIZE = UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8").bytes_le
_SECTOR_SIZE = UUID("8141bf1d-a96f-4709-ba47-f233a8faab5f").bytes_le
_HAS_PARENT = 2
_LARGEST_BLOCK = 256 * MIB
_STATE, _PRESENT, _PARTIAL = 7, 6, 7
_SECTORS_PER_BITMAP = 1 << 23
_RESTORE = "restore the file from a copy or an export"


@dataclass(frozen=True, slots=True)
class VhdxLayout:
    """What a VHDX file says about itself, found to be consistent.

    ``size`` is that of the guest-visible disk, ``block`` that of its blocks; ``log_pending`` is True where a writer was
    killed and the last changes to the structures are in the log alone; ``table`` where the BAT is, in bytes.
    """

    size: int
    block: int
    sector: int
    log_pending: bool
    table: tuple[int, int]


def inspect(descriptor: int) -> VhdxLayout:
    """Check the headers of an open VHDX and find out about its disk.

    Raises:
        Corrupt: checksums are wrong, or something points outside the file.
        Refused: a differencing VHDX, which needs another file, or sectors of another size than 512 bytes.
    """
    length = os.fstat(descriptor).st_size
    if os.pread(descriptor, 8, 0) != b"vhdxfile":
        raise Corrupt("this is no VHDX file, or its first sector is damaged", hint=_RESTORE)
    header = _newest_header(descriptor)
    if header is None:
        raise Corrupt("both headers of the VHDX are damaged", hint=_RESTORE)
    regions = _regions(descriptor, length)
    items = _items(descriptor, *regions[_METADATA_REGION])
    try:
        block, flags = struct.unpack("<II", items[_PARAMETERS][:8])
        (size,) = struct.unpack("<Q", items[_DISK_SIZE][:8])
        (sector,) = struct.unpack("<I", items[_SECTOR_SIZE][:4])
    except (KeyError, struct.error):
        raise Corrupt("the metadata of the VHDX is damaged", hint=_RESTORE) from None
    if flags & _HAS_PARENT:
        raise Refused("this is a differencing VHDX, which only holds changes to another file")
    if sector != SECTOR:
        raise Refused(f"this VHDX has sectors of {sector} bytes; only {SECTOR} are understood")
    if not MIB <= block <= _LARGEST_BLOCK or block & (block - 1) or not 0 < size <= LARGEST or size % SECTOR:
        raise Corrupt(f"the metadata of the VHDX makes no sense: {size} bytes in blocks of {block}", hint=_RESTORE)
    layout = VhdxLayout(size, block, sector, header[5] != bytes(16), regions[_BAT])
    if entries_of(layout) * 8 > layout.table[1]:
        raise Corrupt("the block table of the VHDX is too short for its disk", hint=_RESTORE)
    return layout


def extents(descriptor: int) -> tuple[VhdxLayout, tuple[Extent, ...]]:
    """The disk's data and where it lies in the file, ascending.

    The file may be in use, once everything that counts was flushed: it only ever grows. Raises as :func:`inspect`.
    """
    layout = inspect(descriptor)
    length = os.fstat(descriptor).st_size
    table = array("Q")
    table.frombytes(os.pread(descriptor, entries_of(layout) * 8, layout.table[0]))
    if sys.byteorder == "big":
        table.byteswap()
    ratio = _ratio(layout)
    # Behind the entries of so many blocks comes one of a bitmap that only a differencing file uses.
    del table[ratio :: ratio + 1]
    found: list[Extent] = []
    seen: set[int] = set()
    for number, entry in enumerate(table):
        if entry & _STATE == _PARTIAL:
            raise Refused("this is a differencing VHDX, which only holds changes to another file")
        start = number * layout.block
        if entry & _STATE != _PRESENT or start >= layout.size:
            continue
        offset, count = (entry >> 20) * MIB, min(layout.block, layout.size - start)
        if offset < MIB or offset + count > length or offset in seen:
            raise Corrupt(f"the block table of the VHDX points to a wrong place, byte {offset}", hint=_RESTORE)
        seen.add(offset)
        last = found[-1] if found else Extent(0, 0, 0)
        if last.length and last.start + last.length == start and last.offset + last.length == offset:
            found[-1] = Extent(last.start, last.length + count, last.offset)
        else:
            found.append(Extent(start, count, offset))
    return layout, tuple(found)


def _ratio(layout: VhdxLayout) -> int:
    return _SECTORS_PER_BITMAP * layout.sector // layout.block


def entries_of(layout: VhdxLayout) -> int:
    """Entries of the BAT: one a block, and one a bitmap between."""
    return entry_number(layout, -(-layout.size // layout.block) - 1) + 1


def entry_number(layout: VhdxLayout, block: int) -> int:
    """Which entry of the BAT is that of a block."""
    return block + block // _ratio(layout)


def size_place(descriptor: int) -> int:
    """Where in the file the size of the disk is written, in eight bytes."""
    offset, _ = _regions(descriptor, os.fstat(descriptor).st_size)[_METADATA_REGION]
    table = os.pread(descriptor, _KIB64, offset)
    items = (_ITEM.unpack_from(table, _METADATA.size + number * _ITEM.size) for number in range(_MOST_ITEMS))
    return next(offset + int(place) for guid, place, _, _ in items if guid == _DISK_SIZE)


def point_to_table(descriptor: int, offset: int, length: int) -> None:
    """From now on the BAT is there. QEMU looks at the first copy of the region table alone, so that comes last."""
    for place in reversed(_REGION_TABLES):
        data = bytearray(os.pread(descriptor, _KIB64, place))
        if _valid(bytes(data), b"regi", _KIB64):
            for number in range(_REGIONS.unpack_from(data)[2]):
                at = _REGIONS.size + number * _REGION.size
                guid, _, _, required = _REGION.unpack_from(data, at)
                if guid == _BAT:
                    _REGION.pack_into(data, at, guid, offset, length, required)
            data[4:8] = bytes(4)
            data[4:8] = (crc32c(0xFFFFFFFF, bytes(data)) ^ 0xFFFFFFFF).to_bytes(4, "little")
            # All that changes lies in one page, so that nobody who is killed here leaves half of it.
            os.pwrite(descriptor, data[:_PAGE], place)
            os.fsync(descriptor)


def _newest_header(descriptor: int) -> tuple[int | bytes, ...] | None:
    found = [
        _HEADER.unpack_from(data)
        for place in _HEADERS
        if _valid(data := os.pread(descriptor, _HEADER_SIZE, place), b"head", _HEADER_SIZE)
    ]
    return max(found, key=lambda header: int(header[2]), default=None)


def _valid(data: bytes, signature: bytes, size: int) -> bool:
    if len(data) < size or data[:4] != signature:
        return False
    stored = int.from_bytes(data[4:8], "little")
    return stored == crc32c(0xFFFFFFFF, data[:4] + bytes(4) + data[8:]) ^ 0xFFFFFFFF


def _regions(descriptor: int, length: int) -> dict[bytes, tuple[int, int]]:
    """Offset and length of each region, from the first copy of the table that is whole."""
    for place in _REGION_TABLES:
        data = os.pread(descriptor, _KIB64, place)
        if not _valid(data, b"regi", _KIB64):
            continue
        count = min(_REGIONS.unpack_from(data)[2], _MOST_REGIONS)
        entries = [_REGION.unpack_from(data, _REGIONS.size + number * _REGION.size) for number in range(count)]
        found = {guid: (offset, size) for guid, offset, size, _ in entries}
        if any(required and guid not in (_BAT, _METADATA_REGION) for guid, _, _, required in entries):
            raise Refused("this VHDX needs features that nobody here knows")
        if _BAT not in found or _METADATA_REGION not in found:
            continue
        if all(offset >= MIB and offset + size <= length for offset, size in found.values()):
            return found
    raise Corrupt("the region table of the VHDX is damaged", hint=_RESTORE)


def _items(descriptor: int, offset: int, size: int) -> dict[bytes, bytes]:
    """What the metadata says, each item's first bytes."""
    table = os.pread(descriptor, min(size, _KIB64), offset)
    if len(table) < _KIB64 or table[:8] != b"metadata":
        raise Corrupt("the metadata of the VHDX is damaged", hint=_RESTORE)
    count = min(_METADATA.unpack_from(table)[2], _MOST_ITEMS)
    found = {}
    for number in range(count):
        guid, place, _, _ = _ITEM.unpack_from(table, _METADATA.size + number * _ITEM.size)
        found[guid] = os.pread(descriptor, 16, offset + place) if place + 16 <= size else b""
    return found
