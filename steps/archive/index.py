"""The index: which member holds which chunk of the disk, and the root over all of them.

Every reading function raises ``Corrupt`` for anything but what the format says.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import zstandard
from blake3 import blake3

from portunix_vdisk.platform.errors import Corrupt
from portunix_vdisk.steps.archive.digest import digest_of
from portunix_vdisk.steps.archive.documents import (
    DiskFacts,
    field,
    hex_bytes,
    identity_json,
    parse_disk,
    parse_identity,
    parse_json,
    parse_object,
    word,
)
from portunix_vdisk.steps.archive.layout import (
    CHUNK_SIZE,
    MAX_CHUNKS,
    MAX_NUMBER,
    MEMBER,
    VERSION,
    Kind,
    NewerVersion,
    chunk_length,
    kind_of,
    stored_sane,
)
from portunix_vdisk.steps.archive.merkle import root_of
from portunix_vdisk.steps.source import SourceIdentity


@dataclass(frozen=True, slots=True)
class Base:
    """The whole chunk that a patch is against. An empty ``member``: the base archive holds it."""

    member: str
    stored: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Chunk:
    """One row of the index: which member holds the chunk at ``offset`` of the disk.

    An empty ``member``: the archive that this delta is against holds it. With a ``base`` the member is a patch.
    """

    offset: int
    length: int
    digest: bytes
    member: str
    stored: int
    base: Base | None = None


@dataclass(frozen=True, slots=True)
class Previous:
    """The generation before."""

    generation: int
    root: str


@dataclass(frozen=True, slots=True)
class Index:
    """The last document of a generation: the whole disk."""

    generation: int
    previous: Previous | None
    finished: str
    """When the generation was finished, ISO 8601."""
    disk: DiskFacts
    source: SourceIdentity
    chunks: tuple[Chunk, ...]
    root: bytes

    @property
    def data_bytes(self) -> int:
        """Plain bytes in chunks that are not all zero."""
        return sum(chunk.length for chunk in self.chunks)

    def members(self) -> Iterator[tuple[str, int]]:
        """Every member that this generation needs, with its stored length; often more than once."""
        for chunk in self.chunks:
            if chunk.member:
                yield chunk.member, chunk.stored
            if chunk.base is not None and chunk.base.member:
                yield chunk.base.member, chunk.base.stored


def index_text(index: Index) -> bytes:
    """The index: valid JSON, with each chunk on a line of its own so that it can be read line by line."""
    head = {
        "version": VERSION,
        "generation": index.generation,
        "previous": asdict(index.previous) if index.previous else None,
        "finished": index.finished,
        "disk": asdict(index.disk),
        "source": identity_json(index.source),
        "data_bytes": index.data_bytes,
        "root": index.root.hex(),
    }
    rows = ",\n".join(map(_row, index.chunks))
    end = "\n]}\n" if rows else "]}\n"
    return (json.dumps(head)[:-1] + ', "chunks": [\n' + rows + end).encode()


def _row(chunk: Chunk) -> str:
    base = f',{_holder(chunk.base.member, chunk.base.stored)},"{chunk.base.digest.hex()}"' if chunk.base else ""
    return f'[{chunk.offset},{chunk.length},"{chunk.digest.hex()}",{_holder(chunk.member, chunk.stored)}{base}]'


def _holder(member: str, stored: int) -> str:
    return f'"{member}",{stored}' if member else "null,0"


def compress_index(plain: bytes) -> bytes:
    """The index as it is stored."""
    return zstandard.ZstdCompressor(level=9, write_checksum=True, write_content_size=True).compress(plain)


_MOST_KEPT: Final = 1 << 16
"""Rows; about 25 MB."""
_kept: tuple[tuple[bytes, int, bytes, int], Index] | None = None


def parse_index(
    payload: bytes, length: int, digest: bytes, generation: int, listed: Container[str] | None = None
) -> Index:
    """Read a stored index and check everything in it that can be checked without the rest of the file.

    ``length`` and ``digest`` are what the member's header says about the plain index; ``listed`` are the members that
    there are: the first row with another one is the last that is read, since a small bomb may have a million.

    It is read line by line, so that a bomb costs a line, not memory. An export opens its archive several times: the
    last index that was read is kept, unless it is a very large one.
    """
    global _kept
    key = digest_of(payload), length, digest, generation
    if _kept is not None and _kept[0] == key:
        _check_listed(_kept[1].chunks, listed)
        return _kept[1]
    index = _parse(payload, length, digest, generation, listed)
    if len(index.chunks) <= _MOST_KEPT:
        _kept = key, index
    return index


def _parse(payload: bytes, length: int, digest: bytes, generation: int, listed: Container[str] | None) -> Index:
    pieces = _lines(payload, length, digest)
    head_line = next(pieces, b"")
    if not head_line.endswith(b'"chunks": ['):
        raise Corrupt("the archive's index is damaged: no list of chunks")
    head = parse_object(head_line + b"]}", "the archive's index")
    if field(head, "version", int) != VERSION:
        raise NewerVersion("the archive's index has a newer version", hint="update portunix-vdisk")
    if field(head, "generation", int) != generation:
        raise Corrupt("the archive's index belongs to another generation than its name says")
    disk = parse_disk(field(head, "disk", dict))
    chunks: list[Chunk] = []
    for line in pieces:
        if line == b"]}":
            break
        chunk = _chunk(line.removesuffix(b","), disk.size, chunks[-1].offset if chunks else -1)
        _check_listed((chunk,), listed)
        chunks.append(chunk)
        if len(chunks) > MAX_CHUNKS:
            raise Corrupt("the archive's index lists more chunks than the format allows")
    else:
        raise Corrupt("the archive's index is cut off")
    if next(pieces, None) is not None:  # not even empty lines: there may be 256 million of them
        raise Corrupt("the archive's index goes on after its end")
    index = Index(
        generation,
        _previous(head.get("previous"), generation),
        word(head, "finished"),
        disk,
        parse_identity(field(head, "source", dict)),
        tuple(chunks),
        root_of_chunks(disk, chunks),
    )
    if field(head, "root", str) != index.root.hex() or field(head, "data_bytes", int) != index.data_bytes:
        raise Corrupt("the archive's index does not agree with its own root")
    return index


def _check_listed(chunks: Iterable[Chunk], listed: Container[str] | None) -> None:
    if listed is None:
        return
    for chunk in chunks:
        for name in (chunk.member, chunk.base.member if chunk.base else ""):
            if name and name not in listed:
                raise Corrupt(f"the archive has no member {name}", hint="copy the archive again or use another export")


def root_of_chunks(disk: DiskFacts, chunks: Sequence[Chunk]) -> bytes:
    """Root of a disk with these chunks."""
    return root_of(disk.size, ((chunk.offset, chunk.length, chunk.digest) for chunk in chunks))


def _lines(payload: bytes, length: int, digest: bytes) -> Iterator[bytes]:
    total, plain, rest = 0, blake3(), b""
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


def _previous(given: object, generation: int) -> Previous | None:
    if given is None:
        return None
    if not isinstance(given, dict):
        raise Corrupt("the archive's index is damaged: no former generation where one belongs")
    previous = Previous(field(given, "generation", int), field(given, "root", str))
    if not 0 < previous.generation < generation <= MAX_NUMBER:
        raise Corrupt("the archive's index is damaged: impossible former generation")
    return previous


def _chunk(line: bytes, disk_size: int, former: int) -> Chunk:
    row = parse_json(line, "the archive's index") if len(line) <= 512 else None
    if not isinstance(row, list) or len(row) not in (5, 8) or [type(cell) for cell in row[:3]] != [int, int, str]:
        raise Corrupt("the archive's index is damaged: a row that describes no chunk")
    offset, length, digest = row[:3]
    if not former < offset < disk_size or offset % CHUNK_SIZE or length != chunk_length(offset, disk_size):
        raise Corrupt(f"the archive's index is damaged: impossible chunk at offset {offset}")
    patched = len(row) == 8
    member = _member(row[3], row[4], length, (Kind.PATCH,) if patched else (Kind.ZSTD, Kind.RAW))
    base = None
    if patched:
        whole = _member(row[5], row[6], length, (Kind.ZSTD, Kind.RAW))
        base = Base(*whole, _digest(row[7]))
        if not member[0]:
            raise Corrupt(f"the archive's index is damaged: no patch at offset {offset}")
    length = CHUNK_SIZE if length == CHUNK_SIZE else length  # one object for all rows
    return Chunk(offset, length, _digest(digest), *member, base)


def _member(name: object, stored: object, length: int, kinds: tuple[Kind, ...]) -> tuple[str, int]:
    """Name and stored length of a member that may be of one of these kinds or sealed; an empty name for null."""
    if name is None and stored == 0:
        return "", 0
    if isinstance(name, str) and type(stored) is int and MEMBER.fullmatch(name):
        kind = kind_of(name)
        if (kind in kinds or name.startswith("sealed/")) and stored_sane(kind, length, stored):
            return name, stored
    raise Corrupt("the archive's index is damaged: a row with an impossible member")


def _digest(text: object) -> bytes:
    digest = hex_bytes(text) if isinstance(text, str) else b""
    if len(digest) != 32:
        raise Corrupt("the archive's index is damaged: no digest where one belongs")
    return digest
