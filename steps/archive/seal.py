"""The steps that finish an export: seal, verify, publish."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Final

from portunix_vdisk.platform.errors import Corrupt, Failed, NotFound, Refused, VdiskError
from portunix_vdisk.steps.archive import storage
from portunix_vdisk.steps.archive.commit import append_update, read_update
from portunix_vdisk.steps.archive.directory import Entry, directory_bytes
from portunix_vdisk.steps.archive.export import ExportJob, close_export, job_of, open_export
from portunix_vdisk.steps.archive.index import Index, compress_index, index_text
from portunix_vdisk.steps.archive.layout import RECOVER_NAME, index_name, range_count
from portunix_vdisk.steps.archive.members import check_payload, read_member
from portunix_vdisk.steps.archive.plan import Export
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.record import document
from portunix_vdisk.steps.archive.sealing import index_piece
from portunix_vdisk.steps.archive.storage import ArchiveFile, Joined, Prefix
from portunix_vdisk.steps.archive.verify import verify_chunks
from portunix_vdisk.steps.durable import partial_of, publish
from portunix_vdisk.steps.step import Context, Json

_RECOVER: Final = "recover.txt"


@dataclass(frozen=True, slots=True)
class Seal:
    """Write index, RECOVER.txt and directory behind the chunks, and make the file durable.

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
            job.source.check()
        except BaseException:
            close_export(self.export.output)
            raise
        with unfinished(self.export) as reader:
            return _facts(reader, job)


@dataclass(frozen=True, slots=True)
class Verify:
    """Read what was sealed as an importer would: directory, documents, index, root, and the header of every chunk.

    With ``contents`` every chunk that was written now is read back from the medium and compared with its digest.
    Raises ``Corrupt``.
    """

    export: Export
    contents: bool = False

    def run(self, ctx: Context) -> Json:
        ctx.safe_point()
        _check_medium(self.export.output)
        with unfinished(self.export) as reader:
            reader.check_headers(ctx.safe_point)
            if reader.header.disk_uuid != self.export.disk.uuid:
                raise Corrupt(f"{self.export.unfinished} is the archive of another disk")
            if self.contents:
                with ArchiveFile(self.export.unfinished) as file:
                    file.forget_cache()
                    start = reader.size - file.size
                written = [
                    chunk
                    for chunk in reader.index.chunks
                    if chunk.member and reader.directory.entries[chunk.member].offset >= start
                ]
                verify_chunks(reader, written, ctx)
            return _facts(reader, job_of(self.export.output))


@dataclass(frozen=True, slots=True)
class Publish:
    """Give the verified archive its name, or add the verified generation to it.

    Raises ``Refused`` if something else has that name by now.
    """

    export: Export

    def run(self, ctx: Context) -> Json:
        output = self.export.output
        ctx.safe_point()
        _check_medium(output)
        if not storage.exists(self.export.unfinished):
            with ArchiveReader(output) as reader:
                return _facts(reader, job_of(output))
        with unfinished(self.export) as reader:
            facts = _facts(reader, job_of(output))
        update = self.export.is_update
        close_export(output)
        if update:
            append_update(output, ctx.safe_point)
        else:
            _give_name(self.export)
        return facts


def _check_medium(output: Path) -> None:
    if (job := job_of(output)) is not None:
        job.check_medium()


def _give_name(export: Export) -> None:
    output, partial = export.output, partial_of(export.output)
    try:
        files = storage.volumes_of(partial)
        if files == [partial]:
            publish(partial, output)
            return
        # The first volume comes last: with it the archive is there.
        for number in range(len(files), 0, -1):
            publish(files[number - 1], storage.volume_path(output, number))
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


@contextmanager
def unfinished(export: Export) -> Iterator[ArchiveReader]:
    """What was sealed and has no name yet, read as the archive that it will be. Raises as :class:`ArchiveReader`."""
    with ExitStack() as stack:
        if not export.is_update:
            partial = partial_of(export.output)
            storage.take_back(partial, export.output)
            yield stack.enter_context(ArchiveReader(partial))
            return
        more = stack.enter_context(ArchiveFile(export.unfinished))
        before = stack.enter_context(ArchiveFile(export.output))
        at = read_update(more).at
        yield stack.enter_context(ArchiveReader(export.unfinished, file=Joined(Prefix(before, at), at, more)))


def _is_sealed(job: ExportJob, index: Index) -> bool:
    if job.appender.file.size <= job.appender.end:
        return False  # nothing is behind the chunks; looking for a directory would read the file from end to start
    try:
        with unfinished(job.export) as reader:
            reader.check_headers()
            recover = reader.directory.entries.get(RECOVER_NAME)
            if recover is None:
                return False
            check_payload(*read_member(reader.file, recover.offset, RECOVER_NAME))
            return not reader.cut_off and replace(reader.index, finished="") == replace(index, finished="")
    except VdiskError:
        return False


def _seal(job: ExportJob, index: Index) -> None:
    session = job.session_for_sealing() if job.vault is not None else 0
    job.appender.cut(job.appender.end)
    start = job.appender.end
    plain = index_text(index)
    stored = compress_index(plain)
    if job.vault is not None:
        job.write(*job.vault.seal(session, index_piece(plain), stored, index.generation))
    else:
        job.write(*document(index_name(index.generation), plain, payload=stored))
    members = _members(job, index)
    if RECOVER_NAME not in members:
        recover = (resources.files(__package__) / _RECOVER).read_bytes()
        job.write(*document(RECOVER_NAME, recover))
        members[RECOVER_NAME] = job.entries[RECOVER_NAME]
    listed = sorted(members.items(), key=lambda member: member[1].offset)
    job.appender.append_bytes(directory_bytes(listed, job.base + job.appender.end))
    job.sealed(start)


def _members(job: ExportJob, index: Index) -> dict[str, Entry]:
    """What the directory lists: everything that the generations which are kept need."""
    members: dict[str, Entry] = {}
    former: dict[str, Entry] = {}
    if job.former is not None:
        reader = job.former.reader
        former = reader.directory.entries
        keep = job.export.keep - 1
        members = reader.alive(reader.generations[-keep:] if keep > 0 else [])
    for name, entry in job.entries.items():
        if not name.startswith(("chunks/", "sealed/")):
            members[name] = entry
    for name, _ in index.members():
        members[name] = job.entries.get(name) or former[name]
    return members


def _facts(reader: ArchiveReader, job: ExportJob | None) -> Json:
    """What an export returns. All sizes are bytes; written and reused ones are bytes of the archive file."""
    written = 0 if job is None else job.appender.written
    added = reader.size - (0 if job is None else job.base)
    return {
        "archive_uuid": reader.header.archive_uuid,
        "generation": reader.index.generation,
        "root": reader.index.root.hex(),
        "archive_bytes": reader.size,
        "disk_bytes": reader.index.disk.size,
        "data_bytes": reader.index.data_bytes,
        "added_bytes": added,
        "written_bytes": written,
        "reused_bytes": added - written if job is not None else 0,
    }
