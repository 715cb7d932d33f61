"""A chunk as the blocks in which it differs from a former chunk.

Plain form, little endian: ``u32 block size, u32 count, H of the former chunk (32 bytes), count times u32 block number``
in ascending order, then the blocks one after the other; the last block of a chunk may be short.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from portunix_vdisk.platform.errors import Corrupt

BLOCK: Final = 4096
_STRIDE: Final = 16 * BLOCK
_HEAD: Final = struct.Struct("<II32s")


def changed_blocks(former: bytes, now: bytes | bytearray) -> list[int]:
    """Numbers of the blocks in which two chunks of the same length differ, ascending."""
    changed: list[int] = []
    # Slices of bytes are compared at the speed of memory; memoryviews are compared byte by byte.
    for start in range(0, len(now), _STRIDE):
        if now[start : start + _STRIDE] == former[start : start + _STRIDE]:
            continue
        for at in range(start, min(start + _STRIDE, len(now)), BLOCK):
            if now[at : at + BLOCK] != former[at : at + BLOCK]:
                changed.append(at // BLOCK)
    return changed


def make_patch(digest: bytes, now: bytes | bytearray, changed: Sequence[int]) -> bytes:
    """What turns the former chunk with that digest, which differs in these blocks, into ``now``."""
    head = _HEAD.pack(BLOCK, len(changed), digest) + struct.pack(f"<{len(changed)}I", *changed)
    return head + b"".join(now[number * BLOCK : (number + 1) * BLOCK] for number in changed)


def longest_patch(length: int) -> int:
    """Longest plain form of a patch for a chunk of ``length`` bytes, in bytes."""
    return _HEAD.size + length + 4 * -(-length // 512)


def base_digest(plain: bytes) -> bytes:
    """Digest of the former chunk that a patch is against. Raises ``Corrupt``."""
    if len(plain) < _HEAD.size:
        raise Corrupt("a patch of the archive is damaged: it is too short")
    digest: bytes = _HEAD.unpack_from(plain)[2]
    return digest


def apply_patch(former: bytes, plain: bytes) -> bytes:
    """The chunk that ``plain`` makes of ``former``, whose digest was checked. Raises ``Corrupt``."""
    if len(plain) < _HEAD.size:
        raise Corrupt("a patch of the archive is damaged: it is too short")
    block, count, _ = _HEAD.unpack_from(plain)
    at = _HEAD.size + 4 * count
    if not 512 <= block <= len(former) or count > -(-len(former) // block) or len(plain) < at:
        raise Corrupt("a patch of the archive is damaged: impossible size")
    made, last = bytearray(former), -1
    for number in struct.unpack_from(f"<{count}I", plain, _HEAD.size):
        start = number * block
        size = min(block, len(made) - start)
        if number <= last or size <= 0 or at + size > len(plain):
            raise Corrupt("a patch of the archive is damaged: impossible block")
        made[start : start + size] = plain[at : at + size]
        at, last = at + size, number
    if at != len(plain):
        raise Corrupt("a patch of the archive is damaged: it is too long")
    return bytes(made)
