"""Format: a filesystem inside the partition of an image that is still partial."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from portunix_vdisk.platform.base import MIB, BlockImage, FileSystemType, ImageType, Owner, Partition
from portunix_vdisk.steps.step import Context, Json


@dataclass(frozen=True, slots=True)
class Format:
    """Make a filesystem in ``scratch``, a sparse file, and lay its data into the partition.

    Neither a block device nor root is needed, and it is the same for every container format. What an earlier,
    interrupted run left in the partition is cleared first, because mkfs relies on finding zeros. In an encrypted one
    there are none to find: there, all that mkfs writes is written, and the rest is as on any used medium.
    """

    partial: Path
    type: ImageType
    partition: Partition
    file_system: FileSystemType
    label: str
    uuid: str
    owner: Owner
    scratch: Path
    secret: bytes = field(default=b"", compare=False, repr=False)
    """The password of a partition that :class:`EncryptPartition` has prepared."""

    def run(self, ctx: Context) -> Json:
        """Result: bytes written. Raises ``ToolFailed``, ``Missing``, ``WrongPassword``, ``OSError``."""
        self.scratch.unlink(missing_ok=True)
        try:
            with ExitStack() as stack:
                image, place = self._place(stack, ctx)
                with self.scratch.open("xb") as file:
                    file.truncate(place.length)
                ctx.platform.make_filesystem(
                    self.scratch,
                    self.file_system,
                    label=self.label,
                    uuid=self.uuid,
                    owner=self.owner,
                    start=place.start,
                )
                made = stack.enter_context(self.scratch.open("rb"))
                return {"written": _lay(made.fileno(), place.start, image, ctx, zeros=bool(self.secret))}
        finally:
            self.scratch.unlink(missing_ok=True)

    def _place(self, stack: ExitStack, ctx: Context) -> tuple[BlockImage, Partition]:
        """What takes the filesystem, and where it goes there."""
        if self.secret:
            plain = stack.enter_context(
                ctx.platform.open_encrypted(self.partial, self.type, self.partition, self.secret, writable=True)
            )
            return plain, Partition(0, plain.size)
        stale = ctx.platform.map_image(self.partial, self.type).extents
        image = stack.enter_context(ctx.platform.open_image(self.partial, self.type, writable=True))
        for extent in stale:
            start = max(extent.start, self.partition.start)
            end = min(extent.start + extent.length, self.partition.start + self.partition.length)
            if start < end:
                image.zero(start, end - start)
        return image, self.partition


def _lay(descriptor: int, place: int, image: BlockImage, ctx: Context, *, zeros: bool) -> int:
    """Copy the data of a sparse file to where the filesystem begins; returns the bytes written.

    ``zeros``: what nobody has written reads as noise there, so zeros that mkfs wrote are written too.
    """
    written = 0
    for start, end in _data(descriptor):
        for offset in range(start, end, MIB):
            ctx.safe_point()
            piece = os.pread(descriptor, min(MIB, end - offset), offset)
            if zeros or piece.count(0) != len(piece):
                image.write(place + offset, piece)
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
