"""The steps that finish an export: seal, verify, publish."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Final

from portunix_vdisk.platform.errors import Corrupt, Failed, NotFound, Refused, VdiskError
from portunix_vdisk.steps.archive.directory import directory_bytes
from portunix_vdisk.steps.archive.export import Export, ExportJob, close_export, job_of, open_export
from portunix_vdisk.steps.archive.index import Index, compress_index, index_text
from portunix_vdisk.steps.archive.layout import (
    GENERATION,
    RECOVER_NAME,
    Record,
    document,
    index_name,
    range_count,
)
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.durable import publish
from portunix_vdisk.steps.step import Context, Json

_RECOVER: Final = "recover.txt"


@dataclass(frozen=True, slots=True)
class Seal:
    """Write index, RECOVER.txt and directory behind the chunks, and make the partial durable.

    Chunks that are missing after all are packed first. Sealing what is sealed changes nothing; what a killed seal left
    is cut off and written anew. Raises as :class:`Pack` does.
    """

    export: Export

    def run(self, ctx: Context) -> Json:
        try:
            job = open_export(self.export, ctx)
            count = range_count(self.export.disk.size)
            for number in range(count):
                job.pack(number, count, ctx)
            index = job.index()
            if not _is_sealed(job, index):
                _seal(job, index)
            job.appender.sync()
            job.check_source()
        except BaseException:
            close_export(self.export.output)
            raise
        with ArchiveReader(self.export.partial) as reader:
            return _facts(reader, job)


@dataclass(frozen=True, slots=True)
class Verify:
    """Read the sealed partial as an importer would: directory, documents, index, root, and the header of every chunk.

    Raises ``Corrupt``.
    """

    export: Export

    def run(self, ctx: Context) -> Json:
        ctx.safe_point()
        with ArchiveReader(self.export.partial) as reader:
            reader.check_headers(ctx.safe_point)
            if reader.header.disk_uuid != self.export.disk.uuid:
                raise Corrupt(f"{self.export.partial} is the archive of another disk")
            return _facts(reader, job_of(self.export.output))


@dataclass(frozen=True, slots=True)
class Publish:
    """Give the verified partial its name. Raises ``Refused`` if something else has that name by now."""

    export: Export

    def run(self, ctx: Context) -> Json:
        output, partial = self.export.output, self.export.partial
        ctx.safe_point()
        with ArchiveReader(partial if partial.exists() else output) as reader:
            facts = _facts(reader, job_of(output))
        close_export(output)
        if not partial.exists():
            return facts
        try:
            publish(partial, output)
        except FileExistsError:
            raise Refused(
                f"{output} exists",
                state=f"the finished archive is {partial}; nothing was overwritten",
                hint=f"move {output} away and run the same command again",
            ) from None
        except FileNotFoundError:
            raise NotFound(f"{partial} has vanished", hint="run the same command again") from None
        except OSError as error:
            raise Failed(f"cannot rename {partial}: {error.strerror}", state="the archive is whole") from error
        return facts


def _is_sealed(job: ExportJob, index: Index) -> bool:
    try:
        with ArchiveReader(job.export.partial) as reader:
            reader.check_headers()
            return reader.index == index
    except VdiskError:
        return False


def _seal(job: ExportJob, index: Index) -> None:
    job.appender.cut(job.appender.end)
    start = job.appender.end
    alive = {chunk.member for chunk in index.chunks}
    assert job.first is not None
    members: list[tuple[int, Record]] = [(0, job.first)]
    members += ((offset, record) for offset, record, _ in job.sessions.values())
    members += (holder for holder in job.members.values() if holder[1].name in alive)
    members.sort(key=lambda member: member[0])
    plain = index_text(index)
    recover = (resources.files(__package__) / _RECOVER).read_bytes()
    for record, payload in (
        document(index_name(GENERATION), plain, 0, compress_index(plain)),
        document(RECOVER_NAME, recover, 0),
    ):
        members.append((job.appender.append(record, payload), record))
    job.appender.append_bytes(directory_bytes(members, job.appender.end))
    job.sealed(start)


def _facts(reader: ArchiveReader, job: ExportJob | None) -> Json:
    """What an export returns. All sizes are bytes; written and reused ones are bytes of the archive file."""
    written = 0 if job is None else job.appender.written
    return {
        "archive_uuid": reader.header.archive_uuid,
        "root": reader.index.root.hex(),
        "archive_bytes": reader.size,
        "disk_bytes": reader.index.disk.size,
        "data_bytes": reader.index.data_bytes,
        "written_bytes": written,
        "reused_bytes": reader.size - written if job is not None else 0,
    }
