"""The JSON documents of an archive: written by us, read with suspicion.

Every reading function raises ``Corrupt`` for anything but what the format says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

import zstandard

from portunix_vdisk.platform.base import FileIdentity, ImageType, Owner, Partition
from portunix_vdisk.platform.errors import Corrupt
from portunix_vdisk.steps.archive.layout import (
    CHUNK_SIZE,
    FORMAT,
    GENERATION,
    MAX_CHUNKS,
    MAX_DISK_SIZE,
    MEMBER,
    VERSION,
    Kind,
    NewerVersion,
    NotAnArchive,
    chunk_length,
    stored_sane,
)
from portunix_vdisk.steps.archive.merkle import root_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """What an archive says about its disk beside the content. Sizes in bytes."""

    name: str
    uuid: str
    type: ImageType
    size: int
    file_system: str
    partition: Partition
    created_at: str
    """ISO 8601 with time zone."""
    owner: Owner


@dataclass(frozen=True, slots=True)
class Header:
    """The first document: what was known before the first chunk."""

    archive_uuid: str
    disk_uuid: str


@dataclass(frozen=True, slots=True)
class Session:
    """One start of an export."""

    number: int
    generation: int
    started: str
    source: FileIdentity


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


def header_text(header: Header) -> bytes:
    """The first document."""
    return _text(
        {
            "format": FORMAT,
            "version": VERSION,
            "archive_uuid": header.archive_uuid,
            "disk_uuid": header.disk_uuid,
            "chunk_size": CHUNK_SIZE,
            "encryption": None,
        }
    )


def parse_header_text(data: bytes) -> Header:
    """Read the first document. Raises ``NotAnArchive``, ``NewerVersion``, ``Corrupt``."""
    document = _object(data, "the first document")
    if document.get("format") != FORMAT:
        raise NotAnArchive("not an archive of this program")
    version = _get(document, "version", int)
    if version > VERSION or document.get("encryption") is not None:
        raise NewerVersion(
            f"the archive has format version {version}{'' if version > VERSION else ' with encryption'};"
            f" this program knows version {VERSION} without encryption",
            hint="update portunix-vdisk",
        )
    if version != VERSION or _get(document, "chunk_size", int) != CHUNK_SIZE:
        raise Corrupt("the archive's first document is damaged")
    return Header(_word(document, "archive_uuid"), _word(document, "disk_uuid"))


def session_text(session: Session) -> bytes:
    """A session document."""
    return _text(
        {
            "session": session.number,
            "generation": session.generation,
            "started": session.started,
            "source": asdict(session.source),
            "salt": None,
        }
    )


def parse_session_text(data: bytes) -> Session:
    """Read a session document."""
    document = _object(data, "a session document")
    return Session(
        _get(document, "session", int),
        _get(document, "generation", int),
        _get(document, "started", str),
        _identity(_get(document, "source", dict)),
    )


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
    head = _object(head_line + b"]}", "the archive's index")
    if _get(head, "version", int) != VERSION or _get(head, "generation", int) != GENERATION:
        raise NewerVersion("the archive's index has a newer version", hint="update portunix-vdisk")
    disk = _disk(_get(head, "disk", dict))
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
    index = Index(GENERATION, disk, _identity(_get(head, "source", dict)), tuple(chunks), root_of_chunks(disk, chunks))
    if _get(head, "root", str) != index.root.hex() or _get(head, "data_bytes", int) != index.data_bytes:
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
    row = _json(line, "the archive's index") if len(line) <= 512 else None
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


def _disk(data: Mapping[str, object]) -> DiskFacts:
    partition, owner = _get(data, "partition", dict), _get(data, "owner", dict)
    try:
        type_ = ImageType(_get(data, "type", str))
    except ValueError:
        raise NewerVersion(
            f"the archive holds a disk of type {data['type']!r}, which this version does not know",
            hint="update portunix-vdisk",
        ) from None
    facts = DiskFacts(
        _word(data, "name"),
        _word(data, "uuid"),
        type_,
        _natural(data, "size"),
        _word(data, "file_system"),
        Partition(_natural(partition, "start"), _natural(partition, "length")),
        _word(data, "created_at"),
        Owner(_natural(owner, "uid"), _natural(owner, "gid")),
    )
    if facts.size > MAX_DISK_SIZE or facts.partition.start + facts.partition.length > facts.size:
        raise Corrupt("the archive's index is damaged: impossible disk size")
    return facts


def _identity(data: Mapping[str, object]) -> FileIdentity:
    return FileIdentity(*(_get(data, key, int) for key in ("device", "inode", "size", "mtime_ns", "ctime_ns")))


def _hex(text: str) -> bytes:
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b""
    if len(digest) != 32 or digest.hex() != text:
        raise Corrupt("the archive's index is damaged: no digest where one belongs")
    return digest


def _get(data: Mapping[str, object], key: str, kind: type[T]) -> T:
    value = data.get(key)
    if type(value) is not kind:
        raise Corrupt(f"the archive is damaged: {key!r} is missing or of the wrong type")
    return value


def _word(data: Mapping[str, object], key: str) -> str:
    """A short text that can be shown, and can be a file name without leaving its folder."""
    text = _get(data, key, str)
    if not 0 < len(text) <= 255 or text in (".", "..") or any(char < " " or char in "/\\\x7f" for char in text):
        raise Corrupt(f"the archive is damaged: impossible {key!r}")
    return text


def _natural(data: Mapping[str, object], key: str) -> int:
    value = _get(data, key, int)
    if not 0 <= value < 1 << 63:
        raise Corrupt(f"the archive is damaged: {key!r} is out of range")
    return value


def _text(document: Mapping[str, object]) -> bytes:
    return (json.dumps(document, indent=1) + "\n").encode()


def _json(data: bytes, what: str) -> object:
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"{what} is damaged: {error}") from error
    return value


def _object(data: bytes, what: str) -> dict[str, object]:
    value = _json(data, what)
    if not isinstance(value, dict):
        raise Corrupt(f"{what} is damaged: no JSON object")
    return value
