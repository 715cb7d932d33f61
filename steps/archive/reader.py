"""Reading a sealed archive, from wherever it came."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import TracebackType

import zstandard

from portunix_vdisk.platform.errors import Corrupt, Failed, NotFound, VdiskError
from portunix_vdisk.steps.archive.directory import Directory, Entry, read_directory
from portunix_vdisk.steps.archive.documents import Header, parse_session_text
from portunix_vdisk.steps.archive.files import read_up_to
from portunix_vdisk.steps.archive.index import Chunk, Index, parse_index
from portunix_vdisk.steps.archive.layout import (
    GENERATION,
    HEADER_NAME,
    MAX_HEADER,
    Kind,
    NotAnArchive,
    Record,
    index_name,
    parse_header,
)
from portunix_vdisk.steps.archive.members import check_payload, read_first, read_member


class ArchiveReader:
    """An archive opened for reading; a context manager. Reading chunks is safe from several threads.

    Opening checks the first document, the directory and the index. Raises ``NotFound``, ``NotAnArchive``,
    ``NewerVersion``, ``Corrupt``, and ``Failed`` for errors of the system.
    """

    header: Header
    directory: Directory
    index: Index

    def __init__(self, path: Path) -> None:
        self.path = path
        with _naming(path):
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            with _naming(path):
                self._open()
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> ArchiveReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file."""
        os.close(self._descriptor)

    def _open(self) -> None:
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotAnArchive("not a file")
        self.size = status.st_size
        first, self.header = read_first(self._descriptor)
        self.directory = read_directory(self._descriptor, self.size)
        if self._entry(HEADER_NAME) != Entry(0, first.stored, first.crc):
            raise Corrupt("the archive's directory does not begin with its first document")
        name = index_name(GENERATION)
        entry = self._entry(name)
        record, payload = read_member(self._descriptor, entry.offset, name)
        _compare(record, entry)
        self.index = parse_index(payload, record.length, record.digest)
        if self.index.disk.uuid != self.header.disk_uuid:
            raise Corrupt("the archive's index belongs to another disk than its first document")
        for chunk in self.index.chunks:
            if self._entry(chunk.member).stored != chunk.stored:
                raise Corrupt(f"index and directory of the archive disagree about {chunk.member}")

    def plain(self, chunk: Chunk) -> bytes:
        """The bytes of a chunk of the index. Raises ``Corrupt`` naming archive, member and offset; ``Failed``."""
        with _naming(self.path, f"chunk at disk offset {chunk.offset}: "):
            record, payload = read_member(self._descriptor, self._entry(chunk.member).offset, chunk.member)
            self._check(chunk, record)
            data = payload if record.kind is Kind.RAW else _decompress(payload, chunk)
            if sha256(data).digest() != chunk.digest:
                raise Corrupt(f"the content of member {chunk.member} is damaged", hint=_GET_ANOTHER)
            return data

    def check_headers(self, poll: Callable[[], None] = lambda: None) -> None:
        """Check that headers, directory and index tell the same of every chunk and session. Raises ``Corrupt``.

        ``poll`` is called often and may raise.
        """
        with _naming(self.path):
            for name, entry in self.directory.entries.items():
                if name.startswith("session-"):
                    record, payload = read_member(self._descriptor, entry.offset, name)
                    _compare(record, entry)
                    check_payload(record, payload)
                    parse_session_text(payload)
            for number, chunk in enumerate(self.index.chunks):
                if not number % 256:
                    poll()
                record = parse_header(read_up_to(self._descriptor, self._entry(chunk.member).offset, MAX_HEADER))
                self._check(chunk, record)

    def _check(self, chunk: Chunk, record: Record) -> None:
        _compare(record, self._entry(chunk.member))
        told = (record.name, record.kind, record.length, record.digest, record.stored)
        if told != (chunk.member, chunk.kind, chunk.length, chunk.digest, chunk.stored):
            raise Corrupt(f"index and header of member {chunk.member} disagree", hint=_GET_ANOTHER)

    def _entry(self, name: str) -> Entry:
        entry = self.directory.entries.get(name)
        if entry is None:
            raise Corrupt(f"the archive has no member {name}", hint=_GET_ANOTHER)
        return entry


_GET_ANOTHER = "copy the archive again or use another export"


def _compare(record: Record, entry: Entry) -> None:
    if (record.stored, record.crc) != (entry.stored, entry.crc):
        raise Corrupt(f"directory and header of member {record.name} disagree", hint=_GET_ANOTHER)


def _decompress(payload: bytes, chunk: Chunk) -> bytes:
    """Decompress one frame, whose stated size is checked before anything is allocated."""
    try:
        if zstandard.get_frame_parameters(payload).content_size != chunk.length:
            raise Corrupt(f"member {chunk.member} is damaged: it has another size than the index says")
        return zstandard.ZstdDecompressor().decompress(payload, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Corrupt(f"member {chunk.member} is damaged: {error}", hint=_GET_ANOTHER) from error


@contextmanager
def _naming(path: Path, where: str = "") -> Iterator[None]:
    """Put the archive's name in front of what went wrong in it."""
    try:
        yield
    except VdiskError as error:
        raise type(error)(f"{path}: {where}{error.what}", error.state, error.hint) from error
    except FileNotFoundError as error:
        raise NotFound(f"{path}: no such file") from error
    except OSError as error:
        raise Failed(f"cannot read {path}: {where}{error.strerror}") from error
