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
    # One node of each height waits for its right neighbour: a million leaves at once would take 100 MB.
    waiting: list[bytes | None] = []
    for chunk in chunks:
        node = digest_of(_LEAF.pack(b"\0", *chunk))
        for height, left in enumerate(waiting):
            if left is None:
                waiting[height] = node
                break
            node, waiting[height] = digest_of(b"\1" + left + node), None
        else:
            waiting.append(node)
    top: bytes | None = None
    for left in waiting:
        if left is not None:
            top = left if top is None else digest_of(b"\1" + left + top)
    return digest_of(b"\2" + struct.pack("<Q", disk_size) + (top or bytes(32)))
