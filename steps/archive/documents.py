"""The JSON documents of an archive: written by us, read with suspicion.

Every reading function raises ``Corrupt`` for anything but what the format says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TypeVar

from portunix_vdisk.platform.base import FileIdentity, ImageType, Owner, Partition
from portunix_vdisk.platform.errors import Corrupt
from portunix_vdisk.steps.archive.layout import (
    CHUNK_SIZE,
    FORMAT,
    MAX_DISK_SIZE,
    MIN_VOLUME,
    VERSION,
    NewerVersion,
    NotAnArchive,
)
from portunix_vdisk.steps.source import SourceIdentity

T = TypeVar("T")
_UNFIT = re.compile("[\0-\x1f\x7f-\x9f/\\\\\ud800-\udc7f\udd00-\udfff]")
"""Control characters, which a terminal obeys, path separators, and halves of characters, which cannot be written. A
byte of a file name that is no UTF-8 (U+DC80 to U+DCFF) can."""
CIPHER = "AES-256-GCM"


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
class BaseArchive:
    """The archive that a delta was made against."""

    archive_uuid: str
    root: str
    """Root of the generation that it was made against, hexadecimal."""
    name: str
    """File name that it had then."""


@dataclass(frozen=True, slots=True)
class Header:
    """The first document: what was known before the first chunk."""

    archive_uuid: str
    disk_uuid: str
    encrypted: bool = False
    base: BaseArchive | None = None
    volume_size: int | None = None
    """Size at which a volume is full, in bytes; None for an archive in one file."""


@dataclass(frozen=True, slots=True)
class Session:
    """One start of an export. What is encrypted keeps its source to itself: it is None until it is opened."""

    number: int
    generation: int
    started: str
    source: SourceIdentity | None
    salt: bytes = b""
    sealed: bytes = b""


@dataclass(frozen=True, slots=True)
class Update:
    """The record that begins a new generation: which state of the archive it belongs to."""

    archive_uuid: str
    generation: int
    at: int
    """Length of the archive file before, in bytes: the record goes there."""
    directory: str
    """H of the central directory and end records before, hexadecimal."""
    wipe: tuple[tuple[int, int], ...] = ()
    """Offset and length of what is overwritten with zeros once the update is in the archive: former keys."""


def header_text(header: Header) -> bytes:
    """The first document."""
    return text_of(
        {
            "format": FORMAT,
            "version": VERSION,
            "archive_uuid": header.archive_uuid,
            "disk_uuid": header.disk_uuid,
            "chunk_size": CHUNK_SIZE,
            "encryption": CIPHER if header.encrypted else None,
            "base": asdict(header.base) if header.base else None,
            "volume_size": header.volume_size,
        }
    )


def parse_header_text(data: bytes) -> Header:
    """Read the first document. Raises ``NotAnArchive``, ``NewerVersion``, ``Corrupt``."""
    document = parse_object(data, "the first document")
    if document.get("format") != FORMAT:
        raise NotAnArchive("not an archive of this program")
    version, cipher = field(document, "version", int), document.get("encryption")
    if version > VERSION or cipher not in (None, CIPHER):
        raise NewerVersion(
            f"the archive has format version {version}{'' if version > VERSION else f' with encryption {cipher!r}'};"
            f" this program knows version {VERSION}, so it was made by a newer one",
            hint="update portunix-vdisk",
        )
    if version != VERSION or field(document, "chunk_size", int) != CHUNK_SIZE:
        raise Corrupt("the archive's first document is damaged")
    base = None
    if document.get("base") is not None:
        given = field(document, "base", dict)
        base = BaseArchive(word(given, "archive_uuid"), word(given, "root"), word(given, "name"))
    limit = document.get("volume_size")
    if limit is not None and field(document, "volume_size", int) < MIN_VOLUME:
        raise Corrupt("the archive's first document is damaged: impossible volumes")
    return Header(
        word(document, "archive_uuid"),
        word(document, "disk_uuid"),
        cipher is not None,
        base,
        None if limit is None else field(document, "volume_size", int),
    )


def session_text(session: Session) -> bytes:
    """A session document."""
    return text_of(
        {
            "session": session.number,
            "generation": session.generation,
            "started": session.started,
            "source": identity_json(session.source) if session.source and not session.salt else None,
            "salt": session.salt.hex() or None,
            "sealed": session.sealed.hex() or None,
        }
    )


def parse_session_text(data: bytes) -> Session:
    """Read a session document."""
    document = parse_object(data, "a session document")
    number, generation = field(document, "session", int), field(document, "generation", int)
    started = word(document, "started")
    if document.get("salt") is None:
        return Session(number, generation, started, parse_identity(field(document, "source", dict)))
    salt, sealed = (hex_bytes(field(document, key, str)) for key in ("salt", "sealed"))
    if len(salt) != 32:
        raise Corrupt("a session document is damaged: no salt")
    return Session(number, generation, started, None, salt, sealed)


def update_text(update: Update) -> bytes:
    """The document that begins an update."""
    return text_of({"format": FORMAT, "version": VERSION, **asdict(update)})


def parse_update_text(data: bytes) -> Update:
    """Read the document that begins an update."""
    document = parse_object(data, "the beginning of an update")
    if field(document, "version", int) != VERSION:
        raise NewerVersion("the update was begun by another version", hint="finish it with that version")
    return Update(
        word(document, "archive_uuid"),
        field(document, "generation", int),
        _natural(document, "at"),
        field(document, "directory", str),
        tuple(_span(span) for span in field(document, "wipe", list)),
    )


def _span(given: object) -> tuple[int, int]:
    if not isinstance(given, list) or len(given) != 2 or any(type(number) is not int or number < 0 for number in given):
        raise Corrupt("the beginning of an update is damaged")
    return given[0], given[1]


def identity_json(source: SourceIdentity) -> dict[str, object]:
    """The identity of a source, for documents."""
    return {**asdict(source.file), "view": source.view}


def parse_identity(data: Mapping[str, object]) -> SourceIdentity:
    """The identity of a source."""
    numbers = (field(data, key, int) for key in ("device", "inode", "size", "mtime_ns", "ctime_ns"))
    return SourceIdentity(FileIdentity(*numbers), field(data, "view", str))


def hex_bytes(text: str) -> bytes:
    """Bytes from lower case hexadecimal. Raises ``Corrupt``."""
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    if data.hex() != text or not data:
        raise Corrupt("the archive is damaged: no hexadecimal digits where they belong")
    return data


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
        word(data, "name"),
        word(data, "uuid"),
        type_,
        _natural(data, "size"),
        word(data, "file_system"),
        Partition(_natural(partition, "start"), _natural(partition, "length")),
        word(data, "created_at"),
        Owner(_natural(owner, "uid"), _natural(owner, "gid")),
    )
    if facts.size > MAX_DISK_SIZE or facts.partition.start + facts.partition.length > facts.size:
        raise Corrupt("the archive's index is damaged: impossible disk size")
    return facts


def field(data: Mapping[str, object], key: str, kind: type[T]) -> T:
    """A value of exactly this type; true is no number."""
    value = data.get(key)
    if type(value) is not kind:
        raise Corrupt(f"the archive is damaged: {key!r} is missing or of the wrong type")
    return value


def word(data: Mapping[str, object], key: str) -> str:
    """A short text that can be shown, and can be a file name without leaving its folder."""
    text = field(data, key, str)
    if not 0 < len(text) <= 255 or text in (".", "..") or _UNFIT.search(text):
        raise Corrupt(f"the archive is damaged: impossible {key!r}")
    return text


def _natural(data: Mapping[str, object], key: str) -> int:
    value = field(data, key, int)
    if not 0 <= value < 1 << 63:
        raise Corrupt(f"the archive is damaged: {key!r} is out of range")
    return value


def text_of(document: Mapping[str, object]) -> bytes:
    """A document as it is stored."""
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
