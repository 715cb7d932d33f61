"""An export under way: the state that the steps of one export share."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from portunix_vdisk.platform.errors import Failed, Refused, VdiskError
from portunix_vdisk.steps.archive.beginning import first_documents
from portunix_vdisk.steps.archive.digest import crc32
from portunix_vdisk.steps.archive.directory import Entry
from portunix_vdisk.steps.archive.documents import (
    Session,
    session_text,
    update_text,
)
from portunix_vdisk.steps.archive.index import Base, Chunk, Index, Previous, root_of_chunks
from portunix_vdisk.steps.archive.known_blocks import KnownBlocks
from portunix_vdisk.steps.archive.layout import (
    MAX_CHUNKS,
    MAX_DISK_SIZE,
    MAX_NUMBER,
    Kind,
    chunk_length,
    chunk_name,
    next_name,
    range_of,
    session_name,
)
from portunix_vdisk.steps.archive.pace import next_level
from portunix_vdisk.steps.archive.packing import LEVEL, Packed, Packer, covered_chunks
from portunix_vdisk.steps.archive.partial import Content, chain
from portunix_vdisk.steps.archive.pipeline import Pipeline
from portunix_vdisk.steps.archive.plan import Export
from portunix_vdisk.steps.archive.record import Record, document
from portunix_vdisk.steps.archive.sealing import Piece
from portunix_vdisk.steps.archive.target import open_delta_base, open_target
from portunix_vdisk.steps.archive.writer import Appender
from portunix_vdisk.steps.step import Context, Json


@dataclass(frozen=True, slots=True)
class _Held:
    """Where the content of some digest is."""

    member: str
    stored: int
    base: Base | None = None


class ExportJob:
    """One export in this process: the file that is written, what of it holds for the source as it is now, the threads.

    Everything is derived from the files when they are opened; nothing else is remembered. A chunk counts as done if a
    session with the source's present identity stored or confirmed it. What former states of the source left behind
    serves as content known by digest.
    """

    def __init__(self, export: Export, ctx: Context) -> None:
        self.export = export
        self.source = export.open_source(ctx)
        self._pipeline: Pipeline[int, Packed] | None = None
        try:
            self.covered = covered_chunks(self.source.extents)
            if self.source.size > MAX_DISK_SIZE or len(self.covered) > MAX_CHUNKS:
                raise Refused(f"{export.image} holds more data than an archive can")
            self.total = sum(end - start for start, end in self.source.extents)
            target = open_target(export.output, export.disk.uuid, export.volume_size, ctx.safe_point)
        except BaseException:
            self.source.close()
            raise
        self.base, self.former, self.vault = target.base, target.former, target.vault
        self.appender = Appender(target.file, 0, export.elsewhere)
        self.held: dict[bytes, _Held] = {}
        """Content by digest."""
        self.current: dict[int, Piece] = {}
        """Chunks by disk offset that hold for the source as it is now."""
        self.entries: dict[str, Entry] = {}
        """Members that were written, as the directory will list them."""
        self.sessions: dict[int, tuple[int, Session]] = {}
        """Offset of its header in the written file, and the session."""
        self.chains: dict[int, bytes] = {}
        self._last_session = 0
        self._session = 0
        self._begun = False
        self.delta = None
        if export.base is not None and self.former is None:
            self.delta = open_delta_base(export.base, export.disk.uuid)
            self.held.update((chunk.digest, _Held("", 0)) for chunk in self.delta.reader.index.chunks)
        if self.former is not None:
            for chunk in self.former.reader.index.chunks:
                self.held[chunk.digest] = _Held(chunk.member, chunk.stored, chunk.base)
            self._last_session = max((one.number for one in self.former.reader.sessions()), default=0)
        if target.content is not None:
            self._adopt(target.content)
        level = LEVEL if export.level is None else export.level
        # Of what is encrypted nothing is left on this machine that tells whoever guesses what is in it.
        sealed = self.vault is not None or export.encrypted
        self._blocks = KnownBlocks(export.blocks) if export.blocks is not None and not sealed else None
        self.packer = Packer(self.source, self.held, self.former or self.delta, level, self._blocks)
        self.done = sum(self.packer.data_bytes(offset) for offset in self.covered if offset in self.current)

    @property
    def generation(self) -> int:
        """Number of the generation that is written."""
        return 1 if self.former is None else self.former.generation

    def _adopt(self, content: Content) -> None:
        self._begun, self.chains, self.appender.end = True, content.chains, content.end
        self._note(0, content.first)
        for place, record in content.keys:
            self._note(place, record)
        for place, record, session in content.sessions.values():
            self._note(place, record)
            self.sessions[session.number] = (place, session)
        numbers = [*content.sessions, *(record.session for _, record, _ in content.chunks)]
        self._last_session = max([self._last_session, *numbers])
        for place, record, piece in content.chunks:
            former = self.former or self.delta
            base = former.base_for(piece.offset) if former and piece.kind is Kind.PATCH else None
            if piece.kind not in (Kind.SAME, Kind.ZERO):
                self.held.setdefault(piece.digest, _Held(record.name, record.stored, base))
                self._note(place, record)
            source = self.sessions[record.session][1].source if record.session in self.sessions else None
            known = piece.kind is Kind.ZERO or piece.digest in self.held
            length = chunk_length(piece.offset, self.export.disk.size)
            if source == self.source.identity and known and piece.length == length:
                self.current[piece.offset] = piece

    def is_current(self) -> bool:
        """Whether source and written file are still those that were opened."""
        try:
            self.source.check()
        except VdiskError:
            return False
        return self.appender.file.is_still_there()

    def check_medium(self) -> None:
        """Raises ``Failed`` if another filesystem is now where the output is written: the stick was taken away."""
        if not self.appender.file.is_medium_there():
            raise Failed(
                f"the medium that was at {self.export.output.parent} was taken away while it was written",
                state="what was written to it is kept there",
                hint="mount it there again, then run the same command to continue",
            )

    def close(self) -> None:
        """Stop the threads and release the files; what was written stays. An empty file is no use and goes."""
        if self._pipeline is not None:
            self._pipeline.close()
        if not self._begun and self.appender.file.is_still_there():
            with suppress(OSError):
                self.appender.file.files[0].unlink()
        self.appender.close()
        if self._blocks is not None:
            self._blocks.close()
        for state in (self.former, self.delta):
            if state is not None:
                state.reader.close()
        self.source.close()

    def pack(self, index: int, count: int, ctx: Context) -> Json:
        """Pack what is missing of one range; where the file ends then, and the digest over all headers up to there."""
        start, end = range_of(index, count, self.export.disk.size)
        for offset in self._missing(start, end):
            if self._pipeline is None or self._pipeline.head != offset:
                self._restart(offset)
            assert self._pipeline is not None
            self._store(self._pipeline.take(ctx.safe_point))
            busy = self.appender.keep_up(ctx.safe_point)
            if busy is not None and self.export.level is None:
                self.packer.level = next_level(self.packer.level, busy)
            self.done += self.packer.data_bytes(offset)
            ctx.update(self.done, self.total)
        ctx.safe_point()
        self.source.check()
        if not self._begun:
            self._begin()
        return {"end": self.appender.end, "last": self.chains[self.appender.end].hex()}

    def index(self) -> Index:
        """The index of the whole disk, when everything is packed."""
        chunks = []
        for offset in self.covered:
            piece = self.current[offset]
            if piece.kind is not Kind.ZERO:
                held = self.held[piece.digest]
                chunks.append(Chunk(offset, piece.length, piece.digest, held.member, held.stored, held.base))
        disk = self.export.disk
        previous = None
        if self.former is not None:
            before = self.former.reader.index
            previous = Previous(before.generation, before.root.hex())
        now = datetime.now(UTC).isoformat(timespec="seconds")
        root = root_of_chunks(disk, chunks)
        return Index(self.generation, previous, now, disk, self.source.identity.lasting, tuple(chunks), root)

    def session_for_sealing(self) -> int:
        """A session of this process, since only those can encrypt."""
        self._begin()
        return self._session

    def sealed(self, start: int) -> None:
        """Index and directory were written from ``start`` on: they are cut off again if anything is to be added."""
        self.appender.end = start
        self.entries = {name: one for name, one in self.entries.items() if one.offset < self.base + start}
        self._session = 0

    def write(self, record: Record, payload: bytes) -> None:
        """Append a member."""
        former = self.chains.get(self.appender.end, b"")
        place = self.appender.append(record, payload)
        self.chains[self.appender.end] = chain(former, record.header())
        self._note(place, record)

    def _note(self, place: int, record: Record) -> None:
        if record.name != next_name(self.generation):
            self.entries[record.name] = Entry(self.base + place, record.stored, record.crc)

    def _missing(self, start: int, end: int) -> Iterator[int]:
        inside = range(bisect_left(self.covered, start), bisect_left(self.covered, end))
        return (self.covered[number] for number in inside if self.covered[number] not in self.current)

    def _ahead(self, start: int) -> Iterator[int]:
        for offset in self._missing(start, self.export.disk.size):
            self.packer.announce(offset)
            yield offset

    def _restart(self, offset: int) -> None:
        if self._pipeline is not None:
            self._pipeline.close()
        self._begin()
        self._pipeline = Pipeline(self.packer.pack, self._ahead(offset))

    def _begin(self) -> None:
        """Before the first new record: cut off what is torn or was sealed, name this session and its source."""
        if self._session:
            return
        self.appender.cut(self.appender.end)
        if not self._begun:
            self._write_first()
        number = self._last_session + 1
        if number > MAX_NUMBER:
            raise Refused(f"{self.export.output} was started too often", hint="export to another file")
        session = Session(number, self.generation, datetime.now(UTC).isoformat(), self.source.identity)
        written = session if self.vault is None else self.vault.begin(session)
        self.sessions[number] = (self.appender.end, session)
        self.write(*document(session_name(number), session_text(written), number))
        self._session = self._last_session = number

    def _write_first(self) -> None:
        """The documents that begin a new archive or an update, durably."""
        if self.former is not None:
            self.write(*document(next_name(self.generation), update_text(self.former.update())))
        else:
            base = self.delta.document() if self.delta else None
            documents, self.vault = first_documents(self.export, base)
            for record, payload in documents:
                self.write(record, payload)
        self._begun = True
        self.appender.sync()

    def _store(self, packed: Packed) -> None:
        piece, payload, base = packed.piece, packed.payload, packed.base
        if payload and piece.digest in self.held:
            piece, payload = Piece(Kind.SAME, piece.offset, piece.length, piece.digest), b""
        record, payload = self._record(piece, payload)
        self.write(record, payload)
        if piece.kind in (Kind.SAME, Kind.ZERO):
            del self.entries[record.name]
        else:
            self.held[piece.digest] = _Held(record.name, record.stored, base)
        self.current[piece.offset] = piece

    def _record(self, piece: Piece, payload: bytes) -> tuple[Record, bytes]:
        if self.vault is not None:
            return self.vault.seal(self._session, piece, payload)
        name = chunk_name(piece.kind, self.generation, piece.offset)
        if name in self.entries:
            name = chunk_name(piece.kind, self.generation, piece.offset, self._session)
        crc, kind = crc32(payload), piece.kind
        record = Record(name, kind, self._session, piece.offset, piece.length, piece.digest, len(payload), crc)
        return record, payload


_jobs: dict[Path, ExportJob] = {}


def open_export(export: Export, ctx: Context) -> ExportJob:
    """The export under way to this output in this process, opened (again) if there is none or its files changed."""
    job = _jobs.get(export.output)
    if job is not None and (job.export != export or not job.is_current()):
        job.check_medium()
        close_export(export.output)
        job = None
    if job is None:
        job = _jobs[export.output] = ExportJob(export, ctx)
    return job


def job_of(output: Path) -> ExportJob | None:
    """The export under way in this process, if there is one."""
    return _jobs.get(output)


def close_export(output: Path) -> None:
    """Release the files of an export; what was written stays."""
    if (job := _jobs.pop(output, None)) is not None:
        job.close()


def close_exports() -> None:
    """Release all exports of this process."""
    for output in list(_jobs):
        close_export(output)
