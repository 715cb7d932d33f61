"""Headers of encrypted partitions as steps see them: one narrow protocol, as :mod:`portunix_vdisk.platform.base`."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class LuksHeaders(Protocol):
    """Makes LUKS1 headers and changes their key slots, in a plain sparse file as large as the partition.

    Every method raises ``Missing`` without the program that does it, and ``ToolFailed``.
    """

    def make(self, path: Path, secret: bytes) -> None:
        """Write a new header with one key slot, which ``secret`` opens. Raises ``BadUsage`` for no UTF-8 text."""

    def opens(self, path: Path, secret: bytes) -> bool:
        """Whether a password opens one of the key slots."""

    def add(self, path: Path, secret: bytes, new: bytes) -> None:
        """Let ``new`` open a free key slot; ``secret`` opens another. Raises ``BadUsage`` for no UTF-8 text."""

    def remove(self, path: Path, secret: bytes) -> None:
        """Empty a key slot that ``secret`` opens."""
