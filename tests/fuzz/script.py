"""An input as a script: bytes that are read as a series of decisions. Any bytes are a valid script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

INTERESTING = (0, 1, 2, 3, 7, 8, 255, 256, 511, 512, 4096, 65535, 65536, 1 << 20, (1 << 22) - 1, 1 << 22)
INTERESTING += ((1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)


class Script:
    """Decisions in the order in which they are asked for; zeros and first choices when the bytes are used up."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> bool:
        """Whether there is more to decide from."""
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        """Up to ``count`` bytes as they are."""
        piece = self._data[self._at : self._at + count]
        self._at += len(piece)
        return piece

    def number(self, size: int = 1) -> int:
        """An unsigned number of ``size`` bytes."""
        return int.from_bytes(self.take(size), "big")

    def below(self, end: int) -> int:
        """A number from 0 up to, and without, ``end``."""
        return self.number(1 if end <= 256 else 4 if end > 65536 else 2) % end if end > 0 else 0

    def pick(self, things: Sequence[T]) -> T:
        """One of these."""
        return things[self.below(len(things))]

    def strange(self, near: int = 0) -> int:
        """A number of the sort at which programs fail: round, extreme, or close to a right one."""
        how = self.number()
        if how < 64:
            return INTERESTING[how % len(INTERESTING)]
        if how < 160:
            return max(0, near + how - 112)
        return self.number(1 + how % 8)
