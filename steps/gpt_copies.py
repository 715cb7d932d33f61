"""The two copies of a GUID partition table: is each of them whole, and writing one again from the other.

Source of the format: see :mod:`portunix_vdisk.steps.gpt`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

from portunix_vdisk.platform.base import SECTOR
from portunix_vdisk.platform.errors import Corrupt, NotFound
from portunix_vdisk.steps.gpt import GptPartition, parse_table

Copy = list[GptPartition] | NotFound | Corrupt
"""The partitions that a copy of the table names, or why it cannot be read."""


def copies_of(read: Callable[[int, int], bytes], size: int) -> tuple[Copy, Copy]:
    """The table at the beginning of a disk of ``size`` bytes, and the one at its end."""
    last = size // SECTOR - 1

    def parsed(own: int, other: int) -> Copy:
        try:
            return parse_table(read, own, other, last + 1)
        except (NotFound, Corrupt) as problem:
            return problem

    return parsed(1, last), parsed(last, 1)


def mended(read: Callable[[int, int], bytes], size: int) -> list[tuple[int, bytes]]:
    """Offsets and bytes that make both copies whole, where exactly one is; else nothing."""
    primary, backup = copies_of(read, size)
    if isinstance(primary, list) == isinstance(backup, list):
        return []
    last = size // SECTOR - 1
    own, other = (1, last) if isinstance(primary, list) else (last, 1)
    header = bytearray(read(own * SECTOR, SECTOR))
    length = struct.unpack_from("<I", header, 12)[0]
    elsewhere, first_usable, last_usable = struct.unpack_from("<QQQ", header, 32)
    at, count, each = struct.unpack_from("<QII", header, 72)
    entries = read(at * SECTOR, count * each)
    sectors = -(-len(entries) // SECTOR)
    place = 2 if other == 1 else other - sectors
    # Where partitions may lie that a table must never overwrite; or the disk was larger or smaller once.
    if elsewhere != other or (place + sectors > first_usable if other == 1 else place <= last_usable):
        return []
    struct.pack_into("<QQ", header, 24, other, own)
    struct.pack_into("<Q", header, 72, place)
    header[16:20] = bytes(4)
    header[16:20] = struct.pack("<I", zlib.crc32(header[:length]))
    return [(place * SECTOR, entries), (other * SECTOR, bytes(header))]
