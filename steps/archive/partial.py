"""Reading back what an export has written so far: what is there, and where to go on.

Nothing but the file itself is trusted: it is walked header by header from its start, and every payload is compared
with its CRC, since after a power loss pages of a file may be zeros. What is encrypted is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from portunix_vdisk.platform.errors import Corrupt
from portunix_vdisk.steps.archive.digest import crc32, digest_of
from portunix_vdisk.steps.archive.documents import (
    Header,
    Session,
    Update,
    parse_session_text,
    parse_update_text,
)
from portunix_vdisk.steps.archive.layout import HEADER_NAME, MEMBER, Kind, NotAnArchive
from portunix_vdisk.steps.archive.members import check_payload, read_first
from portunix_vdisk.steps.archive.pipeline import Pipeline
from portunix_vdisk.steps.archive.record import MAX_HEADER, Record, parse_header
from portunix_vdisk.steps.archive.sealing import Piece, Vault, piece_of
from portunix_vdisk.steps.archive.storage import Readable, read_exactly

FIRST_WRITE = 4096
"""A file shorter than this may have been cut within its first document."""
_Walked = tuple[int, Record, bytes]


@dataclass(slots=True)
class Content:
    """What an unfinished archive or update holds. Offsets are bytes in its own file."""

    first: Record
    header: Header | None
    """Of an unfinished archive."""
    update: Update | None
    """Of an update."""
    keys: list[tuple[int, Record]] = field(default_factory=list)
    sessions: dict[int, tuple[int, Record, Session]] = field(default_factory=dict)
    chunks: list[tuple[int, Record, Piece]] = field(default_factory=list)
    """In the order of the file; a chunk may have been stored more than once."""
    chains: dict[int, bytes] = field(default_factory=dict)
    """End of each record → digest of all headers up to there."""
    end: int = 0
    """End of the last whole session, key or chunk: the next record goes here."""


def chain(former: bytes, header: bytes) -> bytes:
    """The digest over all headers, carried on by one header."""
    return digest_of(former + header)


def read_back(
    file: Readable,
    *,
    payloads: bool,
    vault: Callable[[Header | None], Vault | None] = lambda header: None,
    poll: Callable[[], None] = lambda: None,
) -> Content:
    """Walk an unfinished archive or update; with ``payloads`` also compare every payload with its CRC.

    Records whose payload is damaged are left out; those at the end lie behind :attr:`Content.end`. ``vault`` gives the
    ciphers of what is encrypted, which is left closed without it. ``poll`` is called often and may raise. Raises
    ``NotAnArchive``, ``NewerVersion``, ``Corrupt`` (first document), ``OSError``.
    """
    content = _begin(file)
    content.end = content.first.total
    digest = content.chains[content.end] = chain(b"", content.first.header())
    ciphers = vault(content.header)
    walked: list[_Walked] = []
    for offset, record in _walk(file, content.first.total):
        if not len(walked) % 256:
            poll()
        if record.name.startswith("session-"):
            _learn(content, file, offset, record, ciphers)
        digest = chain(digest, record.header())
        walked.append((offset, record, digest))
    pipeline: Pipeline[_Walked, Piece | None] = Pipeline(
        lambda item: _whole(file, item[0], item[1], ciphers, payloads), iter(walked)
    )
    try:
        for offset, record, digest in walked:
            piece = pipeline.take(poll)
            if piece is not None and _keep(content, offset, record, piece):
                content.end = offset + record.total
                content.chains[content.end] = digest
    finally:
        pipeline.close()
    return content


def _begin(file: Readable) -> Content:
    start = file.read(0, MAX_HEADER)
    if start[30:35] != b"next-":
        first, header = read_first(file)
        return Content(first, header, None)
    first = parse_header(start)
    payload = read_exactly(file, first.header_length, first.stored)
    check_payload(first, payload)
    return Content(first, None, parse_update_text(payload))


def _walk(file: Readable, offset: int) -> Iterator[tuple[int, Record]]:
    """Sessions, keys and chunks up to the first thing that is none of them, or is cut off."""
    size = file.size
    while offset < size:
        try:
            record = parse_header(file.read(offset, MAX_HEADER))
        except Corrupt:
            return
        match = MEMBER.fullmatch(record.name)
        wanted = match is not None and (match["session"] or match["keys"] or match["kind"] or match["sealer"])
        if offset + record.total > size or not wanted:
            return
        yield offset, record
        offset += record.total


def _learn(content: Content, file: Readable, offset: int, record: Record, vault: Vault | None) -> None:
    payload = read_exactly(file, offset + record.header_length, record.stored)
    try:
        check_payload(record, payload)
        session = parse_session_text(payload)
        if session.salt and vault is not None:
            session = vault.learn(session)
    except Corrupt:
        return
    content.sessions[session.number] = (offset, record, session)


def _whole(file: Readable, offset: int, record: Record, vault: Vault | None, payloads: bool) -> Piece | None:
    """What the record says, or None if its payload is not what was written."""
    if record.kind is not Kind.SEALED or vault is None:
        if payloads and record.stored:
            payload = read_exactly(file, offset + record.header_length, record.stored)
            if crc32(payload) != record.crc:
                return None
        return piece_of(record)
    if not payloads:
        return piece_of(record)
    try:
        return vault.open(record, read_exactly(file, offset + record.header_length, record.stored))[0]
    except Corrupt:
        return None


def _keep(content: Content, offset: int, record: Record, piece: Piece) -> bool:
    if record.kind is not Kind.DOCUMENT:
        content.chunks.append((offset, record, piece))
        return True
    if record.name.startswith("keys-"):
        content.keys.append((offset, record))
        return True
    return record.session in content.sessions and content.sessions[record.session][0] == offset


def never_begun(file: Readable) -> bool:
    """Whether an earlier run was stopped before the first document was whole; no data can be in such a file.

    Raises ``OSError``, ``NewerVersion``.
    """
    start = file.read(0, FIRST_WRITE)
    if not start.strip(b"\0"):
        return file.size <= FIRST_WRITE
    if len(start) == FIRST_WRITE or not (b"PK\3\4".startswith(start[:4]) or start.startswith(b"PK\3\4")):
        return False
    try:
        _begin(file)
    except NotAnArchive:
        return HEADER_NAME.encode().startswith(start[30 : 30 + len(HEADER_NAME)])
    except Corrupt:
        return True
    return False
