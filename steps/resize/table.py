"""The partition table of a disk that becomes larger or smaller.

The backup goes to its new place before the table itself is changed, so that one of the two is whole at every moment.

Source of the format: see :mod:`portunix_vdisk.steps.gpt`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from portunix_vdisk.platform.base import MIB, SECTOR, ImageType, Partition, Platform
from portunix_vdisk.platform.errors import Corrupt, NotFound, Refused, VdiskError
from portunix_vdisk.steps.gpt import GptPartition
from portunix_vdisk.steps.gpt_copies import copies_of
from portunix_vdisk.steps.step import Context, Json

_COUNT, _EACH = 128, 128
_ENTRY_SECTORS: Final = _COUNT * _EACH // SECTOR
_RESERVED: Final = (1 + _ENTRY_SECTORS) * SECTOR
"""Bytes of the backup, at the end of the disk."""
_OWN_AT, _USABLE_AT, _ENTRIES_AT, _SUM_AT, _ENTRIES_SUM_AT = 24, 40, 72, 16, 88
_LAST_AT: Final = 40
"""Of an entry: the partition's last sector."""
_PROTECTIVE_AT, _PROTECTIVE, _PROTECTIVE_LENGTH_AT = 450, 0xEE, 458


def resized_partition(partition: Partition, type: ImageType, size: int) -> Partition:
    """Where the last partition of a disk lies when the disk has ``size`` bytes, a multiple of 1 MiB."""
    if not type.partitioned:
        return Partition(0, size)
    return Partition(partition.start, (size - _RESERVED) // MIB * MIB - partition.start)


@dataclass(frozen=True, slots=True)
class ResizeTable:
    """Let a partition end where it does on a disk of ``size`` bytes; the image is at least as large by now."""

    image: Path
    type: ImageType
    partition: Partition
    size: int

    def run(self, ctx: Context) -> Json:
        """Result: start and length of the partition in bytes. Raises ``Refused``, ``Corrupt``."""
        wanted = resized_partition(self.partition, self.type, self.size)
        if self.type.partitioned:
            with ctx.platform.open_image(self.image, self.type, writable=True) as disk:
                for offset, data in table_changes(disk.read, disk.size, self.size, wanted):
                    disk.write(offset, data)
                    disk.flush()
        return {"start": wanted.start, "length": wanted.length}

    def is_written(self, platform: Platform) -> bool:
        """Whether that is so already."""
        if not self.type.partitioned:
            return True
        wanted = resized_partition(self.partition, self.type, self.size)
        try:
            with platform.open_image(self.image, self.type, writable=False) as disk:
                if disk.size < self.size:
                    return False
                made = table_changes(disk.read, disk.size, self.size, wanted)
                return all(disk.read(offset, len(data)) == data for offset, data in made)
        except VdiskError:
            return False


def table_changes(
    read: Callable[[int, int], bytes], present: int, size: int, wanted: Partition
) -> list[tuple[int, bytes]]:
    """What to write, in this order, so that a disk of ``present`` bytes has a table for ``size`` bytes.

    Raises ``Refused`` where the partition that begins at ``wanted.start`` is not the last one or the table is of
    another kind, ``Corrupt`` where no copy of it is whole.
    """
    last, header, entries = _found(read, present, wanted)
    number = last.number - 1
    struct.pack_into("<Q", entries, number * _EACH + _LAST_AT, (wanted.start + wanted.length) // SECTOR - 1)
    end = size // SECTOR - 1
    struct.pack_into("<I", header, _ENTRIES_SUM_AT, zlib.crc32(entries))
    struct.pack_into("<Q", header, _USABLE_AT + 8, end - _ENTRY_SECTORS - 1)
    backup = _placed(header, own=end, other=1, entries_at=end - _ENTRY_SECTORS)
    primary = _placed(header, own=1, other=end, entries_at=2)
    made = [((end - _ENTRY_SECTORS) * SECTOR, bytes(entries) + backup)]
    first = bytearray(read(0, SECTOR))
    if first[_PROTECTIVE_AT] == _PROTECTIVE:
        struct.pack_into("<I", first, _PROTECTIVE_LENGTH_AT, min(end, 0xFFFF_FFFF))
    return [*made, (0, bytes(first) + primary + bytes(entries))]


def _found(
    read: Callable[[int, int], bytes], size: int, wanted: Partition
) -> tuple[GptPartition, bytearray, bytearray]:
    """The partition, and a header and the entries of a copy of the table that is whole."""
    copies = copies_of(read, size)
    whole = next((place for place in (0, 1) if isinstance(copies[place], list)), None)
    if whole is None:
        if all(isinstance(copy, NotFound) for copy in copies):
            raise Refused("the disk has no GUID partition table, and others stay as they are", "nothing was changed")
        raise Corrupt("both copies of the partition table are damaged", state="nothing was changed")
    partitions = copies[whole]
    assert isinstance(partitions, list)
    header = bytearray(read((1, size // SECTOR - 1)[whole] * SECTOR, SECTOR))
    at, count, each = struct.unpack_from("<QII", header, _ENTRIES_AT)
    if (count, each) != (_COUNT, _EACH) or (whole == 0 and at != 2):
        raise Refused("the partition table is of an unusual kind, and stays as it is", "nothing was changed")
    found = max(partitions, key=lambda each: each.start, default=None)
    if found is None or found.start != wanted.start:
        raise Refused(
            "another partition lies behind the one of this disk, which cannot change its size therefore",
            state="nothing was changed",
        )
    return found, header, bytearray(read(at * SECTOR, count * each))


def _placed(header: bytearray, *, own: int, other: int, entries_at: int) -> bytes:
    placed = bytearray(header)
    struct.pack_into("<QQ", placed, _OWN_AT, own, other)
    struct.pack_into("<Q", placed, _ENTRIES_AT, entries_at)
    length = struct.unpack_from("<I", placed, 12)[0]
    placed[_SUM_AT : _SUM_AT + 4] = bytes(4)
    placed[_SUM_AT : _SUM_AT + 4] = struct.pack("<I", zlib.crc32(placed[:length]))
    return bytes(placed)
