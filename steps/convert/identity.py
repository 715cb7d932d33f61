"""Identity: a copy of a disk gets GUIDs of its own, in its partition table.

The filesystem keeps its UUID: nothing here finds a disk by it, the files on the disk that name it (``/etc/fstab``, boot
loaders) go on being right, and the content of a clone stays what its original's is, byte for byte. That Linux can show
both at once is known of all filesystems except XFS and Btrfs, whose kernel drivers refuse or mistake a second one.

Source of the format: see :mod:`portunix_vdisk.steps.gpt`; the signature of an MBR is the four bytes at 440.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from portunix_vdisk.platform.base import SECTOR, FileSystemType, ImageType
from portunix_vdisk.steps.partition import part_uuid
from portunix_vdisk.steps.step import Context, Json

LONELY: Final = frozenset({FileSystemType.XFS, FileSystemType.BTRFS})
"""Filesystems of which the kernel bears only one of each UUID."""
_MOST: Final = 4 << 20
_SIGNATURE: Final = 440


@dataclass(frozen=True, slots=True)
class Renew:
    """Give the disk in ``partial`` the GUID ``uuid``, and its partitions what follows from it.

    A second run writes the same once more. A copy of the table that is damaged is left as it is.
    """

    partial: Path
    type: ImageType
    uuid: str

    def run(self, ctx: Context) -> Json:
        """Result: how many places were written."""
        if not self.type.partitioned:
            return {"written": 0}
        with ctx.platform.open_image(self.partial, self.type, writable=True) as image:
            changes = list(renewed(image.read, image.size, self.uuid))
            for offset, data in changes:
                image.write(offset, data)
            image.flush()
        return {"written": len(changes)}


def renewed(read: Callable[[int, int], bytes], size: int, uuid: str) -> Iterator[tuple[int, bytes]]:
    """Offsets and bytes that make a partition table another disk's. At most 4 MiB are read for each copy of it."""
    sectors, found = size // SECTOR, False
    for own in (1, sectors - 1):
        header = bytearray(read(own * SECTOR, SECTOR))
        length = struct.unpack_from("<I", header, 12)[0]
        at, count, each, sums = struct.unpack_from("<QIII", header, 72)
        if header[:8] != b"EFI PART" or not 92 <= length <= SECTOR or _sum(header, length) != header[16:20]:
            continue
        bytes_ = count * each
        if each < 128 or not 0 < bytes_ <= _MOST or at < 2 or at * SECTOR + bytes_ > size:
            continue
        entries = bytearray(read(at * SECTOR, bytes_))
        if zlib.crc32(entries) != sums:
            continue
        found = True
        for number in range(count):
            if any(entries[number * each : number * each + 16]):
                part = "partition" if number == 0 else f"partition {number + 1}"
                entries[number * each + 16 : number * each + 32] = UUID(part_uuid(uuid, part)).bytes_le
        header[56:72] = UUID(uuid).bytes_le
        struct.pack_into("<I", header, 88, zlib.crc32(entries))
        header[16:20] = _sum(header, length)
        yield at * SECTOR, bytes(entries)
        yield own * SECTOR, bytes(header)
    first = read(0, SECTOR)
    if not found and first[510:] == b"\x55\xaa" and any(first[_SIGNATURE : _SIGNATURE + 4]):
        yield _SIGNATURE, UUID(uuid).bytes[:4]


def _sum(header: bytearray, length: int) -> bytes:
    """The checksum of a header as it is written there."""
    return struct.pack("<I", zlib.crc32(bytes(header[:16]) + bytes(4) + bytes(header[20:length])))
