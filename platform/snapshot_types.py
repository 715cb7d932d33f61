"""A state of a mounted disk that was kept, and reading it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The content of a disk at one moment, readable while the disk goes on being used.

    ``size`` is the disk's in bytes; ``extents`` are start and end of all that may be other than zeros, ascending;
    ``place`` is the Unix socket of an NBD server where ``served``, otherwise a file. ``waited``: seconds that programs
    which wrote to the disk had to wait for it.
    """

    uuid: str
    size: int
    extents: tuple[tuple[int, int], ...]
    place: Path
    served: bool
    waited: float


class SnapshotReader(Protocol):
    """A snapshot, opened. Usable from several threads."""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with the bytes at ``offset``. Raises ``Failed``, also when the snapshot broke."""
