"""Apple's UDIF: what its trailer and its tables say, and whether that can be true.

A UDIF is runs of a disk's sectors, each stored in its own way, one behind the other; then a property list with tables
(``blkx``, each beginning with ``mish``) of these runs; then a trailer of 512 bytes (``koly``). All numbers
are big-endian.

Sources: Apple publishes nothing. dmg2img (``dmg2img.h``), libdmg-hfsplus (``dmg/dmg.h``) and QEMU (``block/dmg.c``)
agree on what is here. The limits are QEMU's, which reads the content.
"""

from __future__ import annotations

import plistlib
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final
from xml.parsers.expat import ExpatError

from portunix_vdisk.platform.base import SECTOR
from portunix_vdisk.platform.errors import Corrupt, Refused
from portunix_vdisk.steps.foreign.filesystems import Read

TRAILER: Final = struct.Struct(">4s3I5Q2I16sII128sQQ120xII128sIQ12x")
# koly, version, length, flags; where the first byte of the data would be in a file of several segments, offset and
# length of the data and of the resource fork; segment, segments, their id; checksum of the data: kind, bits, value;
# offset and length of the list; checksum of all tables' checksums: kind, bits, value; variant; sectors of the disk
TABLE: Final = struct.Struct(">4sIQQQII24xII128sI")
# mish, version, first sector, sectors, what is added to all offsets, sectors of the largest run, descriptor; checksum
# of what the runs hold: kind, bits, value; number of runs
RUN: Final = struct.Struct(">IIQQQQ")
# kind, comment, first sector (of the table's), sectors, offset and length in the data
CRC32: Final = 2
"""The kind of a checksum, whose value is the first four bytes."""
MOST_XML: Final = 16 << 20
MOST_SECTORS: Final = (64 << 20) // SECTOR
"""Sectors of a run that is not just zeros."""
_MOST_TAGS: Final = 100_000
"""In the property list. There are a dozen for each partition; each costs forty times its length to read."""
_MOST_STORED: Final = 64 << 20
_PIECE: Final = 4 << 20


class Kind(IntEnum):
    """How a run of sectors is stored."""

    ZERO = 0
    RAW = 1
    IGNORED = 2
    """Nobody uses these sectors; they read as zeros."""
    ADC = 0x80000004
    ZLIB = 0x80000005
    BZIP2 = 0x80000006
    LZFSE = 0x80000007
    LZMA = 0x80000008
    COMMENT = 0x7FFFFFFE
    END = 0xFFFFFFFF


_KINDS: Final = frozenset(Kind)
EMPTY: Final = (Kind.ZERO, Kind.IGNORED)
ALWAYS_READ: Final = (*EMPTY, Kind.RAW, Kind.ZLIB)
"""What every QEMU can read; the rest is up to how it was built."""


@dataclass(frozen=True, slots=True)
class Run:
    """``count`` sectors of the disk from ``start`` on, stored together: ``length`` bytes at ``offset`` of the file."""

    kind: Kind
    start: int
    count: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Udif:
    """An image: bytes of the disk, its runs in their order without gaps, and where in the file the data is.

    ``checksum``: the CRC-32 of the data as it is stored; None if there is none.
    """

    size: int
    runs: tuple[Run, ...]
    data: tuple[int, int]
    checksum: int | None


def read_udif(read: Read, length: int) -> Udif:
    """What a file of ``length`` bytes says. Raises ``Corrupt``; ``Refused`` for one file of several, or an old kind."""
    trailer = read(length - SECTOR, SECTOR) if length >= SECTOR else b""
    if len(trailer) < SECTOR or trailer[:4] != b"koly":
        raise _damaged("it has no trailer")
    fields = TRAILER.unpack(trailer)
    segments, (data_start, data_length), (xml_start, xml_length) = fields[10], fields[5:7], fields[15:17]
    sectors, end = fields[21], length - SECTOR
    if segments > 1:
        raise Refused(
            f"this UDIF is one file of {segments}",
            state="nothing was opened",
            hint="make it one file on a Mac: hdiutil convert FILE -format UDZO -o NEW-FILE",
        )
    if not xml_length:
        raise Refused(
            "this UDIF is of an old kind: its tables are no property list",
            state="nothing was opened",
            hint="make it a newer one on a Mac: hdiutil convert FILE -format UDZO -o NEW-FILE",
        )
    if xml_length > MOST_XML or xml_start + xml_length > end or data_start + data_length > end:
        raise _damaged("its parts do not lie in the file")
    if not 0 < sectors < 1 << 54:
        raise _damaged(f"a disk of {sectors} sectors makes no sense")
    runs = sorted(_runs(read(xml_start, xml_length), data_start, end), key=lambda run: run.start)
    here = 0
    for run in runs:
        if run.start != here:
            raise _damaged(f"its tables say {'nothing' if run.start > here else 'two things'} about sector {here}")
        here += run.count
    if here != sectors:
        raise _damaged(f"its tables speak of {here} sectors, and the disk has {sectors}")
    checksum = int.from_bytes(fields[14][:4], "big") if fields[12:14] == (CRC32, 32) else None
    return Udif(sectors * SECTOR, tuple(runs), (data_start, data_length), checksum)


def check_data(read: Read, image: Udif, progress: Callable[[int, int], None]) -> None:
    """Compare the data as it is stored with its checksum, if there is one. Raises ``Corrupt``."""
    if image.checksum is None:
        return
    start, length = image.data
    found = 0
    for offset in range(0, length, _PIECE):
        count = min(_PIECE, length - offset)
        found = zlib.crc32(read(start + offset, count), found)
        progress(offset + count, length)
    if found != image.checksum:
        raise _damaged("what it holds does not agree with its checksum")


def _runs(text: bytes, data_start: int, end: int) -> Iterator[Run]:
    if text.count(b"<") > _MOST_TAGS:
        raise _damaged("its property list has more in it than there are partitions")
    try:
        blkx = plistlib.loads(text, fmt=plistlib.FMT_XML)["resource-fork"]["blkx"]
        tables = [bytes(each["Data"]) for each in blkx]
    except (ExpatError, plistlib.InvalidFileException, ValueError, LookupError, TypeError, AttributeError) as error:
        raise _damaged(f"its property list makes no sense ({error.__class__.__name__})") from error
    for table in tables:
        if len(table) < TABLE.size or table[:4] != b"mish":
            raise _damaged("one of its tables is none")
        _, _, first, _, added, _, _, _, _, _, count = TABLE.unpack_from(table)
        if TABLE.size + count * RUN.size > len(table):
            raise _damaged("one of its tables is shorter than it says")
        yield from _of_table(table, first, data_start + added, count, end)


def _of_table(table: bytes, first: int, data: int, count: int, end: int) -> Iterator[Run]:
    for number in range(count):
        code, _, start, sectors, offset, length = RUN.unpack_from(table, TABLE.size + number * RUN.size)
        if code not in _KINDS:
            raise _damaged(f"it has sectors that are stored in an unknown way ({code:#x})")
        kind = Kind(code)
        if kind is Kind.END:
            return
        if kind is Kind.COMMENT:
            continue
        if not sectors:
            raise _damaged("it has an empty run of sectors")
        if kind not in EMPTY:
            # QEMU would not read longer ones; nothing makes them.
            if sectors > MOST_SECTORS or length > _MOST_STORED:
                raise _damaged("it has a run of sectors that is too long")
            if data + offset + length > end:
                raise _damaged("it has sectors behind its end")
            if kind is Kind.RAW and length != sectors * SECTOR:
                raise _damaged("it has sectors of another length than their number")
        yield Run(kind, first + start, sectors, data + offset, length)


def _damaged(why: str) -> Corrupt:
    return Corrupt(f"this UDIF is damaged: {why}", state="nothing was changed", hint="bring it from its source again")
