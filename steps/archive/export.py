"""An export under way: the state that the steps of one export share."""

from __future__ import annotations

import os
import uuid
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from portunix_vdisk.platform.base import FileIdentity
from portunix_vdisk.platform.errors import Corrupt, Failed, NotFound, Refused
from portunix_vdisk.steps.archive.documents import (
    DiskFacts,
    Header,
    Session,
    header_text,
    session_text,
)
from portunix_vdisk.steps.archive.index import Chunk, Index, root_of_chunks
from portunix_vdisk.steps.archive.layout import (
    GENERATION,
    HEADER_NAME,
    MAX_CHUNKS,
    MAX_DISK_SIZE,
    Kind,
    Record,
    chunk_length,
    chunk_name,
    document,
    range_of,
    session_name,
)
from portunix_vdisk.steps.archive.packing import Packed, Packer, covered_chunks
from portunix_vdisk.steps.archive.partial import Content, chain, open_partial
from portunix_vdisk.steps.archive.pipeline import Pipeline
from portunix_vdisk.steps.archive.writer import Appender
from portunix_vdisk.steps.durable import identity_of, partial_of
from portunix_vdisk.steps.step import Context, Json


@dataclass(frozen=True, slots=True)
class Export:
    """What is exported to where."""

    image: Path
    output: Path
    disk: DiskFacts

    @property
    def partial(self) -> Path:
        """The file that is written until the archive is whole."""
        return partial_of(self.output)


class ExportJob:
    """One export in this process: the partial archive, what of it holds for the source as it is now, the threads.

    Everything is derived from the partial file and the image when it is opened; nothing else is remembered.
    A chunk counts as done if a session with the source's present identity stored or confirmed it. What former
    states of the source left behind serves as content known by digest.
    """

    def __init__(self, export: Export, ctx: Context) -> None:
        self.export = export
        self.source = _identity(export.image)
        image = ctx.platform.map_image(export.image, export.disk.type)
        if image.size != export.disk.size:
            raise Corrupt(f"{export.image} is {image.size} bytes large, but should be {export.disk.size}")
        self.covered = covered_chunks(image)
        if image.size > MAX_DISK_SIZE or len(self.covered) > MAX_CHUNKS:
            raise Refused(f"{export.image} holds more data than an archive can")
        self.total = sum(extent.length for extent in image.extents)
        self.members: dict[bytes, tuple[int, Record]] = {}
        """Payloads by digest, with the offset of their header."""
        self.current: dict[int, Record] = {}
        """Chunks by disk offset that hold for the source as it is now."""
        self.sessions: dict[int, tuple[int, Record, Session]] = {}
        self.chains: dict[int, bytes] = {}
        self._names: set[str] = set()
        self._last_session = 0
        self._session = 0
        self.header: Header | None = None
        self.first: Record | None = None
        descriptor, content = open_partial(export.partial, export.disk.uuid, ctx.safe_point)
        self.appender = Appender(export.partial, descriptor, 0)
        self._pipeline: Pipeline[int, Packed] | None = None
        self._image = -1
        try:
            self._image = os.open(export.image, os.O_RDONLY | os.O_CLOEXEC)
            if content is not None:
                self._adopt(content)
        except OSError as error:
            self.close()
            raise Failed(f"cannot open {export.image}: {error.strerror}") from error
        self.resumed_at = self.appender.end
        self._packer = Packer(export.image, self._image, image, self.members)
        self.done = sum(self._packer.data_bytes(offset) for offset in self.covered if offset in self.current)

    def _adopt(self, content: Content) -> None:
        self.header, self.sessions, self.chains = content.header, content.sessions, content.chains
        self.first = content.first
        self.appender.end = content.end
        self._last_session = max([*content.sessions, *(record.session for _, record in content.chunks)], default=0)
        for offset, record in content.chunks:
            if record.stored:
                self.members.setdefault(record.digest, (offset, record))
                self._names.add(record.name)
            _, _, session = content.sessions.get(record.session, (0, None, None))
            known = record.kind is Kind.ZERO or record.digest in self.members
            length = chunk_length(record.offset, self.export.disk.size)
            if session is not None and session.source == self.source and known and record.length == length:
                self.current[record.offset] = record

    def is_current(self) -> bool:
        """Whether image and partial are still those that were opened."""
        try:
            return self._has_its_name() and self.source == identity_of(self.export.image)
        except OSError:
            return False

    def _has_its_name(self) -> bool:
        held, there = os.fstat(self.appender.descriptor), self.export.partial.stat()
        return (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino)

    def close(self) -> None:
        """Stop the threads and release the files; what was written stays. An empty partial is no use and goes."""
        if self._pipeline is not None:
            self._pipeline.close()
        if self.header is None:
            with suppress(OSError):
                if self._has_its_name():
                    self.export.partial.unlink()
        self.appender.close()
        if self._image >= 0:
            os.close(self._image)

    def check_source(self) -> None:
        """Raises ``Failed`` if the image was changed while it was read."""
        if _identity(self.export.image) != self.source:
            raise Failed(
                f"{self.export.image} was changed while it was exported",
                state="what was written so far is kept",
                hint="run the same command again; only what changed is packed again",
            )

    def pack(self, index: int, count: int, ctx: Context) -> Json:
        """Pack what is missing of one range; where the file ends then, and the digest over all headers up to there."""
        start, end = range_of(index, count, self.export.disk.size)
        for offset in self._missing(start, end):
            if self._pipeline is None or self._pipeline.head != offset:
                self._restart(offset)
            assert self._pipeline is not None
            self._store(self._pipeline.take(ctx.safe_point))
            self.done += self._packer.data_bytes(offset)
            ctx.update(self.done, self.total)
        ctx.safe_point()
        self.check_source()
        if self.header is None:
            self._begin()
        return {"end": self.appender.end, "last": self.chains[self.appender.end].hex()}

    def index(self) -> Index:
        """The index of the whole disk, when everything is packed."""
        chunks = []
        for offset in self.covered:
            record = self.current[offset]
            if record.kind is not Kind.ZERO:
                holder = self.members[record.digest][1]
                chunks.append(Chunk(offset, record.length, record.digest, holder.name, holder.stored))
        disk = self.export.disk
        return Index(GENERATION, disk, self.source, tuple(chunks), root_of_chunks(disk, chunks))

    def sealed(self, start: int) -> None:
        """Index and directory were written from ``start`` on: they are cut off again if anything is to be added."""
        self.appender.end = start
        self._session = 0

    def _missing(self, start: int, end: int) -> Iterator[int]:
        inside = range(bisect_left(self.covered, start), bisect_left(self.covered, end))
        return (self.covered[number] for number in inside if self.covered[number] not in self.current)

    def _ahead(self, start: int) -> Iterator[int]:
        for offset in self._missing(start, self.export.disk.size):
            self._packer.announce(offset)
            yield offset

    def _restart(self, offset: int) -> None:
        if self._pipeline is not None:
            self._pipeline.close()
        self._begin()
        self._pipeline = Pipeline(self._packer.pack, self._ahead(offset))

    def _begin(self) -> None:
        """Before the first new record: cut off what is torn or was sealed, name this session and its source."""
        if self._session:
            return
        self.appender.cut(self.appender.end)
        if self.header is None:
            self.header = Header(str(uuid.uuid4()), self.export.disk.uuid)
            self.first, payload = document(HEADER_NAME, header_text(self.header), 0)
            self._append(self.first, payload)
            self.appender.sync()
        number = self._last_session + 1
        if number > 0xFFFF:
            raise Refused(f"{self.export.partial} was started too often", hint="delete it and export again")
        session = Session(number, GENERATION, datetime.now(UTC).isoformat(), self.source)
        record, payload = document(session_name(number), session_text(session), number)
        self.sessions[number] = (self._append(record, payload), record, session)
        self._session = self._last_session = number

    def _store(self, packed: Packed) -> None:
        kind, payload, crc = packed.kind, packed.payload, packed.crc
        if payload and packed.digest in self.members:
            kind, payload, crc = Kind.SAME, b"", 0
        name = chunk_name(kind, packed.offset)
        if name in self._names:
            name = chunk_name(kind, packed.offset, self._session)
        record = Record(name, kind, self._session, packed.offset, packed.length, packed.digest, len(payload), crc)
        place = self._append(record, payload)
        if payload:
            self.members[packed.digest] = (place, record)
            self._names.add(name)
        self.current[packed.offset] = record

    def _append(self, record: Record, payload: bytes) -> int:
        former = self.chains.get(self.appender.end, b"")
        place = self.appender.append(record, payload)
        self.chains[self.appender.end] = chain(former, record.header())
        return place


_jobs: dict[Path, ExportJob] = {}


def open_export(export: Export, ctx: Context) -> ExportJob:
    """The export under way to this output in this process, opened (again) if there is none or its files changed."""
    job = _jobs.get(export.output)
    if job is not None and (job.export != export or not job.is_current()):
        close_export(export.output)
        job = None
    if job is None:
        job = _jobs[export.output] = ExportJob(export, ctx)
    return job


def job_of(output: Path) -> ExportJob | None:
    """The export under way to this output in this process, if there is one."""
    return _jobs.get(output)


def close_export(output: Path) -> None:
    """Release the files of an export; what was written stays."""
    if (job := _jobs.pop(output, None)) is not None:
        job.close()


def close_exports() -> None:
    """Release all exports of this process."""
    for output in list(_jobs):
        close_export(output)


def _identity(image: Path) -> FileIdentity:
    try:
        return identity_of(image)
    except FileNotFoundError:
        raise NotFound(f"{image}: no such file") from None
    except OSError as error:
        raise Failed(f"cannot read {image}: {error.strerror}") from error
