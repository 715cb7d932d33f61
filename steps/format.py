"""Format: a filesystem inside the partition of an image that is still partial."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.platform.base import MIB, BlockImage, FileSystemType, ImageType, Owner, Partition
from portunix_vdisk.steps.step import Context, Json


@dataclass(frozen=True, slots=True)
class Format:
    """Make a filesystem in ``scratch``, a sparse file, and lay its data into the partition.

    Neither a block device nor root is needed, and it is the same for every container format. What an earlier,
    interrupted run left in the partition is cleared first, because mkfs relies on finding zeros.
    """

    partial: Path
    type: ImageType
    partition: Partition
    file_system: FileSystemType
    label: str
    uuid: str
    owner: Owner
    scratch: Path

    def run(self, ctx: Context) -> Json:
        """Result: bytes written. Raises ``ToolFailed``, ``Missing``, ``OSError``."""
        self.scratch.unlink(missing_ok=True)
        try:
            with self.scratch.open("xb") as file:
                file.truncate(self.partition.length)
            ctx.platform.make_filesystem(
                self.scratch, self.file_system, label=self.label, uuid=self.uuid, owner=self.owner
            )
            stale = ctx.platform.map_image(self.partial, self.type).extents
            with (
                ctx.platform.open_image(self.partial, self.type, writable=True) as image,
                self.scratch.open("rb") as made,
            ):
                for extent in stale:
                    start = max(extent.start, self.partition.start)
                    end = min(extent.start + extent.length, self.partition.start + self.partition.length)
                    if start < end:
                        image.zero(start, end - start)
                return {"written": _lay(made.fileno(), self.partition, image, ctx)}
        finally:
            self.scratch.unlink(missing_ok=True)


def _lay(descriptor: int, partition: Partition, image: BlockImage, ctx: Context) -> int:
    """Copy the data of a sparse file to the start of the partition; returns the bytes written."""
    written = 0
    for start, end in _data(descriptor):
        for offset in range(start, end, MIB):
            ctx.safe_point()
            piece = os.pread(descriptor, min(MIB, end - offset), offset)
            if piece.count(0) != len(piece):
                image.write(partition.start + offset, piece)
                written += len(piece)
    image.flush()
    return written


def _data(descriptor: int) -> Iterator[tuple[int, int]]:
    """Start and end of each run of data in a sparse file."""
    size = os.fstat(descriptor).st_size
    end = 0
    while True:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole from here on
            return
        end = min(os.lseek(descriptor, start, os.SEEK_HOLE), size)
        yield start, end
