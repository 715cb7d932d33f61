"""How hard to compress, so that neither the processors nor the medium wait long for the other."""

from __future__ import annotations

from typing import Final

LADDER: Final = (1, 2, 3, 4, 5, 6, 9, 12)
"""Levels of zstd that are chosen from. On a developer's environment each step up makes about half to four fifths as
many bytes a second as the one before; from the first to the last the archive becomes a quarter smaller."""
_BUSY: Final = 0.95
_IDLE: Final = 0.5


def next_level(level: int, busy: float) -> int:
    """The level to go on with after ``level``.

    Args:
        level: one of :data:`LADDER`.
        busy: the part of the time, from 0 to 1, in which the medium had something to write. Beyond 95 % the processors
            have time left for a higher level; below half of it they are what everything waits for.
    """
    at = LADDER.index(level)
    if busy > _BUSY:
        return LADDER[min(at + 1, len(LADDER) - 1)]
    if busy < _IDLE:
        return LADDER[max(at - 1, 0)]
    return level
