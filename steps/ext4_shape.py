"""Where an ext4 filesystem keeps its inodes: from its superblock or a copy of that, not trusted.

Source: Linux, Documentation/filesystems/ext4 (super.rst, group_descr.rst) and fs/ext4/ext4.h.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from portunix_vdisk.steps.ext4 import Doubt, Read

_META_BG: Final = 0x10
_CHECKSUMS: Final = 0x10 | 0x400
_MOST_INODES: Final = 1 << 26
_MOST_GROUPS: Final = 1 << 19
"""64 TiB in blocks of 4 KiB."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes in bytes, places in blocks from the start of the filesystem."""

    block_size: int
    inodes: int
    inodes_per_group: int
    inode_size: int
    tables: list[tuple[int, int]]
    """First block of each group's inode table, and how many of its inodes were ever used."""
    descriptors_end: int


def read_shape(read: Read, length: int) -> Shape:
    """From the superblock, or the first copy of it, which lies in block group 1. Raises ``Doubt``."""
    problem: Doubt | None = None
    for at, size in ((1024, 0), *((8 * size * size + size * (size == 1024), size) for size in (4096, 2048, 1024))):
        try:
            return _shape_at(read, length, at, size)
        except Doubt as doubt:
            problem = problem or doubt
    assert problem is not None
    raise problem


def _shape_at(read: Read, length: int, at: int, only: int) -> Shape:
    """From the superblock at this offset; ``only`` is the size of blocks with which a copy is there."""
    block = bytes(read(at, 1024))
    inodes, blocks = struct.unpack_from("<II", block)
    first, log_size = struct.unpack_from("<II", block, 0x14)
    blocks_per_group, inodes_per_group = struct.unpack_from("<I4xI", block, 0x20)
    (magic,) = struct.unpack_from("<H", block, 0x38)
    (inode_size,) = struct.unpack_from("<H", block, 0x58)
    incompatible, read_only = struct.unpack_from("<II", block, 0x60)
    wide = bool(incompatible & 0x80)
    descriptor_size = struct.unpack_from("<H", block, 0xFE)[0] if wide else 32
    if magic != 0xEF53:
        raise Doubt("there is no ext4 filesystem in the partition, or its superblock is damaged")
    blocks |= struct.unpack_from("<I", block, 0x150)[0] << 32 if wide else 0
    if (
        log_size > 6
        or incompatible & _META_BG
        or not 0 < blocks <= length // (1024 << log_size)
        or not 0 < inodes <= _MOST_INODES
        or not (blocks_per_group and inodes_per_group)
        or inode_size not in (128, 256, 512, 1024, 2048, 4096)
        or not 32 <= descriptor_size <= 1024
        or not 0 < (groups := -(-(blocks - first) // blocks_per_group)) <= _MOST_GROUPS
        or groups * inodes_per_group != inodes
        or groups * descriptor_size > 64 * _MOST_GROUPS
    ):
        raise Doubt("the filesystem's superblock says what cannot be, or has features that are not understood here")
    size = 1024 << log_size
    if only not in (0, size):
        raise Doubt("this is no copy of the superblock")
    raw = bytes(read((at // size + 1) * size, groups * descriptor_size))
    tables = []
    for group in range(groups):
        one = raw[group * descriptor_size :][:descriptor_size]
        table, flags, unused = struct.unpack_from("<I6xH8xH", one, 8)
        if len(one) >= 64:
            table |= struct.unpack_from("<I", one, 0x28)[0] << 32
            unused |= struct.unpack_from("<H", one, 0x32)[0] << 16
        known = bool(read_only & _CHECKSUMS)
        used = 0 if known and flags & 1 else inodes_per_group - (min(unused, inodes_per_group) if known else 0)
        tables.append((table, used if table else 0))
    _refuse_shared(tables, -(-inodes_per_group * inode_size // size))
    end = first + 1 + -(-groups * descriptor_size // size)
    return Shape(size, inodes, inodes_per_group, inode_size, tables, end)


def _refuse_shared(tables: list[tuple[int, int]], blocks: int) -> None:
    """Groups that share their inodes would make much work of little."""
    end = 0
    for table, used in sorted(tables):
        if not used:
            continue
        if table < end:
            raise Doubt("the groups of the filesystem share their inodes")
        end = table + blocks
