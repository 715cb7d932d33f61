"""From a place on the disk to the payload of a member: the work that threads do in an export."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import zstandard

from portunix_vdisk.platform.errors import Corrupt
from portunix_vdisk.steps.archive.digest import digest_of
from portunix_vdisk.steps.archive.index import Base
from portunix_vdisk.steps.archive.known_blocks import KnownBlocks
from portunix_vdisk.steps.archive.layout import CHUNK_SIZE, Kind, chunk_length
from portunix_vdisk.steps.archive.patch import BLOCK, changed_blocks, make_patch
from portunix_vdisk.steps.archive.sealing import Piece
from portunix_vdisk.steps.source import Source

LEVEL: Final = 3
STORE: Final = 0
"""The level that compresses nothing."""
_ZEROS: Final = bytes(CHUNK_SIZE)


@dataclass(frozen=True, slots=True)
class Packed:
    """One chunk, ready to be written. Kind SAME: the digest was known, there is no payload."""

    piece: Piece
    payload: bytes
    base: Base | None = None


class Former(Protocol):
    """Former states of chunks, to make patches against."""

    def base_for(self, offset: int) -> Base | None:
        """The whole chunk that the archive has for this place."""

    def base_at(self, offset: int) -> tuple[Base, bytes] | None:
        """The same, and its content. Raises ``Corrupt``."""


def covered_chunks(extents: Iterable[tuple[int, int]]) -> list[int]:
    """Offsets of all chunks that have data, ascending, from start and end of each run of data."""
    offsets: list[int] = []
    for start, end in extents:
        first = start // CHUNK_SIZE
        if offsets and offsets[-1] // CHUNK_SIZE == first:
            first += 1
        offsets.extend(chunk * CHUNK_SIZE for chunk in range(first, -(-end // CHUNK_SIZE)))
    return offsets


class _Local(threading.local):
    """What each thread keeps: allocating and faulting in 4 MiB for every chunk would cost a tenth of the time."""

    def __init__(self) -> None:
        self.buffer = bytearray(CHUNK_SIZE)
        self.compressors: dict[int, zstandard.ZstdCompressor] = {}

    def compressor(self, level: int) -> zstandard.ZstdCompressor:
        if level not in self.compressors:
            made = zstandard.ZstdCompressor(level=level, write_checksum=True, write_content_size=True)
            self.compressors = {level: made}
        return self.compressors[level]


class Packer:
    """Reads, hashes and compresses chunks of a source; usable from several threads.

    Args:
        source: what is read.
        known: digests whose content is in the archive already; it may grow while threads look into it.
        former: what patches are made against; None for none.
        level: zstd's level, or :data:`STORE`; it may be changed at any time.
        blocks: what is remembered of the blocks of former states; None to unpack these instead.
    """

    def __init__(
        self,
        source: Source,
        known: Container[bytes],
        former: Former | None = None,
        level: int = LEVEL,
        blocks: KnownBlocks | None = None,
    ) -> None:
        self._source = source
        self._ends = [end for _, end in source.extents]
        self._known = known
        self._former = former
        self._blocks = blocks
        self.level = level
        self._local = _Local()

    def pack(self, offset: int) -> Packed:
        """The chunk at ``offset``. Raises ``Failed`` when it can't be read."""
        length = chunk_length(offset, self._source.size)
        buffer = self._local.buffer
        if length != CHUNK_SIZE:
            buffer = bytearray(length)
        self._source.read_into(offset, buffer)
        if buffer == _ZEROS[:length]:
            return Packed(Piece(Kind.ZERO, offset, length, bytes(32)), b"")
        digest = digest_of(buffer)
        if digest in self._known:
            return Packed(Piece(Kind.SAME, offset, length, digest), b"")
        return self._patched(offset, buffer, digest) or self._whole(offset, buffer, digest)

    def data_bytes(self, offset: int) -> int:
        """How many bytes of the chunk at ``offset`` are data and not hole."""
        end, found = offset + chunk_length(offset, self._source.size), 0
        for number in range(bisect_right(self._ends, offset), len(self._ends)):
            first, last = self._source.extents[number]
            if first >= end:
                break
            found += min(last, end) - max(first, offset)
        return found

    def announce(self, offset: int) -> None:
        """Let the system read the chunk at ``offset`` into its cache meanwhile."""
        self._source.announce(offset, chunk_length(offset, self._source.size))

    def _whole(self, offset: int, buffer: bytearray, digest: bytes) -> Packed:
        length = len(buffer)
        if self._blocks is not None:
            self._blocks.note(offset, digest, buffer)
        if self.level != STORE:
            payload = self._local.compressor(self.level).compress(buffer)
            if len(payload) < length - length // 32:
                return Packed(Piece(Kind.ZSTD, offset, length, digest), payload)
        return Packed(Piece(Kind.RAW, offset, length, digest), bytes(buffer))

    def _patched(self, offset: int, buffer: bytearray, digest: bytes) -> Packed | None:
        """The chunk as a patch, where a former state is at hand of which at least half is still the same."""
        former = self._former
        base = former.base_for(offset) if former is not None else None
        if former is None or base is None:
            return None
        known = self._blocks.changed(offset, base.digest, buffer) if self._blocks is not None else None
        changed = self._compared(former, offset, buffer) if known is None else known
        if changed is None or len(changed) * BLOCK > len(buffer) // 2:
            return None
        payload = self._local.compressor(max(self.level, LEVEL)).compress(make_patch(base.digest, buffer, changed))
        return Packed(Piece(Kind.PATCH, offset, len(buffer), digest), payload, base)

    def _compared(self, former: Former, offset: int, buffer: bytearray) -> Sequence[int] | None:
        """The blocks in which a chunk differs from its former state, by unpacking that."""
        try:
            found = former.base_at(offset)
        except Corrupt:
            return None  # what can't be read is no base; the whole chunk is stored, and verifying names the damage
        if found is None or len(found[1]) != len(buffer):
            return None
        base, content = found
        if self._blocks is not None:
            self._blocks.note(offset, base.digest, content)
        return changed_blocks(content, buffer)
