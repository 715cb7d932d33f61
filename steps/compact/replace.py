"""Replace: prove the new image and swap it with the old one."""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.platform.errors import Corrupt, VdiskError
from portunix_vdisk.steps import durable
from portunix_vdisk.steps.archive.pipeline import Pipeline
from portunix_vdisk.steps.catalog import Catalog
from portunix_vdisk.steps.compact.copy import PIECE, pieces, refuse_in_use, survey_or_refuse
from portunix_vdisk.steps.compact.survey import Compaction, allocated, no_room, out_of_room
from portunix_vdisk.steps.disk import Disk, DiskState
from portunix_vdisk.steps.source import ImageSource
from portunix_vdisk.steps.step import Context, Json


@dataclass(frozen=True, slots=True)
class Replace:
    """Read the whole new image back, compare it with what is in use in the old one, and rename it over the old one.

    The old image stays as it is up to that moment, and whoever looks finds either the one or the other. Owner, mode,
    extended attributes and time of the last change are those of the old one. Raises ``Corrupt`` where the two differ.

    An image that nobody has touched since it was imported counts as untouched afterwards too. That needs two notes in
    the catalog: before the swap, which file is about to become the image; after it, the new identity. A run that was
    killed in between is finished by the next one, if the file has not been written to meanwhile.
    """

    task: Compaction
    catalog: Path
    uuid: str

    def run(self, ctx: Context) -> Json:
        """Result: bytes on the host before and after."""
        task = self.task
        with Catalog.open(self.catalog, create=True) as catalog:
            disk = catalog.by_uuid(self.uuid)
            if disk is not None and is_pending(disk):
                finish_swap(catalog, disk)
                if not task.partial.exists():
                    return {}
            before = allocated(task.image)
            try:
                sync_file(task.partial)
                self._prove(ctx)
            except (VdiskError, OSError) as error:
                if out_of_room(error):
                    raise no_room(task, error) from error
                raise
            refuse_in_use(task, ctx)
            shutil.copystat(task.image, task.partial)
            sync_file(task.partial, drop=False)
            untouched = disk is not None and disk.imported_identity == durable.identity_of(task.image)
            if untouched:
                about = task.partial.stat()
                catalog.set_partial(self.uuid, (about.st_dev, about.st_ino))
            after = allocated(task.partial)
            task.partial.replace(task.image)
            durable.fsync_folder(task.image.parent)
            if untouched:
                catalog.mark_ready(self.uuid, imported_identity=durable.identity_of(task.image))
        return {"before_bytes": before, "after_bytes": after}

    def _prove(self, ctx: Context) -> None:
        task = self.task
        found = survey_or_refuse(task, ctx)
        ctx.platform.check_image(task.partial, task.type)
        made = ctx.platform.map_image(task.partial, task.type)
        if made.size != found.map.size:
            raise _differs(task, 0)
        with (
            closing(ImageSource(task.image, found.map, found.used)) as old,
            closing(ImageSource(task.partial, made)) as new,
        ):
            offset = first_difference(old, new, ctx)
            if offset is not None:
                raise _differs(task, offset)
            new.check()
            old.check()


def first_difference(old: ImageSource, new: ImageSource, ctx: Context) -> int | None:
    """Where two disks of the same size begin to differ, by pieces; None where they are equal."""
    offsets = sorted({*pieces(old.extents), *pieces(new.extents)})

    def equal(offset: int) -> bool:
        one = bytearray(min(PIECE, old.size - offset))
        other = bytearray(len(one))
        old.read_into(offset, one)
        new.read_into(offset, other)
        return one == other

    pipeline = Pipeline(equal, iter(offsets))
    try:
        for number, offset in enumerate(offsets):
            if not pipeline.take(ctx.safe_point):
                return offset
            ctx.update((number + 1) * PIECE, len(offsets) * PIECE)
    finally:
        pipeline.close()
    return None


def is_pending(disk: Disk) -> bool:
    """True if a swap may have been killed before the catalog knew of it."""
    return disk.state is DiskState.READY and disk.partial_inode is not None


def finish_swap(catalog: Catalog, disk: Disk) -> None:
    """Settle what :func:`is_pending` found: was the swap made, and is the image untouched since?"""
    about = disk.path.stat()
    known = disk.imported_identity
    # The swap keeps the time of the last change, every writer sets a new one.
    swapped = (about.st_dev, about.st_ino) == disk.partial_inode
    if swapped and known is not None and about.st_mtime_ns == known.mtime_ns:
        catalog.mark_ready(disk.uuid, imported_identity=durable.identity_of(disk.path))
    else:
        catalog.mark_ready(disk.uuid)


def sync_file(path: Path, *, drop: bool = True) -> None:
    """Make a file durable; with ``drop`` it is read from its device the next time, not from memory."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
        if drop:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _differs(task: Compaction, offset: int) -> Corrupt:
    return Corrupt(
        f"the compacted image {task.partial}, read back, differs from the disk near byte {offset}",
        state="the disk itself was not touched",
        hint="check the medium that holds the image; the same command compares and writes again",
    )
