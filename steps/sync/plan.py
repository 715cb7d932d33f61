"""What a plan is: actions, folder by folder, and what stands in the way; and the terms in which it is decided."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple, Protocol

from portunix_vdisk.steps.sync.fits import Fits
from portunix_vdisk.steps.sync.scan import FILE, FOLDER, NTFS_TICK, SYMLINK, Entry, Listing, join, shown

NOTES_KEPT = 1000
MOUNTED_THERE = "another filesystem is mounted there"


class Record(NamedTuple):
    """A state in which we left a target path, or were about to. ``confirmed``: known to be on stable storage."""

    kind: int
    size: int
    mtime_ns: int
    link: str
    confirmed: bool


@dataclass(frozen=True, slots=True)
class Options:
    """What the person asked for, and who we are.

    ``device`` is the filesystem of the target, ``fits`` what that can hold. With ``uid`` 0 files keep their owners,
    otherwise they belong to ``uid`` and ``gid``.
    """

    delete: bool
    force: bool
    device: int
    uid: int
    gid: int
    fits: Fits = field(default_factory=lambda: Fits(None))

    def same_metadata(self, source: Entry, target: Entry) -> bool:
        """Whether owner and mode are what they can be in the target."""
        return not self.fits.modes or same_metadata(source, target, self.uid, self.gid)


class Trees(Protocol):
    """Both trees as the planner sees them; folders are paths below the top."""

    def source(self, folder: str) -> Listing:
        """The source's entries in a folder."""

    def target(self, folder: str) -> Listing:
        """The target's entries in a folder that exists there."""

    def records(self, folder: str) -> Mapping[str, Sequence[Record]]:
        """The recorded states of the target's names in a folder."""

    def same_content(self, path: str) -> bool:
        """Whether a file of equal size has equal content on both sides."""


class Op(IntEnum):
    """What is to be done with one name in the target."""

    COPY = 1
    SYMLINK = 2
    MAKE_FOLDER = 3
    METADATA = 4
    ADOPT = 5
    """It is as it should be; only our record of it is missing."""
    DELETE = 6
    FORGET = 7
    """It is gone on both sides; the record can go, too."""


_OPS = {op.value: op for op in Op}
_NONE = bytearray()
_NO_NUMBERS: array[int] = array("q")


class Action(NamedTuple):
    """One thing to do.

    ``expected`` is the signature of what is there now; empty: nothing must be there. ``size`` and ``mtime_ns`` tell
    which version of the source was seen.
    """

    op: Op
    name: str
    expected: bytes
    size: int
    mtime_ns: int


class Work:
    """What is to be done in one folder, kept small: a plan may hold millions of actions.

    ``finish``: the folder's own times and mode are to be set when all else is done. ``closed``: the folder is there
    and denies its owner to change it.
    """

    __slots__ = ("_expected", "_mtimes", "_names", "_ops", "_sizes", "closed", "finish", "path")

    def __init__(self, path: str, *, finish: bool = False, closed: bool = False) -> None:
        self.path = path
        self.finish = finish
        self.closed = closed
        self._clear()

    def _clear(self) -> None:
        self._names: list[str] = []
        self._ops = _NONE
        self._sizes = self._mtimes = _NO_NUMBERS
        self._expected: dict[int, bytes] | None = None

    def add(self, op: Op, name: str, expected: bytes = b"", size: int = 0, mtime_ns: int = 0) -> None:
        """Append an action."""
        if not self._names:
            self._ops, self._sizes, self._mtimes = bytearray(), array("q"), array("q")
        if expected:
            if self._expected is None:
                self._expected = {}
            self._expected[len(self._names)] = expected
        self._names.append(name)
        self._ops.append(op)
        self._sizes.append(size)
        self._mtimes.append(mtime_ns)

    def remove(self, op: Op, names: AbstractSet[str]) -> int:
        """Take back an action on some names; gives how many there were."""
        before = list(self)
        kept = [action for action in before if action.op is not op or action.name not in names]
        self._clear()
        for action in kept:
            self.add(*action)
        return len(before) - len(kept)

    def select(self, *wanted: Op) -> Iterator[Action]:
        """The actions of some kinds."""
        if any(op in self._ops for op in wanted):
            for action in self:
                if action.op in wanted:
                    yield action

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[Action]:
        expected = self._expected or {}
        for index, name in enumerate(self._names):
            op = _OPS[self._ops[index]]
            yield Action(op, name, expected.get(index, b""), self._sizes[index], self._mtimes[index])


class Link(NamedTuple):
    """Make ``name`` another name of the file ``leader`` (a path); see :class:`Action` for ``expected``."""

    work: Work
    name: str
    leader: str
    expected: bytes


class Notes:
    """Lines for a person: all are counted, the first :data:`NOTES_KEPT` are kept."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.count = 0

    def add(self, path: str, text: str) -> None:
        """Note something about a path."""
        self.count += 1
        if len(self.lines) < NOTES_KEPT:
            self.lines.append(f"{shown(path)}: {text}")


@dataclass(slots=True)
class Plan:
    """Everything to do, folders before what they hold; sums in files and bytes."""

    works: list[Work] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    conflicts: Notes = field(default_factory=Notes)
    blocked: Notes = field(default_factory=Notes)
    """Conflicts that no force resolves."""
    failed: Notes = field(default_factory=Notes)
    skipped: Notes = field(default_factory=Notes)
    unfit: Notes = field(default_factory=Notes)
    files: int = 0
    bytes: int = 0
    deletions: int = 0
    folders: int = 0
    metadata: int = 0
    unchanged: int = 0
    adopted: int = 0

    @property
    def empty(self) -> bool:
        """Nothing has to be written, not even a record."""
        return not (
            self.files
            or self.links
            or self.deletions
            or self.folders
            or self.metadata
            or self.adopted
            or any(work.finish for work in self.works)
        )

    def described(self) -> Iterator[tuple[str, str]]:
        """Every visible action as a verb and a path."""
        verbs = {
            Op.SYMLINK: "make symbolic link",
            Op.MAKE_FOLDER: "make folder",
            Op.METADATA: "update metadata",
            Op.DELETE: "delete",
        }
        for work in self.works:
            for action in work:
                if action.op is Op.COPY:
                    yield "overwrite" if action.expected else "copy", join(work.path, action.name)
                elif action.op in verbs:
                    yield verbs[action.op], join(work.path, action.name)
        for link in self.links:
            yield "make hard link", join(link.work.path, link.name)


_TICKS = (NTFS_TICK, 10_000_000, 1_000_000_000, 2_000_000_000)
"""Nanoseconds to which NTFS, exFAT, fuse2fs (before 1.47.1) and FAT keep times; all of them round down."""
_SIGNATURE = struct.Struct("<IQqQ")


def signature(entry: Entry) -> bytes:
    """What must still hold of a target name when it is replaced or deleted."""
    return _SIGNATURE.pack(entry.kind, entry.size, entry.mtime_ns, entry.inode)


def wanted_mode(mode: int, owner: int, group: int, uid: int, gid: int) -> int:
    """Permission bits of a copy: set-user-ID and set-group-ID are not handed to another owner."""
    if uid != 0 and mode & 0o6000 and mode & 0o170000 != FOLDER:
        if owner != uid:
            mode &= ~0o4000
        if group != gid:
            mode &= ~0o2000
    return mode & 0o7777


def same_metadata(source: Entry, target: Entry, uid: int, gid: int) -> bool:
    """Whether mode and owner are as they should be."""
    if uid == 0 and (source.uid != target.uid or source.gid != target.gid):
        return False
    if source.kind == SYMLINK:
        return True
    return wanted_mode(source.mode, source.uid, source.gid, uid, gid) == target.mode & 0o7777


def same_time(source: Entry, target: Entry) -> bool:
    """Whether a target was changed when its source was, to 100 ns."""
    return target.mtime_ns in (source.mtime_ns, source.mtime_ns // NTFS_TICK * NTFS_TICK)


def kept_as(given: int, shown: int) -> bool:
    """Whether a target that was given this time may show that one: not all filesystems keep it exactly.

    Two changes within that time cannot be told from each other by it: what was given has to be known otherwise, too.
    """
    return shown == given or any(shown == given // tick * tick for tick in _TICKS)


def same_state(source: Entry, target: Entry, records: Sequence[Record]) -> bool:
    """Whether a file's size and time are the source's, or what became of these when it was copied."""
    if source.size != target.size:
        return False
    if same_time(source, target):
        return True
    return any(record.mtime_ns == source.mtime_ns and is_ours(target, [record]) for record in records)


def is_ours(target: Entry, records: Sequence[Record]) -> bool:
    """Whether the target is in a state in which we left it (a folder: whether we made it)."""
    kind = target.kind
    for record in records:
        if record.kind != kind:
            continue
        if kind == FOLDER or (kind == SYMLINK and record.link == target.link):
            return True
        if kind == FILE and record.size == target.size and kept_as(record.mtime_ns, target.mtime_ns):
            return True
    return False
