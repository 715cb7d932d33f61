"""The root: one digest that stands for the whole content of a disk.

A binary Merkle tree over the chunks that are not zero, with domain separation as in RFC 6962, section 2.1.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from portunix_vdisk.steps.archive.digest import digest_of

_LEAF = struct.Struct("<cQI32s")


def root_of(disk_size: int, chunks: Iterable[tuple[int, int, bytes]]) -> bytes:
    """Root of a disk of ``disk_size`` bytes with chunks ``(offset, length, digest)`` in ascending order.

    leaf = H(00 || u64 offset || u32 length || digest), node = H(01 || left || right), an odd node moves up as it is,
    root = H(02 || u64 disk size || top), top = 32 zero bytes when there is no chunk; H = BLAKE3, little endian.
    """
    level = [digest_of(_LEAF.pack(b"\0", *chunk)) for chunk in chunks]
    while len(level) > 1:
        nodes = [digest_of(b"\1" + level[i] + level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = nodes + level[-1:] if len(level) % 2 else nodes
    top = level[0] if level else bytes(32)
    return digest_of(b"\2" + struct.pack("<Q", disk_size) + top)
