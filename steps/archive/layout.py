"""Names, sizes and local headers of archive version 1; the full description is in ``FORMAT.md`` beside this file.

ZIP structures: PKWARE APPNOTE.TXT 6.3.10, section 4.3.7 (local file header) and 4.5 (extra fields).
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from portunix_vdisk.platform.errors import Corrupt, Refused

FORMAT: Final = "portunix-vdisk-archive"
VERSION: Final = 1
CHUNK_SIZE: Final = 4 << 20
GENERATION: Final = 1

HEADER_NAME: Final = "portunix-vdisk.json"
RECOVER_NAME: Final = "RECOVER.txt"

MAX_DISK_SIZE: Final = 64 << 40
MAX_CHUNKS: Final = 1 << 20
"""Stored chunks of one archive: 4 TiB of data that isn't zero."""
MAX_MEMBERS: Final = MAX_CHUNKS + 4096
MAX_NAME: Final = 64
MAX_DOCUMENT: Final = 64 << 10
"""Plain size of every document but the index."""
MAX_INDEX: Final = 256 << 20
"""Plain size of the index; half of it at most when stored."""

LOCAL_SIGNATURE: Final = 0x04034B50
LOCAL: Final = struct.Struct("<IHHHHHIIIHH")
EXTRA_ID: Final = 0x7650
EXTRA: Final = struct.Struct("<HHBBHQI32sI")
EXTRA_VERSION: Final = 1
DOS_DATE: Final = 0x0021
"""1 January 1980: members carry no time, so that equal input makes equal bytes."""


class NotAnArchive(Refused):
    """The file is no archive of this program."""


class NewerVersion(Refused):
    """The archive was written by a newer version of this program."""


class Kind(IntEnum):
    """What a record of the archive file is."""

    DOCUMENT = 0
    ZSTD = 1
    """A chunk as one zstd frame."""
    RAW = 2
    """A chunk as it is."""
    PATCH = 3
    """Reserved: changed blocks against a former chunk."""
    SAME = 4
    """No payload: this chunk equals an earlier one (same digest). Not in the directory."""
    ZERO = 5
    """No payload: this chunk was read and is all zeros. Not in the directory."""


MEMBER = re.compile(
    r"portunix-vdisk\.json|RECOVER\.txt"
    r"|session-(?P<session>[1-9][0-9]{0,4})\.json"
    r"|index-(?P<index>[1-9][0-9]{0,4})\.json\.zst"
    r"|chunks/(?P<generation>[1-9][0-9]{0,4})-(?P<offset>[0-9a-f]{12,16})(-[1-9][0-9]{0,4})?\.(?P<kind>zst|raw|same|zero)",
    re.ASCII,
)
"""The only names that a member may have; with it no name can leave the folder that an archive is unpacked in."""

_SUFFIX: Final = {Kind.ZSTD: "zst", Kind.RAW: "raw", Kind.SAME: "same", Kind.ZERO: "zero"}


def session_name(number: int) -> str:
    """Member name of a session document."""
    return f"session-{number}.json"


def index_name(generation: int) -> str:
    """Member name of the index of a generation."""
    return f"index-{generation}.json.zst"


def chunk_name(kind: Kind, offset: int, again: int = 0) -> str:
    """Member name of a chunk; ``again`` is the session that stored another state of a chunk already stored."""
    tail = f"-{again}" if again else ""
    return f"chunks/{GENERATION}-{offset:012x}{tail}.{_SUFFIX[kind]}"


@dataclass(frozen=True, slots=True)
class Record:
    """One local header with what it says about its payload. Offsets and lengths in bytes."""

    name: str
    kind: Kind
    session: int
    offset: int
    """Offset of the chunk on the disk; 0 for documents."""
    length: int
    """Length of the plain chunk or document."""
    digest: bytes
    """SHA-256 of the plain chunk or document."""
    stored: int
    """Length of the payload in the archive file."""
    crc: int
    """CRC-32 of the payload."""

    @property
    def header_length(self) -> int:
        """Length of the local header."""
        return header_length(self.name)

    @property
    def total(self) -> int:
        """Length of header and payload."""
        return self.header_length + self.stored

    def header(self) -> bytes:
        """The local header's bytes."""
        name = self.name.encode("ascii")
        size = EXTRA.size
        fixed = LOCAL.pack(LOCAL_SIGNATURE, 10, 0, 0, 0, DOS_DATE, self.crc, self.stored, self.stored, len(name), size)
        own = (EXTRA_VERSION, self.kind, self.session, self.offset, self.length, self.digest)
        extra = EXTRA.pack(EXTRA_ID, size - 4, *own, 0)[:-4]
        header = fixed + name + extra
        # The payload has its CRC in the header; the header, which resuming trusts, gets its own.
        return header + zlib.crc32(header).to_bytes(4, "little")


def header_length(name: str) -> int:
    """Length of the local header of a member; its extra field always has the same length."""
    return LOCAL.size + len(name) + EXTRA.size


MAX_HEADER: Final = LOCAL.size + MAX_NAME + EXTRA.size


def document(name: str, plain: bytes, session: int, payload: bytes | None = None) -> tuple[Record, bytes]:
    """Record and payload of a document; ``payload`` is its compressed form, if it has one."""
    stored = plain if payload is None else payload
    digest = hashlib.sha256(plain).digest()
    return Record(name, Kind.DOCUMENT, session, 0, len(plain), digest, len(stored), zlib.crc32(stored)), stored


def parse_header(data: bytes) -> Record:
    """Read a local header from the start of ``data`` (up to :data:`MAX_HEADER` bytes). Raises ``Corrupt``.

    Only headers as :meth:`Record.header` writes them are accepted, byte for byte.
    """
    if len(data) < LOCAL.size:
        raise Corrupt("truncated member header")
    fields = LOCAL.unpack_from(data)
    name_length = fields[9]
    if fields[0] != LOCAL_SIGNATURE or name_length > MAX_NAME or fields[10] != EXTRA.size:
        raise Corrupt("not a member header of this format")
    if len(data) < LOCAL.size + name_length + EXTRA.size:
        raise Corrupt("truncated member header")
    name = data[LOCAL.size : LOCAL.size + name_length].decode("latin-1")
    match = MEMBER.fullmatch(name)
    _, _, _, kind, session, offset, length, digest, _ = EXTRA.unpack_from(data, LOCAL.size + name_length)
    if match is None or kind == Kind.PATCH or kind not in set(Kind):
        raise Corrupt("a member with a name or kind that this format does not have")
    record = Record(name, Kind(kind), session, offset, length, digest, fields[7], fields[6])
    if record.header() != data[: record.header_length]:
        raise Corrupt(f"the header of member {name} is damaged")
    _check(record, match)
    return record


def _check(record: Record, match: re.Match[str]) -> None:
    suffix = match["kind"]
    if (suffix is None) != (record.kind is Kind.DOCUMENT) or (suffix and suffix != _SUFFIX[record.kind]):
        raise Corrupt(f"member {record.name} is not of the kind that its name says")
    if suffix is None:
        if match["index"]:
            sane = record.length <= MAX_INDEX and record.stored <= MAX_INDEX // 2 and record.offset == 0
        else:
            sane = record.length == record.stored <= MAX_DOCUMENT and record.offset == 0
    else:
        sane = (
            0 < record.length <= CHUNK_SIZE
            and record.offset % CHUNK_SIZE == 0
            and record.offset < MAX_DISK_SIZE
            and int(match["offset"], 16) == record.offset
            and stored_sane(record.kind, record.length, record.stored)
        )
    if not sane:
        raise Corrupt(f"member {record.name} has impossible sizes")


def stored_sane(kind: Kind, length: int, stored: int) -> bool:
    """Whether a chunk of ``length`` bytes can take ``stored`` bytes in the archive."""
    match kind:
        case Kind.ZSTD:
            return 0 < stored < length
        case Kind.RAW:
            return stored == length
        case _:
            return stored == 0


def chunk_length(offset: int, disk_size: int) -> int:
    """Length of the chunk at ``offset``: the last one of a disk may be short."""
    return min(CHUNK_SIZE, disk_size - offset)


def chunk_count(disk_size: int) -> int:
    """Chunks that a disk is divided into."""
    return -(-disk_size // CHUNK_SIZE)


def range_count(disk_size: int) -> int:
    """Into how many ranges the work on a disk is divided: at most 64, none below 64 MiB but the only one."""
    return max(1, min(64, chunk_count(disk_size) // 16))


def range_of(index: int, count: int, disk_size: int) -> tuple[int, int]:
    """First byte and end of a range; borders lie on chunks."""
    chunks = chunk_count(disk_size)
    start, end = chunks * index // count, chunks * (index + 1) // count
    return start * CHUNK_SIZE, min(end * CHUNK_SIZE, disk_size)
