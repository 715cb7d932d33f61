"""The steps of an import: prepare the image, unpack by ranges, finish with the proof."""

from __future__ import annotations

from dataclasses import dataclass

from portunix_vdisk.platform.errors import Missing, Refused, VdiskError
from portunix_vdisk.steps.archive.imports import Import, ImportJob, close_import, with_import
from portunix_vdisk.steps.archive.index import root_of_chunks
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.salvage import damaged_files
from portunix_vdisk.steps.step import Context, Json


@dataclass(frozen=True, slots=True)
class Prepare:
    """Make the empty image that an import fills, or keep the one that an earlier run has begun to fill.

    An image of another size, or one that can't be opened, is made anew: it is a partial, nothing else refers to it.
    Raises what reading the archive and making an image raise, and ``Refused`` when there is no room.
    """

    task: Import

    def run(self, ctx: Context) -> Json:
        partial, type_ = self.task.partial, self.task.type
        with ArchiveReader(self.task.archive, self.task.generation) as reader:
            size, data = reader.index.disk.size, reader.index.data_bytes
        close_import(partial)
        there = 0
        if partial.exists():
            try:
                image = ctx.platform.map_image(partial, type_)
                there = sum(extent.length for extent in image.extents) if image.size == size else -1
            except (Missing, Refused):
                raise  # it may be whole
            except VdiskError:
                there = -1
        if not partial.exists() or there < 0:
            there = 0
            ctx.platform.create_image(partial, type_, size)
        if ctx.platform.free_space(partial.parent) < (data - there) // 2:
            raise Refused(
                f"{partial.parent} has too little space: up to {data - there} bytes are needed",
                hint="free some space or import to another folder",
            )
        return {"disk_bytes": size, "data_bytes": data, "kept_bytes": there}


@dataclass(frozen=True, slots=True)
class Unpack:
    """Make one of ``count`` ranges of the image equal to the archive.

    It is brought to the medium while later ranges are unpacked; :class:`Finish` makes all of it durable, and reads
    back what a run that was killed may have lost. Every chunk's digest is checked before it is written; what the image
    holds already is read back and, where its digest is right, left alone; data where zeros belong is zeroed. Raises
    ``Corrupt`` naming archive, member and disk offset, ``Failed`` for errors of the system; the image is kept.
    """

    task: Import
    index: int
    count: int

    def run(self, ctx: Context) -> Json:
        before = [0, 0]

        def work(job: ImportJob) -> None:
            before[:] = job.written, job.reused
            job.unpack(self.index, self.count, ctx)

        job = with_import(self.task, ctx.platform, work)
        return {"written_bytes": job.written - before[0], "reused_bytes": job.reused - before[1]}


@dataclass(frozen=True, slots=True)
class Finish:
    """Prove the whole image: chunks that this process neither wrote nor read back are read back now; then the root.

    Releases the image. The result has the archive's facts and the disk bytes written and reused by this process; where
    damaged chunks became zeros, ``damage`` says which files that hurts, otherwise it is None.
    """

    task: Import

    def run(self, ctx: Context) -> Json:
        job = with_import(self.task, ctx.platform, lambda job: job.finish(ctx))
        index = job.reader.index
        facts: dict[str, Json] = {
            "archive_uuid": job.reader.header.archive_uuid,
            "disk_uuid": index.disk.uuid,
            "root": root_of_chunks(index.disk, index.chunks).hex(),
            "disk_bytes": index.disk.size,
            "data_bytes": index.data_bytes,
            "written_bytes": job.written,
            "reused_bytes": job.reused,
            "damage": None,
        }
        places = [(offset, offset + length) for offset, length in sorted(job.damaged.items())]
        close_import(self.task.partial)
        if places:
            task = self.task
            facts["damage"] = damaged_files(ctx.platform, task.partial, task.type, index.disk, places, ctx.safe_point)
        return facts
