"""Files with several names: which target file each group of names shall have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

from portunix_vdisk.steps.sync.plan import Work


class Verdict(IntEnum):
    """What one regular file needs, seen by itself."""

    COPY = 1
    METADATA = 2
    SAME = 3
    UNRECORDED = 4


class Member(NamedTuple):
    """A regular file of the source; ``inode`` and ``links`` are those of the target file of that name."""

    work: Work
    name: str
    verdict: Verdict
    expected: bytes
    inode: int
    links: int
    size: int
    mtime_ns: int


def hard_links(
    groups: Iterable[Sequence[Member]],
) -> Iterator[tuple[Sequence[Member], Member, Sequence[Member]]]:
    """Give each group of source names one target file of its own.

    A target file that is right already stays and becomes the leader, to which the other names are linked; without one
    the first name is copied. No two groups may share a file.

    Returns:
        For each group: the members that are settled by themselves, the leader (one of them), and those to be linked
        to it.
    """
    taken: set[int] = set()
    for group in groups:
        holders: dict[int, list[Member]] = {}
        for member in group:
            if member.verdict is not Verdict.COPY and member.inode not in taken:
                holders.setdefault(member.inode, []).append(member)
        best = max(holders.values(), key=len)[0] if holders else None
        # One file under several names has one verdict, even if its names were judged by different records.
        right = [m._replace(verdict=best.verdict) for m in group if m.inode == best.inode] if best is not None else []
        if best is not None and best.verdict is Verdict.METADATA and best.links > len(right):
            best = None  # in place, the change would show under a name that is no part of this group
        if best is not None:
            taken.add(best.inode)
            yield right, right[0], [member for member in group if member.inode != best.inode]
        else:
            leader = group[0]._replace(verdict=Verdict.COPY)
            yield [leader], leader, group[1:]
