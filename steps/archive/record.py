"""Records of an archive file: a local header with an extra field of our own, and a payload.

ZIP structures: PKWARE APPNOTE.TXT 6.3.10, section 4.3.7 (local file header) and 4.5 (extra fields).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Final

from portunix_vdisk.platform.errors import Corrupt
from portunix_vdisk.steps.archive.digest import crc32, digest_of
from portunix_vdisk.steps.archive.layout import (
    CHUNK_SIZE,
    MAX_DISK_SIZE,
    MAX_DOCUMENT,
    MAX_INDEX,
    MAX_NAME,
    MEMBER,
    SEALED_EXTRA,
    Kind,
    kind_of,
    stored_sane,
)

LOCAL_SIGNATURE: Final = 0x04034B50
LOCAL: Final = struct.Struct("<IHHHHHIIIHH")
EXTRA_ID: Final = 0x7650
EXTRA: Final = struct.Struct("<HHBBHQI32sI")
EXTRA_VERSION: Final = 1
DOS_DATE: Final = 0x0021
"""1 January 1980: members carry no time, so that equal input makes equal bytes."""
MAX_HEADER: Final = LOCAL.size + MAX_NAME + EXTRA.size


@dataclass(frozen=True, slots=True)
class Record:
    """One local header with what it says about its payload. Offsets and lengths in bytes."""

    name: str
    kind: Kind
    session: int
    offset: int
    """Offset of the chunk on the disk; 0 for documents; the number in its session for what is sealed."""
    length: int
    """Length of the plain chunk or document; 0 for what is sealed."""
    digest: bytes
    """H of the plain chunk or document; zeros for what is sealed."""
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
        return header + crc32(header).to_bytes(4, "little")


def header_length(name: str) -> int:
    """Length of the local header of a member; its extra field always has the same length."""
    return LOCAL.size + len(name) + EXTRA.size


def document(name: str, plain: bytes, session: int = 0, payload: bytes | None = None) -> tuple[Record, bytes]:
    """Record and payload of a document; ``payload`` is its compressed form, if it has one."""
    stored = plain if payload is None else payload
    return Record(name, Kind.DOCUMENT, session, 0, len(plain), digest_of(plain), len(stored), crc32(stored)), stored


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
    if match is None or kind not in set(Kind):
        raise Corrupt("a member with a name or kind that this format does not have")
    record = Record(name, Kind(kind), session, offset, length, digest, fields[7], fields[6])
    if record.header() != data[: record.header_length]:
        raise Corrupt(f"the header of member {name} is damaged")
    _check(record, match)
    return record


def _check(record: Record, match: re.Match[str]) -> None:
    if record.kind is not kind_of(record.name):
        raise Corrupt(f"member {record.name} is not of the kind that its name says")
    if record.kind is Kind.SEALED:
        most = MAX_INDEX // 2 if match["index"] else CHUNK_SIZE
        place = (int(match["indexer"] or match["sealer"]), int(match["place"] or match["number"], 16))
        sane = (
            record.length == 0
            and record.digest == bytes(32)
            and SEALED_EXTRA <= record.stored <= most + SEALED_EXTRA
            and (record.session, record.offset) == place
        )
    elif record.kind is Kind.DOCUMENT:
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
