"""The filesystem of a disk that becomes larger or smaller.

The programs that do it move data and rewrite tables; killed in the middle, most of them leave a filesystem that nobody
can put together again. So they work on an overlay, and the disk stays as it is. What they changed is checked, made
durable and given its name; from then on it is written to the disk, again and again if need be, until all of it is
there. As long as it has that name, nothing else may use the disk: see :func:`changes_of`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from portunix_vdisk.platform.base import MIB, BlockImage, FileSystemType, ImageType, OverlayMap, Partition
from portunix_vdisk.platform.errors import Failed, Refused, VdiskError
from portunix_vdisk.steps import durable
from portunix_vdisk.steps.compact.replace import sync_file
from portunix_vdisk.steps.keyslots import read_header
from portunix_vdisk.steps.sizes import show_size
from portunix_vdisk.steps.step import Context, Json

_TIGHT = 1 << 20
"""Bytes: where no more are left, that is why writing failed."""


def changes_of(image: Path) -> Path:
    """The changes of a filesystem that have to be written to a disk before anything else is done with it."""
    return image.with_name(image.name + ".resize")


@dataclass(frozen=True, slots=True)
class ResizeFilesystem:
    """Make the filesystem in ``partition`` fit into ``room`` bytes, and fill them.

    Of an encrypted partition, which ``secret`` opens, the header counts as part of the room.
    """

    image: Path
    type: ImageType
    partition: Partition
    file_system: FileSystemType
    room: int
    secret: bytes = field(default=b"", compare=False, repr=False)

    def smallest(self, ctx: Context) -> int:
        """Bytes that the partition needs at least. Raises ``Refused``, ``Corrupt``, ``Missing``, ``WrongPassword``."""
        with self._overlay(ctx) as overlay:
            found = ctx.platform.sizing.smallest(overlay, self.file_system)
        durable.partial_of(changes_of(self.image)).unlink()
        return found + self._header(ctx)

    def run(self, ctx: Context) -> Json:
        """Result: bytes that were written to the disk. Raises as :meth:`smallest`; then the disk is as it was."""
        changes = changes_of(self.image)
        with self._overlay(ctx) as overlay:
            ctx.platform.sizing.filesystem(overlay, self.file_system, self.room - self._header(ctx))
        found = ctx.platform.map_overlay(overlay)
        needed = sum(extent.length for extent in found.extents)
        free = ctx.platform.free_space(self.image.parent)
        if free < needed:
            overlay.unlink()
            raise Refused(
                f"{show_size(needed)} are needed in {self.image.parent}, {show_size(free)} are free",
                state="nothing was changed",
                hint="free some space and run the same command again",
            )
        sync_file(overlay)
        overlay.rename(changes)
        durable.fsync_folder(changes.parent)
        write_changes(self.image, self.type, ctx)
        return {"written_bytes": needed}

    @contextmanager
    def _overlay(self, ctx: Context) -> Iterator[Path]:
        """The disk to try it on, attached while the context lasts."""
        overlay = durable.partial_of(changes_of(self.image))
        give_up(self.image, ctx)
        platform = ctx.platform
        platform.make_overlay(overlay, platform.sizing.size(self.image, self.type))
        try:
            how = (overlay, self.image, self.type, self.partition)
            platform.attach_overlay(*how, secret=self.secret, header=self._header(ctx))
            ctx.safe_point()
            yield overlay
            platform.detach(overlay)
        except BaseException as error:
            tight = platform.free_space(overlay.parent) < _TIGHT
            give_up(self.image, ctx)
            if tight and isinstance(error, VdiskError | OSError):
                raise Failed(
                    f"there is no room beside the image: {overlay.parent}",
                    state="the disk was not changed",
                    hint="free some space and run the same command again",
                ) from error
            raise

    def _header(self, ctx: Context) -> int:
        if not self.secret:
            return 0
        return read_header(ctx, self.image, self.type, self.partition).payload


def give_up(image: Path, ctx: Context) -> None:
    """Take away what a killed run left of an overlay that was not finished. Whoever calls has the image's lock."""
    overlay = durable.partial_of(changes_of(image))
    if ctx.platform.attachment(overlay) is not None:
        ctx.platform.detach(overlay)
    overlay.unlink(missing_ok=True)


def write_changes(image: Path, type: ImageType, ctx: Context) -> None:
    """Write the finished changes to the disk, if there are any, and remove them. Killed meanwhile, it is done again."""
    changes = changes_of(image)
    if not changes.exists():
        return
    found = ctx.platform.map_overlay(changes)
    with ctx.platform.open_image(image, type, writable=True) as disk, changes.open("rb") as file:
        if disk.size != found.size:
            raise Refused(
                f"{changes} are changes of a disk of {show_size(found.size)}, and {image} has {show_size(disk.size)}",
                state="nothing was changed",
                hint="was the image replaced by another one? Then move that file away",
            )
        _write(disk, found, file.fileno(), ctx)
        disk.flush()
    changes.unlink()
    durable.fsync_folder(changes.parent)


def _write(disk: BlockImage, changes: OverlayMap, file: int, ctx: Context) -> None:
    data = iter(changes.extents)
    extent = next(data, None)
    for start, end in changes.decided:
        at = start
        while at < end:
            ctx.update(at, changes.size)
            if extent is None or extent.start >= end:
                disk.zero(at, end - at)
                break
            if at < extent.start:
                disk.zero(at, extent.start - at)
            for offset in range(0, extent.length, MIB):
                piece = os.pread(file, min(MIB, extent.length - offset), extent.offset + offset)
                disk.write(extent.start + offset, piece)
            at = extent.start + extent.length
            extent = next(data, None)
