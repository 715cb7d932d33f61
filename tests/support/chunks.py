"""Chunks of an archive's disk, and bytes to fill them with."""

from __future__ import annotations

import random
from typing import Any, Final

CHUNK: Final = 4 << 20


def noise(length: int, seed: int = 1) -> bytes:
    """Bytes that don't compress, the same for the same seed."""
    return random.Random(seed).randbytes(length)


def ten_chunks(house: Any) -> Any:
    """A disk with small members: six different chunks, one twice, one of zeros, one hole; the last is short."""
    tile = {n: noise(3000, n) for n in range(6)}
    pieces = {n * CHUNK: tile[n] for n in range(6)} | {6 * CHUNK: tile[2], 7 * CHUNK: bytes(CHUNK)}
    house.make(9 * CHUNK + 77, pieces | {9 * CHUNK: b"end"})
    return house
