"""Reading members of an archive file: local header, payload, the first document, keys."""

from __future__ import annotations

from collections.abc import Iterable

import zstandard

from portunix_vdisk.platform.errors import Corrupt
from portunix_vdisk.steps.archive.digest import crc32, digest_of
from portunix_vdisk.steps.archive.directory import Directory
from portunix_vdisk.steps.archive.documents import Header, parse_header_text, parse_object
from portunix_vdisk.steps.archive.keys import KeySlot
from portunix_vdisk.steps.archive.layout import HEADER_NAME, MAX_DOCUMENT, MEMBER, NotAnArchive
from portunix_vdisk.steps.archive.record import LOCAL, LOCAL_SIGNATURE, MAX_HEADER, Record, parse_header
from portunix_vdisk.steps.archive.storage import Readable, read_exactly


def read_first(file: Readable) -> tuple[Record, Header]:
    """The first document of an archive or partial archive.

    Only the name, the place and the version of this document are the same in every version of the format, so they
    are looked at before anything else. Raises ``NotAnArchive``, ``NewerVersion``, ``Corrupt``, ``OSError``.
    """
    start = file.read(0, LOCAL.size + len(HEADER_NAME))
    if len(start) < LOCAL.size + len(HEADER_NAME):
        raise NotAnArchive("not an archive of this program")
    fields = LOCAL.unpack_from(start)
    if fields[0] != LOCAL_SIGNATURE or fields[9] != len(HEADER_NAME) or start[LOCAL.size :] != HEADER_NAME.encode():
        raise NotAnArchive("not an archive of this program")
    if fields[7] > MAX_DOCUMENT:
        raise Corrupt("the archive's first document is damaged")
    data = read_exactly(file, len(start) + fields[10], fields[7])
    header = parse_header_text(data)
    record = parse_header(file.read(0, MAX_HEADER))
    check_payload(record, data)
    return record, header


def read_member(file: Readable, offset: int, name: str) -> tuple[Record, bytes]:
    """Header and payload of the member at ``offset``, not checked against each other. Raises ``Corrupt``."""
    record = parse_header(file.read(offset, MAX_HEADER))
    if record.name != name:
        raise Corrupt(f"the archive holds member {record.name} where {name} should be")
    return record, read_exactly(file, offset + record.header_length, record.stored)


def check_payload(record: Record, payload: bytes) -> None:
    """Check the payload of a document that is not compressed. Raises ``Corrupt``."""
    if crc32(payload) != record.crc or digest_of(payload) != record.digest:
        raise Corrupt(f"member {record.name} of the archive is damaged")


def decompress(payload: bytes, most: int, what: str, *, exactly: bool = True) -> bytes:
    """Decompress one frame, whose stated size is checked against ``most`` before anything is allocated."""
    try:
        size = zstandard.get_frame_parameters(payload).content_size
        if size > most or (exactly and size != most):
            raise Corrupt(f"{what} is damaged: it has another size than it should")
        return zstandard.ZstdDecompressor().decompress(payload, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Corrupt(f"{what} is damaged: {error}", hint="copy the archive again or use another export") from error


def read_key_slot(file: Readable, directory: Directory) -> KeySlot:
    """The key slot that holds: of the highest number. Raises ``Corrupt``, ``OSError``."""
    found = numbered(directory.entries, "keys")
    if not found:
        raise Corrupt("the archive is encrypted, but has no keys", hint="use another copy of the archive")
    _, name = found[-1]
    record, payload = read_member(file, directory.entries[name].offset, name)
    check_payload(record, payload)
    return KeySlot.parse(parse_object(payload, "the archive's key slot"))


def numbered(names: Iterable[str], group: str) -> list[tuple[int, str]]:
    """Number and name of all members of a sort (``session``, ``keys``, ``index``), by number."""
    found = []
    for name in names:
        match = MEMBER.fullmatch(name)
        if match is not None and match[group]:
            found.append((int(match[group]), name))
    return sorted(found)
