"""Reading members of an archive file: local header, payload, and the first document."""

from __future__ import annotations

import hashlib
import zlib

from portunix_vdisk.platform.errors import Corrupt
from portunix_vdisk.steps.archive.documents import Header, parse_header_text
from portunix_vdisk.steps.archive.files import read_exactly, read_up_to
from portunix_vdisk.steps.archive.layout import (
    HEADER_NAME,
    LOCAL,
    LOCAL_SIGNATURE,
    MAX_DOCUMENT,
    MAX_HEADER,
    NotAnArchive,
    Record,
    parse_header,
)


def read_first(descriptor: int) -> tuple[Record, Header]:
    """The first document of an archive or partial archive.

    Only the name, the place and the version of this document are the same in every version of the format, so they
    are looked at before anything else. Raises ``NotAnArchive``, ``NewerVersion``, ``Corrupt``, ``OSError``.
    """
    start = read_up_to(descriptor, 0, LOCAL.size + len(HEADER_NAME))
    if len(start) < LOCAL.size + len(HEADER_NAME):
        raise NotAnArchive("not an archive of this program")
    fields = LOCAL.unpack_from(start)
    if fields[0] != LOCAL_SIGNATURE or fields[9] != len(HEADER_NAME) or start[LOCAL.size :] != HEADER_NAME.encode():
        raise NotAnArchive("not an archive of this program")
    if fields[7] > MAX_DOCUMENT:
        raise Corrupt("the archive's first document is damaged")
    data = read_exactly(descriptor, len(start) + fields[10], fields[7])
    header = parse_header_text(data)
    record = parse_header(read_up_to(descriptor, 0, MAX_HEADER))
    check_payload(record, data)
    return record, header


def read_member(descriptor: int, offset: int, name: str) -> tuple[Record, bytes]:
    """Header and payload of the member at ``offset``, not checked against each other. Raises ``Corrupt``."""
    record = parse_header(read_up_to(descriptor, offset, MAX_HEADER))
    if record.name != name:
        raise Corrupt(f"the archive holds member {record.name} where {name} should be")
    return record, read_exactly(descriptor, offset + record.header_length, record.stored)


def check_payload(record: Record, payload: bytes) -> None:
    """Check the payload of a document that is not compressed. Raises ``Corrupt``."""
    if zlib.crc32(payload) != record.crc or hashlib.sha256(payload).digest() != record.digest:
        raise Corrupt(f"member {record.name} of the archive is damaged")
