"""The ext4 readers on filesystems of mke2fs that were bent, with their checksums made right again.

The filesystems are made by ``bases.py``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from script import Script
from store import bases

from portunix_vdisk.platform.base import FileIdentity, Partition
from portunix_vdisk.platform.crc32c import crc32c
from portunix_vdisk.steps.ext4 import Doubt
from portunix_vdisk.steps.ext4_files import files_on
from portunix_vdisk.steps.free_space import find_used
from portunix_vdisk.steps.source import SourceIdentity

_BASES = [content for name, content in sorted(bases().items()) if name.endswith(".ext4")]
_FIELDS = [(at, 4) for at in (0, 4, 0x14, 0x18, 0x1C, 0x20, 0x24, 0x28, 0x4C, 0x60, 0x64, 0x150, 0x270)]
_FIELDS += [(at, 2) for at in (0x38, 0x3A, 0x58, 0xFE)]
_GROUP = [(0, 4), (4, 4), (8, 4), (0xC, 2), (0x12, 2), (0x1C, 2), (0x20, 4), (0x28, 4), (0x2C, 2), (0x32, 2)]
_INODE = [(0, 2), (4, 4), (0x1A, 2), (0x20, 4)] + [(0x28 + at, 4) for at in range(0, 60, 4)]
_INODE += [(0x28 + at, 2) for at in range(0, 36, 2)]
_DIRENT = [(at, 2) for at in range(0, 64, 2)]
SIZES = (0, 1 << 20, 1 << 24, 1 << 34, 1 << 44)


class _Bent:
    """A filesystem with changes: a source that may be far larger than what is in it."""

    identity = SourceIdentity(FileIdentity(1, 2, 3, 4, 5))
    path = Path("bent")

    def __init__(self, content: bytes, size: int) -> None:
        self.content, self.size = bytearray(content), size
        self.extents: Sequence[tuple[int, int]] = [(0, size)]

    def read(self, offset: int, length: int) -> bytearray:
        assert 0 <= offset <= self.size - length, "a place outside the partition is read"
        piece = self.content[offset : offset + length]
        return piece + bytes(length - len(piece))

    def read_into(self, offset: int, buffer: bytearray) -> None:
        buffer[:] = self.read(offset, len(buffer))

    def announce(self, offset: int, length: int) -> None: ...

    def check(self) -> None: ...

    def close(self) -> None: ...

    def get(self, at: int, size: int) -> int:
        return int.from_bytes(self.content[at : at + size], "little")

    def poke(self, script: Script, base: int, fields: list[tuple[int, int]]) -> None:
        at, size = script.pick(fields)
        value = script.strange(self.get(base + at, size)) & ((1 << 8 * size) - 1)
        if 0 <= base + at <= len(self.content) - size:
            self.content[base + at : base + at + size] = value.to_bytes(size, "little")

    def fix(self, group_at: int, descriptor: int) -> None:
        """Make the checksums of the superblock, the first descriptor and its bitmap right."""
        if not self.get(1024 + 0x64, 4) & 0x400:
            return
        self.content[1024 + 0x3FC : 2048] = crc32c(0xFFFFFFFF, self.content[1024 : 1024 + 0x3FC]).to_bytes(4, "little")
        seed = crc32c(0xFFFFFFFF, self.content[1024 + 0x68 : 1024 + 0x78])
        raw = bytearray(self.content[group_at : group_at + descriptor])
        raw[0x1E:0x20] = bytes(2)
        own = crc32c(crc32c(seed, bytes(4)), raw) & 0xFFFF
        self.content[group_at + 0x1E : group_at + 0x20] = own.to_bytes(2, "little")


def run(data: bytes) -> None:
    script = Script(data)
    content = script.pick(_BASES)
    fs = _Bent(content, len(content) + script.pick(SIZES))
    block = 1024 << fs.get(1024 + 0x18, 4)
    group_at = block * (2 if block == 1024 else 1)
    descriptor = fs.get(1024 + 0xFE, 2) if fs.get(1024 + 0x60, 4) & 0x80 else 32
    table, size = fs.get(group_at + 8, 4) * block, fs.get(1024 + 0x58, 2)
    honest = script.below(8) != 7
    damaged = [(0, block), (table, table + 300)]
    while script.left:
        match script.below(8):
            case 0 | 1:
                fs.poke(script, 1024, _FIELDS)
            case 2:
                fs.poke(script, group_at, _GROUP)
            case 3 | 4:
                fs.poke(script, table + script.below(32) * size, _INODE)
            case 5:
                _poke_block(script, fs, table + script.below(32) * size, block)
            case 6:
                start = script.below(fs.size)
                damaged = [(start, min(fs.size, start + (1 << script.below(44))))]
            case _:
                at, length = script.below(len(fs.content)), script.below(256)
                fs.content[at : at + length] = script.take(length).ljust(length, b"\xff")[: len(fs.content) - at]
    if honest:
        fs.fix(group_at, descriptor)
    with suppress(Doubt):
        used = find_used(fs, Partition(0, fs.size), "ext4")
        assert all(
            start < end <= later for (start, end), (later, _) in zip(used, [*used[1:], (fs.size, 0)], strict=True)
        )
    with suppress(Doubt):
        files_on(fs.read, fs.size, damaged)


def _poke_block(script: Script, fs: _Bent, inode: int, block: int) -> None:
    """Change the first block that a file's map names: of a folder entries, else a node of the map."""
    (start,) = struct.unpack_from("<I", fs.content, inode + 0x28 + (20 if fs.get(inode + 0x20, 4) & 0x80000 else 0))
    if 0 < start < len(fs.content) // block:
        fs.poke(script, start * block, _DIRENT)
