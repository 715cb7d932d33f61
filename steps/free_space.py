"""Which bytes of a disk are in use: what a filesystem calls free need not be kept, copied or archived."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from portunix_vdisk.platform.base import FileSystemType, Partition
from portunix_vdisk.platform.errors import VdiskError
from portunix_vdisk.steps.ext4 import Doubt, Geometry, Group, free_blocks, read_geometry, read_groups
from portunix_vdisk.steps.luks import MAGIC, is_encrypted
from portunix_vdisk.steps.source import Source

_MOST_GROUPS: Final = 1 << 20
"""Block groups with data: 128 TiB in blocks of 4 KiB."""
_MOST_IN_GROUP: Final = 512
_MOST: Final = 1 << 17
"""Free runs that are told apart: about 30 MB. Beyond, the smallest count as in use."""

Runs = list[tuple[int, int]]
"""Start and end of each run, ascending and apart."""


def used_extents(source: Source, partition: Partition, file_system: str, *, frozen: bool = False) -> Runs | None:
    """Start and end (disk offsets) of everything that must be kept, ascending and apart.

    That is all outside the partition and the blocks in use inside. Free runs too small to matter, and all that the
    source has no data for, may be called in use. None where it can't be told for certain, for example because the
    filesystem was not unmounted cleanly: then everything counts. ``frozen``: it was mounted, and held still when this
    state was kept.
    """
    try:
        return find_used(source, partition, file_system, frozen=frozen)
    except (Doubt, VdiskError):
        return None


def find_used(source: Source, partition: Partition, file_system: str, *, frozen: bool = False) -> Runs:
    """The same, with the reason where it can't be told. Raises ``Doubt``, and ``Failed`` where reading fails."""
    if file_system != FileSystemType.EXT4:
        raise Doubt(f"free blocks of {file_system} are not understood yet")
    if partition.start < 0 or partition.start + partition.length > source.size:
        raise Doubt("the partition does not lie on the disk")

    def read(offset: int, length: int) -> bytearray:
        if not 0 <= offset <= partition.length - length:
            raise Doubt("the filesystem names places outside the partition")
        buffer = bytearray(length)
        source.read_into(partition.start + offset, buffer)
        return buffer

    if is_encrypted(bytes(read(0, len(MAGIC)))):
        raise Doubt("the partition is encrypted")
    geometry = read_geometry(read, partition.length, frozen=frozen)
    free = _Free()
    groups = []
    for group in read_groups(read, geometry, _groups_with_data(source, partition, geometry)):
        bits = free_blocks(read, geometry, group)
        groups.append(group)
        base, size = partition.start + geometry.start(group.number) * geometry.block_size, geometry.block_size
        for start, end in _ones(bits):
            free.add(base + start * size, base + end * size)
    _check_own_blocks(partition, geometry, groups, free.runs)
    return _between(free.runs, source.size)


def common(one: Sequence[tuple[int, int]], other: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """What is in both of two ascending sequences of runs."""
    left = right = 0
    while left < len(one) and right < len(other):
        start, end = max(one[left][0], other[right][0]), min(one[left][1], other[right][1])
        if start < end:
            yield start, end
        if one[left][1] < other[right][1]:
            left += 1
        else:
            right += 1


def _groups_with_data(source: Source, partition: Partition, geometry: Geometry) -> list[int]:
    """Numbers of the groups for which the source has data: in the others there is nothing to leave out."""
    start = partition.start + geometry.first_block * geometry.block_size
    size = geometry.blocks_per_group * geometry.block_size
    found: list[int] = []
    for first, end in source.extents:
        low = max(first - start, 0) // size if end > start else 0
        high = min(-(-(end - start) // size), geometry.groups)
        if found and found[-1] >= low:
            low = found[-1] + 1
        if len(found) + high - low > _MOST_GROUPS:
            raise Doubt("the filesystem has more block groups than are looked at")
        found.extend(range(low, high))
    return found


def _ones(bits: int) -> Iterator[tuple[int, int]]:
    """Start and end of runs of ones. Where there are very many, only the long ones."""
    lowest = bits & -bits
    if not bits & bits + lowest:
        # Most groups are free in one piece, or not at all.
        if bits:
            yield lowest.bit_length() - 1, bits.bit_length()
        return
    shortest = 1
    while (bits ^ bits << 1).bit_count() // 2 > _MOST_IN_GROUP:
        # Those shorter than twice as long go; the others keep their length.
        whole = bits
        for step in _doublings(shortest):
            whole &= whole >> step
        bits = whole
        for step in _doublings(shortest):
            bits |= bits << step
        shortest *= 2
    text = format(bits, "b")[::-1]
    start = text.find("1")
    while start >= 0:
        end = text.find("0", start)
        if end < 0:
            end = len(text)
        yield start, end
        start = text.find("1", end)


def _doublings(last: int) -> Iterator[int]:
    step = 1
    while step <= last:
        yield step
        step *= 2


class _Free:
    """Free runs, as many as may be told apart."""

    def __init__(self) -> None:
        self.runs: Runs = []
        self._shortest = 1

    def add(self, start: int, end: int) -> None:
        """Add a run behind all others."""
        if self.runs and self.runs[-1][1] == start:
            self.runs[-1] = self.runs[-1][0], end
        elif end - start >= self._shortest:
            self.runs.append((start, end))
        while len(self.runs) > _MOST:
            self._shortest = max(self._shortest * 2, 2048)
            self.runs = [run for run in self.runs if run[1] - run[0] >= self._shortest]


def _check_own_blocks(partition: Partition, geometry: Geometry, groups: Sequence[Group], free: Runs) -> None:
    """Bitmaps that call the filesystem's own blocks free are not its bitmaps. Raises ``Doubt``."""
    is_free = _touching(free)
    places = [(0, geometry.descriptors_end)]
    for group in groups:
        if group.initialised:
            places += [(group.bitmap, 1), (group.inode_bitmap, 1), (group.inode_table, geometry.table_blocks)]
    for place, count in places:
        start = partition.start + place * geometry.block_size
        if is_free(start, start + count * geometry.block_size):
            raise Doubt("the bitmaps call the filesystem's own blocks free", unclean=True)


def _touching(runs: Runs) -> Callable[[int, int], bool]:
    """Tells whether a range touches any of the runs."""
    ends = [end for _, end in runs]

    def touches(start: int, end: int) -> bool:
        number = bisect_right(ends, start)
        return number < len(runs) and runs[number][0] < end

    return touches


def _between(free: Runs, size: int) -> Runs:
    """What is left of ``size`` bytes without the free runs."""
    used, end = [], 0
    for start, stop in free:
        if start > end:
            used.append((end, start))
        end = stop
    if end < size:
        used.append((end, size))
    return used
