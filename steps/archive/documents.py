"""The JSON documents of an archive: written by us, read with suspicion.

Every reading function raises ``Corrupt`` for anything but what the format says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TypeVar

from portunix_vdisk.platform.base import FileIdentity, ImageType, Owner, Partition
from portunix_vdisk.platform.errors import Corrupt
from portunix_vdisk.steps.archive.layout import (
    CHUNK_SIZE,
    FORMAT,
    MAX_DISK_SIZE,
    VERSION,
    NewerVersion,
    NotAnArchive,
)

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
    document = parse_object(data, "the first document")
    if document.get("format") != FORMAT:
        raise NotAnArchive("not an archive of this program")
    version = field(document, "version", int)
    if version > VERSION or document.get("encryption") is not None:
        raise NewerVersion(
            f"the archive has format version {version}{'' if version > VERSION else ' with encryption'};"
            f" this program knows version {VERSION} without encryption",
            hint="update portunix-vdisk",
        )
    if version != VERSION or field(document, "chunk_size", int) != CHUNK_SIZE:
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
    document = parse_object(data, "a session document")
    return Session(
        field(document, "session", int),
        field(document, "generation", int),
        field(document, "started", str),
        parse_identity(field(document, "source", dict)),
    )


def parse_disk(data: Mapping[str, object]) -> DiskFacts:
    """The index's description of its disk."""
    partition, owner = field(data, "partition", dict), field(data, "owner", dict)
    try:
        type_ = ImageType(field(data, "type", str))
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


def parse_identity(data: Mapping[str, object]) -> FileIdentity:
    """The identity of a source."""
    return FileIdentity(*(field(data, key, int) for key in ("device", "inode", "size", "mtime_ns", "ctime_ns")))


def field(data: Mapping[str, object], key: str, kind: type[T]) -> T:
    """A value of exactly this type; true is no number."""
    value = data.get(key)
    if type(value) is not kind:
        raise Corrupt(f"the archive is damaged: {key!r} is missing or of the wrong type")
    return value


def _word(data: Mapping[str, object], key: str) -> str:
    """A short text that can be shown, and can be a file name without leaving its folder."""
    text = field(data, key, str)
    if not 0 < len(text) <= 255 or text in (".", "..") or any(char < " " or char in "/\\\x7f" for char in text):
        raise Corrupt(f"the archive is damaged: impossible {key!r}")
    return text


def _natural(data: Mapping[str, object], key: str) -> int:
    value = field(data, key, int)
    if not 0 <= value < 1 << 63:
        raise Corrupt(f"the archive is damaged: {key!r} is out of range")
    return value


def _text(document: Mapping[str, object]) -> bytes:
    return (json.dumps(document, indent=1) + "\n").encode()


def parse_json(data: bytes, what: str) -> object:
    """Any JSON; ``what`` names it in messages."""
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"{what} is damaged: {error}") from error
    return value


def parse_object(data: bytes, what: str) -> dict[str, object]:
    """A JSON object; ``what`` names it in messages."""
    value = parse_json(data, what)
    if not isinstance(value, dict):
        raise Corrupt(f"{what} is damaged: no JSON object")
    return value
