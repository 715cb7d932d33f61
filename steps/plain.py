"""What is in use inside an encrypted partition, as places on the disk around it."""

from __future__ import annotations

from collections.abc import Sequence

from portunix_vdisk.platform.base import BlockImage, FileSystemType, Partition
from portunix_vdisk.steps.free_space import Runs, common, find_used
from portunix_vdisk.steps.source import Source, SourceIdentity


class _Plain:
    """The content of an encrypted partition as something to read from; it has data where the disk has."""

    def __init__(self, plain: BlockImage, around: Source, start: int) -> None:
        self._plain, self._around = plain, around
        self.path = around.path
        self.size = plain.size
        inside = common(around.extents, [(start, start + plain.size)])
        self.extents: Sequence[tuple[int, int]] = [(first - start, end - start) for first, end in inside]
        self.identity: SourceIdentity = around.identity

    def read_into(self, offset: int, buffer: bytearray) -> None:
        buffer[:] = self._plain.read(offset, len(buffer))

    def announce(self, offset: int, length: int) -> None:
        """Nothing: it is read through another process."""

    def check(self) -> None:
        self._around.check()

    def close(self) -> None:
        """Nothing is held here."""


def used_inside(disk: Source, partition: Partition, plain: BlockImage, file_system: FileSystemType) -> Runs:
    """As :func:`find_used`, for a disk whose partition has an encrypted filesystem with the content ``plain``.

    The header before the content is in use, too. Raises ``Doubt``, ``Failed``.
    """
    end = partition.start + partition.length
    start = end - plain.size
    inside = find_used(_Plain(plain, disk, start), Partition(0, plain.size), file_system)
    found: Runs = []
    for first, last in ((0, start), *((start + one, start + other) for one, other in inside), (end, disk.size)):
        if found and found[-1][1] == first:
            found[-1] = found[-1][0], last
        elif first < last:
            found.append((first, last))
    return found
