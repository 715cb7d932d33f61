"""Giving an archive other members in place of damaged ones that could not be made again byte for byte.

It is done like an update: prepared in ``NAME.next``, then appended, so that the archive can be read at every moment.
No generation is added; those that need the members get their index anew, with the same root.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import zstandard

from portunix_vdisk.platform.errors import Corrupt, Failed, Refused
from portunix_vdisk.steps.archive.commit import append_update, next_of
from portunix_vdisk.steps.archive.damage import Need
from portunix_vdisk.steps.archive.digest import crc32
from portunix_vdisk.steps.archive.directory import Entry, directory_bytes, directory_digest
from portunix_vdisk.steps.archive.documents import Session, Update, session_text, update_text
from portunix_vdisk.steps.archive.index import Base, Chunk, Index, compress_index, index_text
from portunix_vdisk.steps.archive.layout import (
    MAX_NUMBER,
    MEMBER,
    Kind,
    chunk_name,
    index_name,
    next_name,
    session_name,
)
from portunix_vdisk.steps.archive.members import numbered
from portunix_vdisk.steps.archive.packing import LEVEL
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.record import Record, document
from portunix_vdisk.steps.archive.sealing import Piece, index_piece
from portunix_vdisk.steps.archive.storage import ArchiveFile, Joined, exists
from portunix_vdisk.steps.step import Context

_MARGIN: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class _Put:
    """Where the content of a damaged member is now."""

    name: str
    stored: int


class Replacement:
    """An update of an archive that replaces members.

    Args:
        archive: where it is.
        reader: of it, mended as far as that goes in place.
        indexes: of all generations that can be read.
    """

    def __init__(self, archive: Path, reader: ArchiveReader, indexes: Sequence[Index]) -> None:
        self._archive = archive
        self._reader = reader
        self._indexes = indexes
        self._newest = reader.generations[-1]
        self._at = reader.size
        self._end = 0
        self._entries: dict[str, Entry] = {}
        self._put: dict[str, _Put] = {}
        self._session = max((number for number, _ in numbered(reader.directory.entries, "session")), default=0)

    def write(self, needs: Sequence[Need], content: Callable[[Need], bytes | None], ctx: Context) -> set[str]:
        """Prepare and append it; the members that were replaced.

        A chunk whose ``content`` is gone after all is left out. Raises ``Refused`` (an export is unfinished, no room),
        ``Failed``: the archive is as before.
        """
        prepared = next_of(self._archive)
        if exists(prepared):
            raise Refused(
                f"damaged chunks have to be appended to {self._archive}, but an export to it is unfinished",
                state="what could be mended in place is mended",
                hint="finish that export, then run the same command",
            )
        self._check_room(sum(need.length for need in needs), ctx)
        limit = self._reader.header.volume_size
        try:
            with ArchiveFile(prepared, writable=True, create=True, limit=limit) as file:
                try:
                    self._fill(file, needs, content, ctx)
                    file.sync()
                except BaseException:
                    file.truncate(0)
                    raise
            self._prove(ctx)
            append_update(self._archive, ctx.safe_point)
        except OSError as error:
            raise Failed(
                f"cannot append to {self._archive}: {error.strerror}",
                state="the archive holds what it held; what could be mended in place is mended",
                hint="run the same command again once the cause is gone",
            ) from error
        return set(self._put)

    def _check_room(self, chunks: int, ctx: Context) -> None:
        rows = sum(len(index.chunks) for index in self._indexes)
        # Twice: in the update that is prepared, and in the archive. Indexes and directory as they are now, about.
        need = 2 * (chunks + 100 * rows + 150 * len(self._reader.directory.entries)) + _MARGIN
        free = ctx.platform.free_space(self._archive.parent)
        if free < need:
            raise Refused(
                f"up to {need} bytes are needed in {self._archive.parent} to append what could not be mended in place;"
                f" {free} are free",
                state="what could be mended in place is mended",
                hint="free some space, or copy the archive to another medium, then run the same command",
            )

    def _fill(
        self, file: ArchiveFile, needs: Sequence[Need], content: Callable[[Need], bytes | None], ctx: Context
    ) -> None:
        reader = self._reader
        digest = directory_digest(reader.file, reader.directory).hex()
        update = Update(reader.header.archive_uuid, self._newest, self._at, digest)
        self._append(file, *document(next_name(self._newest), update_text(update)))
        self._entries.clear()
        self._begin(file)
        for need in needs:
            ctx.safe_point()
            plain = content(need)
            if plain is not None:
                record, payload = self._packed(file, need, plain)
                self._append(file, record, payload)
                self._put[need.name] = _Put(record.name, record.stored)
        replaced = self._write_indexes(file)
        listed = {
            name: entry
            for name, entry in reader.directory.entries.items()
            if name not in self._put and name not in replaced
        }
        members = sorted({**listed, **self._entries}.items(), key=lambda member: member[1].offset)
        file.write(self._end, (directory_bytes(members, self._at + self._end),))

    def _begin(self, file: ArchiveFile) -> None:
        """Begin a session: what it seals has a key of its own, what it stores names of its own."""
        self._session += 1
        if self._session > MAX_NUMBER:
            raise Refused(f"{self._archive} was written too often", hint="export to another file")
        reader, now = self._reader, datetime.now(UTC).isoformat()
        session = Session(self._session, self._newest, now, reader.index.source)
        written = session if reader.vault is None else reader.vault.begin(session)
        self._append(file, *document(session_name(self._session), session_text(written), self._session))

    def _packed(self, file: ArchiveFile, need: Need, plain: bytes) -> tuple[Record, bytes]:
        compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True, write_content_size=True)
        payload, kind = compressor.compress(plain), Kind.ZSTD
        if len(payload) >= len(plain) - len(plain) // 32:
            payload, kind = plain, Kind.RAW
        vault, offset = self._reader.vault, need.offsets[0]
        if vault is not None:
            return vault.seal(self._session, Piece(kind, offset, need.length, need.digest), payload)
        match = MEMBER.fullmatch(need.name)
        assert match is not None
        generation, offset = int(match["generation"]), int(match["offset"], 16)
        name = chunk_name(kind, generation, offset, self._session)
        if name in self._entries:  # two states of one chunk are replaced
            self._begin(file)
            name = chunk_name(kind, generation, offset, self._session)
        crc = crc32(payload)
        return Record(name, kind, self._session, offset, need.length, need.digest, len(payload), crc), payload

    def _write_indexes(self, file: ArchiveFile) -> set[str]:
        """The indexes of generations with other rows now, anew; names of those that they replace."""
        former = dict(numbered(self._reader.directory.entries, "index"))
        replaced: set[str] = set()
        for index in self._indexes:
            chunks = tuple(moved(chunk, self._put) for chunk in index.chunks)
            if chunks == index.chunks:
                continue
            plain = index_text(replace(index, chunks=chunks))
            stored = compress_index(plain)
            if (vault := self._reader.vault) is not None:
                self._append(file, *vault.seal(self._session, index_piece(plain), stored, index.generation))
            else:
                self._append(file, *document(index_name(index.generation), plain, payload=stored))
            replaced.add(former[index.generation])
        return replaced

    def _append(self, file: ArchiveFile, record: Record, payload: bytes) -> None:
        file.write(self._end, (record.header(), payload))
        self._entries[record.name] = Entry(self._at + self._end, record.stored, record.crc)
        self._end += record.total

    def _prove(self, ctx: Context) -> None:
        """Read what was prepared as it will be read. Raises ``Corrupt``."""
        with ArchiveFile(next_of(self._archive)) as more:
            joined = Joined(self._reader.file, self._at, more)
            with ArchiveReader(self._archive, file=joined) as reader:
                for former in self._indexes:
                    index = reader.read_index(former.generation)
                    if index.root != former.root:
                        raise Corrupt(f"{next_of(self._archive)} came out different", state="the archive is as it was")
                    names = {put.name for put in self._put.values()}
                    for chunk in index.chunks:
                        if chunk.member in names:
                            ctx.safe_point()
                            reader.plain(chunk)


def moved(chunk: Chunk, put: Mapping[str, _Put]) -> Chunk:
    """A row of an index after members were replaced: a patch that was replaced is a whole chunk now."""
    if chunk.member in put:
        there = put[chunk.member]
        return replace(chunk, member=there.name, stored=there.stored, base=None)
    if chunk.base is not None and chunk.base.member in put:
        there = put[chunk.base.member]
        return replace(chunk, base=Base(there.name, there.stored, chunk.base.digest))
    return chunk
