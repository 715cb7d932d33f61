"""GUID partition tables: making one with a single partition, reading anybody's.

Source: UEFI Specification 2.10, chapter 5 ("GUID Partition Table (GPT) Disk Layout"). Sectors are 512 bytes; all
numbers are little-endian; GUIDs are stored with their first three fields little-endian (``uuid.bytes_le``).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from uuid import UUID

from portunix_vdisk.platform.base import MIB, SECTOR, Partition
from portunix_vdisk.platform.errors import BadUsage, Corrupt, NotFound

_SIGNATURE = b"EFI PART"
_REVISION = 0x0001_0000
# signature, revision, header size, header CRC, reserved, own LBA, other header's LBA, first and last usable LBA,
# disk GUID, LBA of the entries, number of entries, size of an entry, CRC of the entries
_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
# type GUID, partition GUID, first LBA, last LBA (inclusive), attributes, name in UTF-16LE
_ENTRY = struct.Struct("<16s16sQQQ72s")
_ENTRIES = 128
_ENTRY_SECTORS = _ENTRIES * _ENTRY.size // SECTOR
_TABLE_SECTORS = 1 + _ENTRY_SECTORS  # a header and its entries: 33
_NAME_UNITS = 36

_MOST_ENTRIES = 1024
_LARGEST_ENTRY = 4096
_UNUSED = bytes(16)


@dataclass(frozen=True, slots=True)
class Gpt:
    """A partition table, ready to be written: ``primary`` at offset 0, ``backup`` at ``backup_offset``."""

    primary: bytes
    """Protective MBR, header, entries: LBA 0 to 33."""
    backup: bytes
    """Entries, header: the last 33 sectors of the disk."""
    backup_offset: int
    partition: Partition


@dataclass(frozen=True, slots=True)
class GptPartition:
    """A partition found on a disk; offsets and lengths in bytes, GUIDs in lower case."""

    number: int
    """From 1, as Linux counts."""
    start: int
    length: int
    type_guid: str
    guid: str
    name: str
    attributes: int

    @property
    def partition(self) -> Partition:
        """Where it lies."""
        return Partition(self.start, self.length)


def build_gpt(disk_size: int, disk_guid: str, partition_guid: str, type_guid: str, name: str) -> Gpt:
    """A table with one partition that starts at 1 MiB and ends on a MiB boundary before the backup table.

    ``disk_size`` is in bytes, a multiple of 512; the GUIDs are texts. ``name`` is cut to the 36
    UTF-16 units that an entry holds. Raises ``BadUsage`` for a disk that is too small.
    """
    if disk_size % SECTOR:
        raise BadUsage(f"a disk of {disk_size} bytes cannot be partitioned: that is no multiple of {SECTOR}")
    sectors = disk_size // SECTOR
    end = (disk_size - _TABLE_SECTORS * SECTOR) // MIB * MIB
    if end <= MIB:
        raise BadUsage(
            f"a disk of {disk_size} bytes is too small: 1 MiB before and after the partition is needed",
            hint="make it 3 MiB or larger",
        )
    partition = Partition(MIB, end - MIB)
    disk = UUID(disk_guid).bytes_le
    entry = _ENTRY.pack(
        UUID(type_guid).bytes_le,
        UUID(partition_guid).bytes_le,
        partition.start // SECTOR,
        end // SECTOR - 1,
        0,
        _encode_name(name),
    )
    entries = entry.ljust(_ENTRIES * _ENTRY.size, b"\0")
    last = sectors - 1
    primary = _header(1, last, 2, sectors, disk, entries)
    backup = _header(last, 1, last - _ENTRY_SECTORS, sectors, disk, entries)
    return Gpt(
        primary=_protective_mbr(sectors) + primary + entries,
        backup=entries + backup,
        backup_offset=(sectors - _TABLE_SECTORS) * SECTOR,
        partition=partition,
    )


def parse_gpt(read: Callable[[int, int], bytes], disk_size: int) -> list[GptPartition]:
    """The partitions of a disk, in the order of the table; from the backup table where the primary one is damaged.

    ``read(offset, length)`` gives bytes of the disk. At most 4 MiB are read, whatever the table says.

    Raises:
        NotFound: there is no partition table.
        Corrupt: neither copy of the table is valid.
    """
    sectors = disk_size // SECTOR
    if sectors < 2 * _TABLE_SECTORS + 1:
        raise NotFound(f"there is no partition table: the disk has only {disk_size} bytes")
    problems = []
    for own, other in ((1, sectors - 1), (sectors - 1, 1)):
        try:
            return parse_table(read, own, other, sectors)
        except (NotFound, Corrupt) as problem:
            problems.append(problem)
    if all(isinstance(problem, NotFound) for problem in problems):
        raise NotFound("there is no GUID partition table on this disk")
    raise Corrupt(f"the partition table is damaged: {problems[0].what}; its backup: {problems[1].what}")


def _protective_mbr(sectors: int) -> bytes:
    """UEFI 5.2.3: one partition of type 0xEE over the whole disk, so that old programs see no free space."""
    cylinder_head_sector = b"\x00\x02\x00", b"\xff\xff\xff"
    record = struct.pack(
        "<B3sB3sII", 0, cylinder_head_sector[0], 0xEE, cylinder_head_sector[1], 1, min(sectors - 1, 0xFFFF_FFFF)
    )
    return bytes(446) + record + bytes(48) + b"\x55\xaa"


def _header(own: int, other: int, entries_at: int, sectors: int, disk_guid: bytes, entries: bytes) -> bytes:
    def pack(checksum: int) -> bytes:
        return _HEADER.pack(
            _SIGNATURE,
            _REVISION,
            _HEADER.size,
            checksum,
            0,
            own,
            other,
            1 + _TABLE_SECTORS,
            sectors - _TABLE_SECTORS - 1,
            disk_guid,
            entries_at,
            _ENTRIES,
            _ENTRY.size,
            zlib.crc32(entries),
        )

    return pack(zlib.crc32(pack(0))).ljust(SECTOR, b"\0")


def _encode_name(name: str) -> bytes:
    units = name.encode("utf-16-le", "replace")[: _NAME_UNITS * 2]
    # The cut may have left half a surrogate pair.
    return units.decode("utf-16-le", "ignore").encode("utf-16-le").ljust(_NAME_UNITS * 2, b"\0")


def parse_table(read: Callable[[int, int], bytes], own: int, other: int, sectors: int) -> list[GptPartition]:
    """The partitions that one copy of the table names; its header is in sector ``own``, the other one in ``other``.

    Raises ``NotFound`` without a header, ``Corrupt`` for what is not valid.
    """
    block = _read(read, own * SECTOR, SECTOR)
    header = _HEADER.unpack_from(block)
    signature, revision, size, checksum, _, my_lba, other_lba, first, last, _, entries_at, count, entry_size, sums = (
        header
    )
    if signature != _SIGNATURE:
        raise NotFound("there is no header")
    if not _HEADER.size <= size <= SECTOR:
        raise Corrupt(f"its header claims {size} bytes")
    if zlib.crc32(block[:16] + bytes(4) + block[20:size]) != checksum:
        raise Corrupt("the checksum of its header is wrong")
    if revision >> 16 != _REVISION >> 16:
        raise Corrupt(f"its revision {revision >> 16}.{revision & 0xFFFF} is unknown")
    if my_lba != own or (own == 1 and not 1 < other_lba < sectors) or (own != 1 and other_lba != other):
        raise Corrupt("its header belongs to another place")
    if not 0 < count <= _MOST_ENTRIES or entry_size not in (128, 256, 512, 1024, 2048, _LARGEST_ENTRY):
        raise Corrupt(f"it claims {count} entries of {entry_size} bytes")
    length = count * entry_size
    after = entries_at + -(-length // SECTOR)
    if not 2 <= entries_at < after <= sectors - (own == 1) or not entries_at <= after <= max(first, own):
        raise Corrupt("its entries lie outside of the disk or among the partitions")
    if not 2 <= first <= last < sectors - 1 or (own != 1 and entries_at <= last):
        raise Corrupt("its usable range lies outside of the disk")
    entries = _read(read, entries_at * SECTOR, length)
    if zlib.crc32(entries) != sums:
        raise Corrupt("the checksum of its entries is wrong")
    found = [
        partition
        for number in range(count)
        if (partition := _parse_entry(entries, number, entry_size, first, last)) is not None
    ]
    by_start = sorted(found, key=lambda partition: partition.start)
    for one, next_one in pairwise(by_start):
        if one.start + one.length > next_one.start:
            raise Corrupt(f"its partitions {one.number} and {next_one.number} overlap")
    return found


def _parse_entry(entries: bytes, number: int, entry_size: int, first: int, last: int) -> GptPartition | None:
    type_guid, guid, start, end, attributes, name = _ENTRY.unpack_from(entries, number * entry_size)
    if type_guid == _UNUSED:
        return None
    if not first <= start <= end <= last:
        raise Corrupt(f"its partition {number + 1} lies outside of the usable range")
    return GptPartition(
        number=number + 1,
        start=start * SECTOR,
        length=(end - start + 1) * SECTOR,
        type_guid=str(UUID(bytes_le=type_guid)),
        guid=str(UUID(bytes_le=guid)),
        name=name.decode("utf-16-le", "replace").split("\0", 1)[0],
        attributes=attributes,
    )


def _read(read: Callable[[int, int], bytes], offset: int, length: int) -> bytes:
    data = read(offset, length)
    if len(data) != length:
        raise Corrupt(f"only {len(data)} of {length} bytes could be read at {offset}")
    return data
