"""Making a damaged member again, with exactly the bytes that it had."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import zstandard

from portunix_vdisk.platform.errors import Corrupt
from portunix_vdisk.steps.archive.damage import Need, problem_of
from portunix_vdisk.steps.archive.digest import crc32, digest_of
from portunix_vdisk.steps.archive.donors import Donors
from portunix_vdisk.steps.archive.index import Chunk
from portunix_vdisk.steps.archive.layout import MEMBER, SEALED_EXTRA, Kind, kind_of
from portunix_vdisk.steps.archive.members import decompress, numbered
from portunix_vdisk.steps.archive.mending import Overlay
from portunix_vdisk.steps.archive.packing import LEVEL
from portunix_vdisk.steps.archive.patch import apply_patch, base_digest, changed_blocks, longest_patch, make_patch
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.record import Record, header_length
from portunix_vdisk.steps.archive.sealing import Piece

_LEVELS: Final = (LEVEL, *(level for level in range(1, 20) if level != LEVEL))
_PATIENCE: Final = 4
"""Chunks for which every level is tried in vain: then another version of zstd wrote the archive, and none will fit."""


class Remaker:
    """Makes members of one archive again. What it made is put over the archive, and read from there.

    Args:
        reader: of the archive as ``overlay`` shows it.
        overlay: gets what was made.
        donors: where content is found.
    """

    def __init__(self, reader: ArchiveReader, overlay: Overlay, donors: Donors) -> None:
        self._reader = reader
        self._overlay = overlay
        self._donors = donors
        entries = reader.directory.entries
        self._sessions = [(entries[name].offset, number) for number, name in numbered(entries, "session")]
        self._levels = list(_LEVELS)
        self._in_vain = 0

    def again(self, need: Need) -> bool:
        """Put a damaged member over the archive as it was; whether that could be done."""
        for made in self._candidates(need):
            self._overlay.put(need.entry.offset, made)
            if not problem_of(self._reader, need):
                return True
            self._overlay.drop(need.entry.offset)
        return False

    def content(self, need: Need) -> bytes | None:
        """The chunk that a damaged member should give, from a donor."""
        return self._donors.chunk(need.digest, need.offsets, need.length)

    def comes_back(self, need: Need) -> bool:
        """Whether only the chunk that a patch is against is damaged, and a donor has it."""
        entry, base = need.entry, need.base
        if base is None:
            return False
        record = self.record(need)
        head = record.header()
        there = self._overlay.read(entry.offset, len(head) + entry.stored)
        payload = there[len(head) :]
        if there[: len(head)] != head or crc32(payload) != entry.crc:
            return False
        former = self._donors.chunk(base.digest, need.offsets, need.length)
        if former is None:
            return False
        try:
            # Its checksum alone proves nothing: it may have been made of a wrong patch.
            if self._reader.vault is not None:
                payload = self._reader.vault.open(record, payload)[1]
            patch = decompress(payload, longest_patch(need.length), f"member {need.name}", exactly=False)
            return base_digest(patch) == base.digest and digest_of(apply_patch(former, patch)) == need.digest
        except Corrupt:
            return False

    def record(self, need: Need) -> Record:
        """The header that a member had: all in it is known from its name, its place and the index.

        A session is named before the first member that it writes, so a member belongs to the one named last.
        """
        match, kind, entry = MEMBER.fullmatch(need.name), kind_of(need.name), need.entry
        assert match is not None
        if kind is Kind.SEALED:
            session, number = int(match["sealer"]), int(match["number"], 16)
            return Record(need.name, kind, session, number, 0, bytes(32), entry.stored, entry.crc)
        session = max((item for item in self._sessions if item[0] < entry.offset), default=(0, 0))[1]
        offset = int(match["offset"], 16)
        return Record(need.name, kind, session, offset, need.length, need.digest, entry.stored, entry.crc)

    def _candidates(self, need: Need) -> Iterator[bytes]:
        record = self.record(need)
        head = header_length(need.name)
        there = self._overlay.read(need.entry.offset + head, need.entry.stored)
        if crc32(there) == need.entry.crc:
            yield record.header() + there  # only the header is damaged
        yield from self._donors.member(need.name, need.entry)
        plain = self.content(need)
        if plain is None:
            return
        for payload in self._payloads(need, plain):
            if record.kind is not Kind.SEALED:
                if (len(payload), crc32(payload)) == (need.entry.stored, need.entry.crc):
                    yield record.header() + payload
            elif (sealed := self._sealed(need, record, payload, there)) is not None:
                yield record.header() + sealed

    def _payloads(self, need: Need, plain: bytes) -> Iterator[bytes]:
        """What the member may have held before it was sealed, or as it is; only of the right length."""
        stored = need.entry.stored - (SEALED_EXTRA if kind_of(need.name) is Kind.SEALED else 0)
        if need.base is None and stored == need.length:
            yield plain
            return
        content: bytes | None = plain if need.base is None else self._patch(need, plain)
        if content is None:
            return
        fits = False
        for level in tuple(self._levels) if self._in_vain < _PATIENCE else self._levels[:1]:
            compressor = zstandard.ZstdCompressor(level=level, write_checksum=True, write_content_size=True)
            payload = compressor.compress(content)
            if len(payload) == stored:
                fits = True
                # Most chunks of an archive have the same level: the next one is tried with this one first.
                self._levels.remove(level)
                self._levels.insert(0, level)
                yield payload
        self._in_vain += not fits

    def _patch(self, need: Need, plain: bytes) -> bytes | None:
        base = need.base
        assert base is not None
        former = None
        try:
            held = Chunk(need.offsets[0], need.length, base.digest, base.member, base.stored)
            former = self._reader.plain(held)
        except Corrupt:
            former = self._donors.chunk(base.digest, need.offsets, need.length)
        return None if former is None else make_patch(base.digest, plain, changed_blocks(former, plain))

    def _sealed(self, need: Need, record: Record, payload: bytes, there: bytes) -> bytes | None:
        vault = self._reader.vault
        if vault is None:
            return None
        if need.base is not None:
            kind = Kind.PATCH
        else:
            kind = Kind.RAW if len(payload) == need.length else Kind.ZSTD
        # It says for which place it was written, which may be any of those that hold this content.
        for offset in need.offsets:
            sealed = vault.seal_again(record, Piece(kind, offset, need.length, need.digest), payload, there)
            if sealed is not None:
                return sealed
        return None
