"""Reading back an archive that is being written: what is there, and where to go on.

Nothing but the file itself is trusted: it is walked header by header from its start, and every payload is compared
with its CRC, since after a power loss pages of a file may be zeros.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from portunix_vdisk.platform.errors import Corrupt, Failed, Refused
from portunix_vdisk.steps.archive.documents import Header, Session, parse_session_text
from portunix_vdisk.steps.archive.files import read_exactly, read_up_to
from portunix_vdisk.steps.archive.layout import HEADER_NAME, MAX_HEADER, Kind, NotAnArchive, Record, parse_header
from portunix_vdisk.steps.archive.members import check_payload, read_first
from portunix_vdisk.steps.archive.pipeline import Pipeline

_FIRST_WRITE = 4096
"""A partial shorter than this may have been cut within its first document."""


@dataclass(slots=True)
class Content:
    """What a partial archive holds. Offsets are bytes in the file."""

    first: Record
    header: Header
    sessions: dict[int, tuple[int, Record, Session]] = field(default_factory=dict)
    chunks: list[tuple[int, Record]] = field(default_factory=list)
    """In the order of the file; a chunk may have been stored more than once."""
    chains: dict[int, bytes] = field(default_factory=dict)
    """End of each record → digest of all headers up to there."""
    end: int = 0
    """End of the last whole session or chunk: the next record goes here."""


def chain(former: bytes, header: bytes) -> bytes:
    """The digest over all headers, carried on by one header."""
    return hashlib.sha256(former + header).digest()


def read_back(descriptor: int, *, payloads: bool, poll: Callable[[], None] = lambda: None) -> Content:
    """Walk a partial archive; with ``payloads`` also compare every payload with its CRC.

    Records whose payload is damaged are left out; those at the end lie behind :attr:`Content.end`. ``poll`` is called
    often and may raise. Raises ``NotAnArchive``, ``NewerVersion``, ``Corrupt`` (first document), ``OSError``.
    """
    first, header = read_first(descriptor)
    content = Content(first, header)
    digest = chain(b"", first.header())
    content.end = first.total
    content.chains[content.end] = digest
    walked: list[tuple[int, Record, bytes]] = []
    for offset, record in _walk(descriptor, first.total):
        if not len(walked) % 256:
            poll()
        digest = chain(digest, record.header())
        walked.append((offset, record, digest))
    pipeline = Pipeline(lambda item: _whole(descriptor, item[0], item[1], payloads), iter(walked))
    try:
        for offset, record, digest in walked:
            if pipeline.take(poll) and _keep(content, descriptor, offset, record):
                content.end = offset + record.total
                content.chains[content.end] = digest
    finally:
        pipeline.close()
    return content


def _walk(descriptor: int, offset: int) -> Iterator[tuple[int, Record]]:
    """Sessions and chunks up to the first thing that is neither, or is cut off."""
    size = os.fstat(descriptor).st_size
    while offset < size:
        try:
            record = parse_header(read_up_to(descriptor, offset, MAX_HEADER))
        except Corrupt:
            return
        if offset + record.total > size or (record.kind is Kind.DOCUMENT and not record.name.startswith("session-")):
            return
        yield offset, record
        offset += record.total


def _whole(descriptor: int, offset: int, record: Record, payloads: bool) -> bool:
    if not payloads or not record.stored:
        return True
    return zlib.crc32(read_exactly(descriptor, offset + record.header_length, record.stored)) == record.crc


def _keep(content: Content, descriptor: int, offset: int, record: Record) -> bool:
    if record.kind is not Kind.DOCUMENT:
        content.chunks.append((offset, record))
        return True
    payload = read_exactly(descriptor, offset + record.header_length, record.stored)
    try:
        check_payload(record, payload)
        session = parse_session_text(payload)
    except Corrupt:
        return False
    content.sessions[session.number] = (offset, record, session)
    return True


def open_partial(path: Path, disk_uuid: str, poll: Callable[[], None] = lambda: None) -> tuple[int, Content | None]:
    """Open or create the partial archive of a disk; the content is None if it is new.

    Raises ``Refused`` if the file is another disk's, of another format, or being written by somebody else.
    """
    descriptor = -1
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        content = _lock_and_read(path, descriptor, disk_uuid, poll)
    except BaseException as error:
        if descriptor >= 0:
            os.close(descriptor)
        if isinstance(error, NotAnArchive | Corrupt):
            raise Refused(
                f"{path} is in the way: {error.what}", state="it was not touched", hint="move or delete that file"
            ) from error
        if isinstance(error, OSError):
            raise Failed(f"cannot open {path}: {error.strerror}", state="it was not changed") from error
        raise
    return descriptor, content


def _lock_and_read(path: Path, descriptor: int, disk_uuid: str, poll: Callable[[], None]) -> Content | None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Refused(f"another export is writing {path}", hint="wait until it is done") from None
    if never_begun(descriptor):
        return None
    content = read_back(descriptor, payloads=True, poll=poll)
    if content.header.disk_uuid != disk_uuid:
        raise Refused(
            f"{path} is the unfinished export of another disk",
            state="it was not touched",
            hint="finish that export, delete the file, or choose another output",
        )
    return content


def never_begun(descriptor: int) -> bool:
    """Whether an earlier run was stopped before the first document was whole; no data can be in such a file.

    Raises ``OSError``, ``NewerVersion``.
    """
    start = read_up_to(descriptor, 0, _FIRST_WRITE)
    if not start.strip(b"\0"):
        return os.fstat(descriptor).st_size <= _FIRST_WRITE
    if len(start) == _FIRST_WRITE or not (b"PK\3\4".startswith(start[:4]) or start.startswith(b"PK\3\4")):
        return False
    try:
        read_first(descriptor)
    except NotAnArchive:
        return HEADER_NAME.encode().startswith(start[30 : 30 + len(HEADER_NAME)])
    except Corrupt:
        return True
    return False
