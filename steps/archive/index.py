"""The index: which member holds which chunk of the disk, and the root over all of them.

Every reading function raises ``Corrupt`` for anything but what the format says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import zstandard

from portunix_vdisk.platform.base import FileIdentity
from portunix_vdisk.platform.errors import Corrupt
from portunix_vdisk.steps.archive.documents import (
    DiskFacts,
    field,
    parse_disk,
    parse_identity,
    parse_json,
    parse_object,
)
from portunix_vdisk.steps.archive.layout import (
    CHUNK_SIZE,
    GENERATION,
    MAX_CHUNKS,
    MEMBER,
    VERSION,
    Kind,
    NewerVersion,
    chunk_length,
    stored_sane,
)
from portunix_vdisk.steps.archive.merkle import root_of


@dataclass(frozen=True, slots=True)
class Chunk:
    """One row of the index: which member holds the chunk at ``offset`` of the disk."""

    offset: int
    length: int
    digest: bytes
    member: str
    stored: int

    @property
    def kind(self) -> Kind:
        """How the member holds it."""
        return Kind.RAW if self.member.endswith(".raw") else Kind.ZSTD


@dataclass(frozen=True, slots=True)
class Index:
    """The last document: the whole disk."""

    generation: int
    disk: DiskFacts
    source: FileIdentity
    chunks: tuple[Chunk, ...]
    root: bytes

    @property
    def data_bytes(self) -> int:
        """Plain bytes in chunks that are not all zero."""
        return sum(chunk.length for chunk in self.chunks)


def index_text(index: Index) -> bytes:
    """The index: valid JSON, with each chunk on a line of its own so that it can be read line by line."""
    head = {
        "version": VERSION,
        "generation": index.generation,
        "previous": None,
        "disk": asdict(index.disk),
        "source": asdict(index.source),
        "data_bytes": index.data_bytes,
        "root": index.root.hex(),
    }
    rows = ",\n".join(
        f'[{chunk.offset},{chunk.length},"{chunk.digest.hex()}","{chunk.member}",{chunk.stored}]'
        for chunk in index.chunks
    )
    end = "\n]}\n" if rows else "]}\n"
    return (json.dumps(head)[:-1] + ', "chunks": [\n' + rows + end).encode()


def compress_index(plain: bytes) -> bytes:
    """The index as it is stored."""
    return zstandard.ZstdCompressor(level=9, write_checksum=True, write_content_size=True).compress(plain)


def parse_index(payload: bytes, length: int, digest: bytes) -> Index:
    """Read a stored index and check everything in it that can be checked without the rest of the file.

    ``length`` and ``digest`` are what the member's header says about the plain index.

    It is read line by line, so that a bomb costs a line, not memory.
    """
    pieces = _lines(payload, length, digest)
    head_line = next(pieces, b"")
    if not head_line.endswith(b'"chunks": ['):
        raise Corrupt("the archive's index is damaged: no list of chunks")
    head = parse_object(head_line + b"]}", "the archive's index")
    if field(head, "version", int) != VERSION or field(head, "generation", int) != GENERATION:
        raise NewerVersion("the archive's index has a newer version", hint="update portunix-vdisk")
    disk = parse_disk(field(head, "disk", dict))
    chunks: list[Chunk] = []
    for line in pieces:
        if line == b"]}":
            break
        chunks.append(_chunk(line.removesuffix(b","), disk.size, chunks[-1].offset if chunks else -1))
        if len(chunks) > MAX_CHUNKS:
            raise Corrupt("the archive's index lists more chunks than the format allows")
    else:
        raise Corrupt("the archive's index is cut off")
    if any(pieces):
        raise Corrupt("the archive's index goes on after its end")
    index = Index(
        GENERATION, disk, parse_identity(field(head, "source", dict)), tuple(chunks), root_of_chunks(disk, chunks)
    )
    if field(head, "root", str) != index.root.hex() or field(head, "data_bytes", int) != index.data_bytes:
        raise Corrupt("the archive's index does not agree with its own root")
    return index


def root_of_chunks(disk: DiskFacts, chunks: Sequence[Chunk]) -> bytes:
    """Root of a disk with these chunks."""
    return root_of(disk.size, ((chunk.offset, chunk.length, chunk.digest) for chunk in chunks))


def _lines(payload: bytes, length: int, digest: bytes) -> Iterator[bytes]:
    total, plain, rest = 0, hashlib.sha256(), b""
    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 23).stream_reader(payload) as stream:
            while piece := stream.read(1 << 16):
                total += len(piece)
                plain.update(piece)
                *lines, rest = (rest + piece).split(b"\n")
                if len(rest) > 1 << 16 or total > length:
                    raise Corrupt("the archive's index is damaged: it is longer than its header says")
                yield from lines
    except zstandard.ZstdError as error:
        raise Corrupt(f"the archive's index is damaged: {error}") from error
    if rest or total != length or plain.digest() != digest:
        raise Corrupt("the archive's index is damaged")


def _chunk(line: bytes, disk_size: int, former: int) -> Chunk:
    row = parse_json(line, "the archive's index") if len(line) <= 512 else None
    if not isinstance(row, list) or len(row) != 5 or [type(cell) for cell in row] != [int, int, str, str, int]:
        raise Corrupt("the archive's index is damaged: a row that describes no chunk")
    offset, length, digest, member, stored = row
    match = MEMBER.fullmatch(member)
    if (
        not former < offset < disk_size
        or offset % CHUNK_SIZE
        or length != chunk_length(offset, disk_size)
        or match is None
        or match["kind"] not in ("zst", "raw")
    ):
        raise Corrupt(f"the archive's index is damaged: impossible chunk at offset {offset}")
    chunk = Chunk(offset, length, _hex(digest), member, stored)
    if not stored_sane(chunk.kind, length, stored):
        raise Corrupt(f"the archive's index is damaged: impossible size of the chunk at offset {offset}")
    return chunk


def _hex(text: str) -> bytes:
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b""
    if len(digest) != 32 or digest.hex() != text:
        raise Corrupt("the archive's index is damaged: no digest where one belongs")
    return digest
