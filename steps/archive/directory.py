"""The central directory: written after the last member, read with every bound checked before anything is allocated.

ZIP structures: PKWARE APPNOTE.TXT 6.3.10, sections 4.3.12 (central directory), 4.3.14 to 4.3.16 (end records), 4.5.3
(ZIP64 extra field).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from blake3 import blake3

from portunix_vdisk.platform.errors import Corrupt
from portunix_vdisk.steps.archive.layout import HEADER_NAME, MAX_MEMBERS, MAX_NAME, MEMBER
from portunix_vdisk.steps.archive.record import DOS_DATE, header_length
from portunix_vdisk.steps.archive.storage import Prefix, Readable, read_exactly

_ENTRY: Final = struct.Struct("<IHHHHHHIIIHHHHHII")
_ENTRY_SIGNATURE: Final = 0x02014B50
ENTRY_MARK: Final = struct.pack("<I", _ENTRY_SIGNATURE)
_ZIP64_EXTRA: Final = struct.Struct("<HHQ")
_END: Final = struct.Struct("<IHHHHIIH")
_END_SIGNATURE: Final = 0x06054B50
_END64: Final = struct.Struct("<IQHHIIQQQQ")
_END64_SIGNATURE: Final = 0x06064B50
_LOCATOR: Final = struct.Struct("<IIQI")
_LOCATOR_SIGNATURE: Final = 0x07064B50
_MAX16: Final = 0xFFFF
_MAX32: Final = 0xFFFFFFFF
_MADE_BY_UNIX: Final = 3 << 8 | 45
_REGULAR_FILE: Final = 0o100644 << 16
_END_MARK: Final = struct.pack("<I", _END_SIGNATURE)
_WINDOW: Final = 4 << 20
_TRIES: Final = 64
"""End records that are looked at behind the last one: what an update leaves has one, hostile files have many. All
their directories together may have as many entries as one may: reading the same million 64 times takes minutes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A member as the directory lists it."""

    offset: int
    """Where its local header starts in the archive file."""
    stored: int
    crc: int


@dataclass(frozen=True, slots=True)
class Directory:
    """All members by name, and where the directory itself starts."""

    entries: dict[str, Entry]
    start: int
    end: int
    """Where the end records end, and with them the archive."""


def directory_bytes(members: Iterable[tuple[str, Entry]], start: int) -> bytes:
    """Central directory and end records for members in the order of their offsets, to be written at ``start``."""
    parts: list[bytes] = []
    for text, entry in members:
        name, offset = text.encode("ascii"), entry.offset
        far = _ZIP64_EXTRA.pack(1, 8, offset) if offset >= _MAX32 else b""
        parts += (
            _ENTRY.pack(
                _ENTRY_SIGNATURE,
                _MADE_BY_UNIX,
                45 if far else 10,
                0,
                0,
                0,
                DOS_DATE,
                entry.crc,
                entry.stored,
                entry.stored,
                len(name),
                len(far),
                0,
                0,
                0,
                _REGULAR_FILE,
                _MAX32 if far else offset,
            ),
            name,
            far,
        )
    count, size = len(parts) // 3, sum(map(len, parts))
    if count >= _MAX16 or size >= _MAX32 or start >= _MAX32:
        parts.append(_END64.pack(_END64_SIGNATURE, 44, _MADE_BY_UNIX, 45, 0, 0, count, count, size, start))
        parts.append(_LOCATOR.pack(_LOCATOR_SIGNATURE, 0, start + size, 1))
    short = min(count, _MAX16)
    parts.append(_END.pack(_END_SIGNATURE, 0, 0, short, short, min(size, _MAX32), min(start, _MAX32), 0))
    return b"".join(parts)


def read_directory(file: Readable) -> Directory:
    """Read the directory of an archive.

    Raises ``Corrupt`` unless the end records are the last bytes of the file, directory and end records touch, every
    name is one of this format and occurs once, and members lie before the directory without overlapping.
    """
    size = file.size
    count, length, start, end = _end_records(file, size)
    if count > MAX_MEMBERS:
        raise Corrupt(f"the archive's directory lists {count} members, more than the format allows")
    if start + length != end or not count * _ENTRY.size <= length <= count * (_ENTRY.size + MAX_NAME + 12):
        raise Corrupt("the archive's directory is not where its end record says")
    entries: dict[str, Entry] = {}
    for name, entry in _entries(file, start, length, count):
        if name in entries:
            raise Corrupt(f"the archive's directory lists {name} twice")
        entries[name] = entry
    former = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].offset):
        if entry.offset < former:
            raise Corrupt(f"member {name} overlaps another member of the archive")
        former = entry.offset + header_length(name) + entry.stored
    if former > start:
        raise Corrupt("a member of the archive lies outside its file")
    if HEADER_NAME not in entries or entries[HEADER_NAME].offset != 0:
        raise Corrupt("the archive's directory does not begin with its first document")
    return Directory(entries, start, size)


def last_whole_directory(file: Readable) -> Directory:
    """The directory at the end of the file or, after an update that was cut off, the last one before it.

    Raises ``Corrupt``: what is wrong with the end of the file.
    """
    try:
        return read_directory(file)
    except Corrupt as error:
        problem = error
    end, tries, left = file.size, 0, MAX_MEMBERS
    while end > 0 and tries < _TRIES:
        start = max(0, end - _WINDOW)
        window = file.read(start, end - start + _END.size - 1)
        at = len(window)
        while tries < _TRIES and (at := window.rfind(_END_MARK, 0, at)) >= 0:
            if window[at + 4 : at + 8] != bytes(4):
                continue
            tries += 1
            former = Prefix(file, start + at + _END.size)
            try:
                count = _end_records(former, former.size)[0]
                if count <= left:
                    left -= count
                    return read_directory(former)
            except Corrupt:
                continue
        end = start
    raise problem


def directory_digest(file: Readable, directory: Directory) -> bytes:
    """H of directory and end records. Raises ``OSError``."""
    state, at = blake3(), directory.start
    while at < directory.end and (piece := file.read(at, min(1 << 20, directory.end - at))):
        state.update(piece)
        at += len(piece)
    return state.digest()


def directory_start(file: Readable) -> Iterator[int]:
    """Where the end record says that the directory begins, if there is one; not checked."""
    try:
        yield _end_records(file, file.size)[2]
    except Corrupt:
        return


def _end_records(file: Readable, size: int) -> tuple[int, int, int, int]:
    """Number of members, length and start of the directory, and where it must end."""
    if size < _END.size:
        raise Corrupt("the archive is truncated")
    end = size - _END.size
    signature, disk, directory_disk, here, count, length, start, comment = _END.unpack(
        read_exactly(file, end, _END.size)
    )
    if signature != _END_SIGNATURE:
        raise Corrupt("the archive is truncated: it has no end record", hint="copy or export it again")
    if disk or directory_disk or here != count or comment:
        raise Corrupt("the archive's end record is damaged")
    if count < _MAX16 and length < _MAX32 and start < _MAX32:
        return count, length, start, end
    end -= _LOCATOR.size + _END64.size
    if end < 0:
        raise Corrupt("the archive's ZIP64 end record is missing")
    record = _END64.unpack(read_exactly(file, end, _END64.size))
    locator = _LOCATOR.unpack(read_exactly(file, end + _END64.size, _LOCATOR.size))
    count64, length64, start64 = record[7:]
    if (
        locator != (_LOCATOR_SIGNATURE, 0, end, 1)
        or record[:6] != (_END64_SIGNATURE, 44, _MADE_BY_UNIX, 45, 0, 0)
        or record[6] != count64
        or (min(count64, _MAX16), min(length64, _MAX32), min(start64, _MAX32)) != (count, length, start)
    ):
        raise Corrupt("the archive's ZIP64 end record is damaged")
    return count64, length64, start64, end


def _entries(file: Readable, start: int, length: int, count: int) -> Iterator[tuple[str, Entry]]:
    """Every entry of the directory, read in pieces of 1 MiB."""
    end, position, buffer, at = start + length, start, b"", 0
    longest = _ENTRY.size + MAX_NAME + _ZIP64_EXTRA.size
    for _ in range(count):
        if len(buffer) - at < longest and position < end:
            piece = read_exactly(file, position, min(1 << 20, end - position))
            buffer, at, position = buffer[at:] + piece, 0, position + len(piece)
        if len(buffer) - at < _ENTRY.size:
            raise Corrupt("the archive's directory is shorter than its entries")
        name, entry, taken = parse_entry(buffer, at)
        at += taken
        yield name, entry
    if at != len(buffer) or position != end:
        raise Corrupt("the archive's directory is longer than its entries")


def parse_entry(buffer: bytes, at: int) -> tuple[str, Entry, int]:
    """Name, entry and length of the directory entry at ``at``; only entries as we write them are accepted."""
    if len(buffer) - at < _ENTRY.size:
        raise Corrupt("the archive's directory is cut off")
    fields = _ENTRY.unpack_from(buffer, at)
    crc, stored, name_length, extra_length, offset = fields[7], fields[8], fields[10], fields[11], fields[16]
    far = _ZIP64_EXTRA.size if offset == _MAX32 else 0
    expected = (_ENTRY_SIGNATURE, _MADE_BY_UNIX, 45 if far else 10, 0, 0, 0, DOS_DATE, crc, stored, stored)
    taken = _ENTRY.size + name_length + far
    if (
        fields[:10] != expected
        or name_length > MAX_NAME
        or extra_length != far
        or fields[12:16] != (0, 0, 0, _REGULAR_FILE)
        or at + taken > len(buffer)
    ):
        raise Corrupt("the archive's directory is damaged")
    start = at + _ENTRY.size
    name = buffer[start : start + name_length].decode("latin-1")
    match = MEMBER.fullmatch(name)
    if match is None or match["kind"] in ("same", "zero") or match["next"]:
        raise Corrupt(f"the archive's directory lists a member {name!r} that this format does not have")
    if far:
        tag, size, offset = _ZIP64_EXTRA.unpack_from(buffer, start + name_length)
        if (tag, size) != (1, 8) or offset < _MAX32:
            raise Corrupt("the archive's directory is damaged: ZIP64 field")
    return name, Entry(offset, stored, crc), taken
