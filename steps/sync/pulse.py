"""Progress and safe points at a bounded rate, cheap enough to be called for every file."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from portunix_vdisk.steps.step import Context

_INTERVAL_SECONDS = 0.1


class Pulse:
    """Ten times a second at most, reports progress and lets the person stop the step.

    Args:
        total: bytes to copy; 0 reports nothing.
        done: tells how many bytes were copied so far.
    """

    def __init__(self, ctx: Context, total: int = 0, done: Callable[[], int] = lambda: 0) -> None:
        self._ctx = ctx
        self._total = total
        self._done = done
        self._next = 0.0

    def beat(self) -> None:
        """Call often. Raises ``Interrupted``."""
        now = monotonic()
        if now >= self._next:
            self._next = now + _INTERVAL_SECONDS
            self._ctx.safe_point()
            if self._total:
                self._ctx.update(min(self._done(), self._total), self._total)
