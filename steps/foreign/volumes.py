"""Where the filesystems of a disk lie that somebody else partitioned, or did not partition.

Sources: for the MBR and its chains "Partition types" and "Extended Boot Record" in the UEFI Specification 2.10, 5.2,
and Microsoft's "Basic Disks and Volumes".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from portunix_vdisk.platform.base import SECTOR, Partition
from portunix_vdisk.platform.errors import Corrupt, NotFound, Refused
from portunix_vdisk.steps.foreign.filesystems import Read, content_of
from portunix_vdisk.steps.gpt import parse_gpt
from portunix_vdisk.steps.sizes import show_size

_OURS = {"fat16": "fat32", "fat12": "fat32"}
"""Whose driver opens it, where the name is another."""
_BOOT_SECTORS = {"ntfs", "exfat", "fat32", "fat16", "fat12"}
"""Filesystems whose first sector looks like one with a partition table."""
_NO_FILES = {
    "c12a7328-f81f-11d2-ba4b-00c04fc93ec9": "EFI system partition",
    "e3c9e316-0b5c-4db8-817d-f92df00215ae": "Microsoft reserved",
    "de94bba4-06d1-4d40-a16a-bfd50179d6ac": "Windows recovery",
    "21686148-6449-6e6f-744e-656564454649": "BIOS boot",
    "mbr-ef": "EFI system partition",
    "mbr-27": "Windows recovery",
}
"""Partitions that are there for the machine, and that nobody means who names none."""
_ENTRY = struct.Struct("<B3sB3sII")
_TABLE_AT, _SIGNATURE_AT, _SIGNATURE = 446, 510, b"\x55\xaa"
_EXTENDED = (0x05, 0x0F, 0x85)
_PROTECTIVE = 0xEE
_FIRST_LOGICAL = 5
_LONGEST_CHAIN = 128


@dataclass(frozen=True, slots=True)
class Volume:
    """A part of a disk that may hold a filesystem.

    ``number`` is as Linux counts, 0 for the whole of a disk without partitions; ``purpose`` is empty but for
    partitions that are there for the machine; ``content`` is what its first bytes say, empty if nothing known.
    """

    number: int
    partition: Partition
    purpose: str
    content: str

    @property
    def file_system(self) -> str:
        """Name of the filesystem's driver."""
        return _OURS.get(self.content, self.content)

    def __str__(self) -> str:
        what = self.content or "nothing known"
        return f"{self.number}: {show_size(self.partition.length)}, {what}" + f" ({self.purpose})" * bool(self.purpose)


def volumes_of(read: Read, size: int) -> list[Volume]:
    """Everything on a disk of ``size`` bytes that may hold a filesystem, in the order of its numbers.

    Raises ``Corrupt`` for a table that makes no sense.
    """
    first = read(0, SECTOR)
    try:
        table = parse_gpt(read, size)
    except NotFound:
        whole = content_of(read, 0, size)
        entries = list(_primary(first)) if first[_SIGNATURE_AT:] == _SIGNATURE else []
        if whole in _BOOT_SECTORS or not entries:
            return [_volume(read, 0, Partition(0, size), "")]
        return list(_of_mbr(read, size, entries))
    return [
        Volume(
            each.number, each.partition, _NO_FILES.get(each.type_guid, ""), content_of(read, each.start, each.length)
        )
        for each in table
    ]


def choose(volumes: list[Volume], number: int | None, usable: frozenset[str]) -> Volume:
    """The volume that is meant: number ``number``, or the only one with a filesystem out of ``usable``.

    Raises ``NotFound`` or ``Refused``, listing what there is.
    """
    there = "; ".join(map(str, volumes)) or "nothing"
    if number is not None:
        chosen = next((each for each in volumes if each.number == number), None)
        if chosen is None:
            raise NotFound(f"there is no partition {number} on this disk", state=f"there is {there}")
    else:
        likely = [each for each in volumes if not each.purpose and each.content not in ("", "swap")]
        if len(likely) > 1:
            raise Refused(
                f"this disk has several filesystems ({there})",
                state="nothing was changed",
                hint=f"say which one: --partition {likely[0].number}",
            )
        if not likely:
            raise Refused(
                f"there is no filesystem on this disk that is known here ({there})", state="nothing was changed"
            )
        chosen = likely[0]
    if chosen.content == "luks":
        raise Refused(
            f"partition {chosen.number} is encrypted, and only disks that were encrypted here can be used",
            state="nothing was changed",
            hint="open it where it comes from, and copy its files: portunix vdisk create --encrypted, then sync",
        )
    if chosen.file_system not in usable:
        what = chosen.content or "nothing that is known here"
        raise Refused(f"partition {chosen.number} holds {what}: that cannot be mounted", state="nothing was changed")
    return chosen


def _volume(read: Read, number: int, partition: Partition, purpose: str) -> Volume:
    return Volume(number, partition, purpose, content_of(read, partition.start, partition.length))


@dataclass(frozen=True, slots=True)
class _Entry:
    number: int
    kind: int
    start: int
    """In sectors, as ``count``."""
    count: int


def _primary(sector: bytes) -> Iterator[_Entry]:
    """The entries of a sector with a table, numbered by their places; none if any of them cannot be one."""
    found = []
    for place in range(4):
        status, _, kind, _, start, count = _ENTRY.unpack_from(sector, _TABLE_AT + place * _ENTRY.size)
        if not kind and not count:
            continue
        if status not in (0, 0x80) or not start or not count:
            return
        found.append(_Entry(place + 1, kind, start, count))
    yield from found


def _of_mbr(read: Read, size: int, entries: list[_Entry]) -> Iterator[Volume]:
    if any(entry.kind == _PROTECTIVE for entry in entries):
        raise Corrupt("the disk is said to have a GUID partition table, and has none")
    logical = [each for entry in entries if entry.kind in _EXTENDED for each in _chain(read, entry)]
    for entry in [entry for entry in entries if entry.kind not in _EXTENDED] + logical:
        start, length = entry.start * SECTOR, entry.count * SECTOR
        if start + length > size:
            raise Corrupt(f"partition {entry.number} ends behind the end of the disk: the image may be truncated")
        purpose = _NO_FILES.get(f"mbr-{entry.kind:02x}", "")
        yield _volume(read, entry.number, Partition(start, length), purpose)


def _chain(read: Read, extended: _Entry) -> Iterator[_Entry]:
    """The logical partitions inside an extended one: a chain of sectors with a table of two entries each."""
    here = extended.start
    for number in range(_FIRST_LOGICAL, _FIRST_LOGICAL + _LONGEST_CHAIN):
        sector = read(here * SECTOR, SECTOR)
        if len(sector) < SECTOR or sector[_SIGNATURE_AT:] != _SIGNATURE:
            raise Corrupt("the chain of logical partitions is broken")
        following, entries = None, list(_primary(sector))
        if not entries and any(sector[_TABLE_AT:_SIGNATURE_AT]):
            raise Corrupt("the chain of logical partitions makes no sense")
        for entry in entries:
            if entry.kind in _EXTENDED:
                following = extended.start + entry.start
            elif entry.number == 1:
                yield _Entry(number, entry.kind, here + entry.start, entry.count)
        if following is None:
            return
        # Only forward, so that no chain is a circle.
        if not here < following < extended.start + extended.count:
            raise Corrupt("the chain of logical partitions leads outside of its place")
        here = following
    raise Corrupt(f"there are more than {_LONGEST_CHAIN} logical partitions")
