"""What an ext4 filesystem says about itself and about its free blocks, read without mounting it and not trusted.

Source: Linux, Documentation/filesystems/ext4 (super.rst, group_descr.rst, bitmaps.rst) and fs/ext4/ext4.h. All numbers
are little-endian. Block and block group numbers count from the start of the filesystem.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import IntFlag
from typing import Final

from portunix_vdisk.platform.crc32c import crc32c

Read = Callable[[int, int], bytearray]
"""Bytes of the filesystem: offset and length."""

_SUPERBLOCK_AT: Final = 1024
_MAGIC: Final = 0xEF53
_VALID: Final = 1
"""The only state of a filesystem that was unmounted cleanly and had no errors (s_state)."""
_CRC32C: Final = 1
_WINDOW: Final = 64 << 10


class Incompatible(IntFlag):
    """Features (s_feature_incompat) with which blocks are still counted as described here."""

    FILETYPE = 0x2
    EXTENTS = 0x40
    BITS_64 = 0x80
    FLEX_BG = 0x200
    EA_INODE = 0x400
    CSUM_SEED = 0x2000
    LARGEDIR = 0x4000
    INLINE_DATA = 0x8000
    ENCRYPT = 0x10000
    CASEFOLD = 0x20000


_RECOVER: Final = 0x4


class ReadOnlyCompatible(IntFlag):
    """The same of s_feature_ro_compat; above all not bigalloc, shared blocks and snapshots."""

    SPARSE_SUPER = 0x1
    LARGE_FILE = 0x2
    BTREE_DIR = 0x4
    HUGE_FILE = 0x8
    GDT_CSUM = 0x10
    DIR_NLINK = 0x20
    EXTRA_ISIZE = 0x40
    QUOTA = 0x100
    METADATA_CSUM = 0x400
    READONLY = 0x1000
    PROJECT = 0x2000
    VERITY = 0x8000


_ORPHAN_PRESENT: Final = 0x10000
_BLOCK_UNINIT: Final = 0x2


class Doubt(Exception):
    """Free blocks can't be told from used ones with certainty; the text says why.

    ``unclean``: replaying the journal, or e2fsck, may help.
    """

    def __init__(self, why: str, *, unclean: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.unclean = unclean


@dataclass(frozen=True, slots=True)
class Geometry:
    """The parts of the superblock that say where things are. ``seed`` starts checksums; None without them."""

    block_size: int
    blocks: int
    first_block: int
    blocks_per_group: int
    table_blocks: int
    """Blocks of one group's inode table."""
    descriptor_size: int
    seed: int | None

    @property
    def groups(self) -> int:
        """Number of block groups."""
        return -(-(self.blocks - self.first_block) // self.blocks_per_group)

    @property
    def descriptors_end(self) -> int:
        """First block after superblock and group descriptors."""
        return self.first_block + 1 + -(-self.groups * self.descriptor_size // self.block_size)

    def start(self, group: int) -> int:
        """First block of a group."""
        return self.first_block + group * self.blocks_per_group

    def length(self, group: int) -> int:
        """Blocks of a group; the last one may be short."""
        return min(self.blocks_per_group, self.blocks - self.start(group))


@dataclass(frozen=True, slots=True)
class Group:
    """One group descriptor. Locations are block numbers."""

    number: int
    bitmap: int
    inode_bitmap: int
    inode_table: int
    free: int
    initialised: bool
    checksum: int


def read_geometry(read: Read, length: int, *, frozen: bool = False) -> Geometry:
    """The geometry of the filesystem in a partition of ``length`` bytes.

    ``frozen``: it was mounted and held still. Then files that were deleted while they were open are no reason to
    doubt: their blocks are still in use. Raises ``Doubt``.
    """
    if length < 4 * _SUPERBLOCK_AT:
        raise Doubt("the partition is too small for a filesystem")
    block = bytes(read(_SUPERBLOCK_AT, 1024))
    (magic, state) = struct.unpack_from("<HH", block, 0x38)
    if magic != _MAGIC:
        raise Doubt("there is no ext4 filesystem in the partition")
    blocks, _, _, _, first, log_size, log_cluster, per_group, _, inodes = struct.unpack_from("<10I", block, 0x4)
    incompatible, read_only = struct.unpack_from("<2I", block, 0x60)
    (revision,) = struct.unpack_from("<I", block, 0x4C)
    (inode_size,) = struct.unpack_from("<H", block, 0x58)
    (last_orphan,) = struct.unpack_from("<I", block, 0xE8)
    if frozen:
        last_orphan, read_only = 0, read_only & ~_ORPHAN_PRESENT
    _refuse_unclean(state, last_orphan, incompatible, read_only)
    unknown = [
        f"{name} {bits:#x}"
        for name, bits in (
            ("incompatible", incompatible & ~sum(Incompatible)),
            ("read-only compatible", read_only & ~sum(ReadOnlyCompatible)),
        )
        if bits
    ]
    if unknown or revision != 1:
        raise Doubt(f"the filesystem has features that are not understood here ({', '.join(unknown) or 'revision'})")
    if log_size > 6 or log_cluster != log_size:
        raise Doubt("the size of the filesystem's blocks makes no sense")
    block_size = 1024 << log_size
    wide = bool(incompatible & Incompatible.BITS_64)
    (descriptor_size,) = struct.unpack_from("<H", block, 0xFE) if wide else (32,)
    blocks |= struct.unpack_from("<I", block, 0x150)[0] << 32 if wide else 0
    table_bytes = inodes * inode_size
    geometry = Geometry(
        block_size=block_size,
        blocks=blocks,
        first_block=first,
        blocks_per_group=per_group,
        table_blocks=-(-table_bytes // block_size),
        descriptor_size=descriptor_size,
        seed=_seed(block, incompatible, read_only),
    )
    if (
        first != (1 if block_size == 1024 else 0)
        or not first + 1 < blocks <= length // block_size
        or not 4 * block_size <= per_group <= 8 * block_size  # smaller is possible, unusual, and costs time
        or per_group % 8
        or (wide and (not 64 <= descriptor_size <= 1024 or descriptor_size & (descriptor_size - 1)))
        or not 0 < table_bytes <= per_group * block_size
        or geometry.descriptors_end > blocks
    ):
        raise Doubt("the numbers in the filesystem's superblock make no sense")
    return geometry


def _refuse_unclean(state: int, last_orphan: int, incompatible: int, read_only: int) -> None:
    if incompatible & _RECOVER:
        raise Doubt("the filesystem was not unmounted cleanly: its journal has to be replayed", unclean=True)
    if state != _VALID or last_orphan or read_only & _ORPHAN_PRESENT:
        raise Doubt("the filesystem was not unmounted cleanly, or has errors", unclean=True)


def _seed(block: bytes, incompatible: int, read_only: int) -> int | None:
    if not read_only & ReadOnlyCompatible.METADATA_CSUM:
        return None
    if block[0x175] != _CRC32C:
        raise Doubt("the filesystem has checksums of an unknown kind")
    (stored,) = struct.unpack_from("<I", block, 0x3FC)
    if crc32c(0xFFFFFFFF, block[:0x3FC]) != stored:
        raise Doubt("the filesystem's superblock has a wrong checksum", unclean=True)
    if incompatible & Incompatible.CSUM_SEED:
        return int(struct.unpack_from("<I", block, 0x270)[0])
    return crc32c(0xFFFFFFFF, block[0x68:0x78])


def read_groups(read: Read, geometry: Geometry, wanted: Iterable[int]) -> Iterator[Group]:
    """The descriptors of these groups, ascending. Raises ``Doubt`` where one can't be true."""
    size = geometry.descriptor_size
    at = (geometry.first_block + 1) * geometry.block_size
    base, window = 0, bytearray()
    for number in wanted:
        offset = number * size
        if not base <= offset < base + len(window):
            base = offset - offset % _WINDOW
            window = read(at + base, min(_WINDOW, geometry.groups * size - base))
        yield _group(number, bytes(window[offset - base : offset - base + size]), geometry)


def _group(number: int, raw: bytes, geometry: Geometry) -> Group:
    bitmap, inode_bitmap, table = struct.unpack_from("<3I", raw)
    free, flags, checksum, own = (struct.unpack_from("<H", raw, at)[0] for at in (0x0C, 0x12, 0x18, 0x1E))
    if len(raw) > 32:
        high = struct.unpack_from("<3I", raw, 0x20)
        bitmap, inode_bitmap, table = bitmap | high[0] << 32, inode_bitmap | high[1] << 32, table | high[2] << 32
        free |= struct.unpack_from("<H", raw, 0x2C)[0] << 16
        checksum |= struct.unpack_from("<H", raw, 0x38)[0] << 16
    if geometry.seed is not None:
        covered = raw[:0x1E] + b"\0\0" + raw[0x20:]
        if crc32c(crc32c(geometry.seed, number.to_bytes(4, "little")), covered) & 0xFFFF != own:
            raise Doubt(f"the descriptor of block group {number} has a wrong checksum", unclean=True)
    return Group(number, bitmap, inode_bitmap, table, free, not flags & _BLOCK_UNINIT, checksum)


def free_blocks(read: Read, geometry: Geometry, group: Group) -> int:
    """The free blocks of a group as one number: bit n stands for the group's block n.

    A bitmap that was never written counts as all in use. Raises ``Doubt`` where it contradicts its checksum or the
    count in the descriptor.
    """
    if not group.initialised:
        return 0
    for place, count in ((group.bitmap, 1), (group.inode_bitmap, 1), (group.inode_table, geometry.table_blocks)):
        if not geometry.first_block < place <= geometry.blocks - count:
            raise Doubt(f"block group {group.number} has its own blocks outside the filesystem", unclean=True)
    raw = read(group.bitmap * geometry.block_size, geometry.block_size)
    if geometry.seed is not None:
        mask = 0xFFFFFFFF if geometry.descriptor_size > 32 else 0xFFFF
        if crc32c(geometry.seed, raw[: geometry.blocks_per_group // 8]) & mask != group.checksum:
            raise Doubt(f"the bitmap of block group {group.number} has a wrong checksum", unclean=True)
    free = ~int.from_bytes(raw, "little") & ((1 << geometry.length(group.number)) - 1)
    if free.bit_count() != group.free:
        raise Doubt(f"the bitmap of block group {group.number} contradicts the group's count", unclean=True)
    return free
