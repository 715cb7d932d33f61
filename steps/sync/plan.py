"""What has to be done to make the target a mirror of the source, and what stands in the way.

:func:`make_plan` decides from what :class:`Trees` shows it and touches nothing. Its rule of safety: only what is
known to be a former copy of ours, or has the content that the source has now, is ever replaced or deleted. Everything
else in the way is a conflict.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple, Protocol

from portunix_vdisk.steps.sync.scan import FILE, FOLDER, SYMLINK, Entry, Listing, join, shown

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

    ``device`` is the filesystem of the target. With ``uid`` 0 files keep their owners, otherwise they belong to
    ``uid`` and ``gid``.
    """

    delete: bool
    force: bool
    device: int
    uid: int
    gid: int


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


class Action(NamedTuple):
    """One thing to do.

    ``expected`` is the signature of what is there now; empty: nothing must be there. ``mtime_ns`` is the time of the
    source whose content the target has, where only metadata is to be set.
    """

    op: Op
    name: str
    expected: bytes
    mtime_ns: int = 0


@dataclass(slots=True)
class Work:
    """What is to be done in one folder. ``finish``: its own times and mode are to be set when all else is done."""

    path: str
    actions: list[Action] = field(default_factory=list)
    finish: bool = False


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
            for action in work.actions:
                if action.op is Op.COPY:
                    yield "overwrite" if action.expected else "copy", join(work.path, action.name)
                elif action.op in verbs:
                    yield verbs[action.op], join(work.path, action.name)
        for link in self.links:
            yield "make hard link", join(link.work.path, link.name)


_SIGNATURE = struct.Struct("<IQqQ")


def signature(entry: Entry) -> bytes:
    """What must still hold of a target name when it is replaced or deleted."""
    return _SIGNATURE.pack(entry.kind, entry.size, entry.mtime_ns, entry.inode)


def wanted_mode(entry: Entry, uid: int, gid: int) -> int:
    """Permission bits of a copy: set-user-ID and set-group-ID are not handed to another owner."""
    mode = entry.mode & 0o7777
    if uid != 0 and entry.kind != FOLDER:
        if entry.uid != uid:
            mode &= ~0o4000
        if entry.gid != gid:
            mode &= ~0o2000
    return mode


def same_metadata(source: Entry, target: Entry, uid: int, gid: int) -> bool:
    """Whether mode and owner are as they should be."""
    if uid == 0 and (source.uid != target.uid or source.gid != target.gid):
        return False
    return source.kind == SYMLINK or wanted_mode(source, uid, gid) == target.mode & 0o7777


def is_ours(target: Entry, records: Sequence[Record]) -> bool:
    """Whether the target is in a state in which we left it (a folder: whether we made it)."""
    kind = target.kind
    for record in records:
        if record.kind != kind:
            continue
        if kind == FOLDER or (kind == SYMLINK and record.link == target.link):
            return True
        if kind == FILE and record.size == target.size and record.mtime_ns == target.mtime_ns:
            return True
    return False


def make_plan(trees: Trees, source: Entry, target: Entry | None, options: Options) -> Plan:
    """Compare two trees, given their top folders, and decide.

    Raises what ``trees`` raises. With conflicts in the plan (and no ``force``) nothing of it may be applied.
    """
    return _Planner(trees, options).run(source, target)


class _Verdict(IntEnum):
    COPY = 1
    METADATA = 2
    SAME = 3
    UNRECORDED = 4


class _Member(NamedTuple):
    """A regular file whose hard links have to be looked at together."""

    work: Work
    name: str
    verdict: _Verdict
    expected: bytes
    inode: int
    links: int
    size: int
    mtime_ns: int


class _Planner:
    def __init__(self, trees: Trees, options: Options) -> None:
        self._trees = trees
        self._options = options
        self._plan = Plan()
        self._groups: dict[tuple[int, int], list[_Member]] = {}
        self._kept: set[str] = set()

    def run(self, source: Entry, target: Entry | None) -> Plan:
        stack = [("", target is not None, target is None or self._folder_differs(source, target))]
        while stack:
            path, in_target, finish = stack.pop()
            work = self._work(path, finish)
            below = self._folder(work, in_target)
            stack.extend(reversed(below))
        self._link_up()
        self._keep()
        self._plan.works = [work for work in self._plan.works if work.actions or work.finish]
        return self._plan

    def _work(self, path: str, finish: bool = False) -> Work:
        work = Work(path, finish=finish)
        self._plan.works.append(work)
        return work

    def _folder(self, work: Work, in_target: bool) -> list[tuple[str, bool, bool]]:
        """Plan one folder; gives the folders below that come next."""
        plan, path = self._plan, work.path
        source = self._trees.source(path)
        target = self._trees.target(path) if in_target else Listing()
        if source.failure:
            plan.failed.add(path or ".", source.failure)
        if target.failure:
            plan.failed.add(path or ".", f"in the target: {target.failure}")
            return []
        for name, problem in source.problems.items():
            plan.failed.add(join(path, name), problem)
        records = self._trees.records(path) if in_target else {}
        below: list[tuple[str, bool, bool]] = []
        for name in sorted(source.entries):
            wanted = source.entries[name]
            if name in target.problems:
                plan.failed.add(join(path, name), f"in the target: {target.problems[name]}")
                continue
            there = target.entries.get(name)
            known = records.get(name, ())
            if wanted.kind == FILE:
                self._file(work, name, wanted, there, known)
            elif wanted.kind == FOLDER:
                below.extend(self._subfolder(work, name, wanted, there, known))
            elif wanted.kind == SYMLINK:
                self._symlink(work, name, wanted, there, known)
            else:
                plan.skipped.add(join(path, name), "not a file, folder or symbolic link")
        if not source.failure:
            self._gone(work, source, target, records)
        return below

    def _gone(self, work: Work, source: Listing, target: Listing, records: Mapping[str, Sequence[Record]]) -> None:
        """Names that the source does not have."""
        present = source.entries.keys() | source.problems.keys()
        if self._options.delete:
            for name in sorted(target.entries.keys() - present):
                self._remove(work, name, target.entries[name], records.get(name, ()))
        for name in records.keys() - present - target.entries.keys() - target.problems.keys():
            work.actions.append(Action(Op.FORGET, name, b""))

    # regular files ------------------------------------------------------------------------------------

    def _file(self, work: Work, name: str, wanted: Entry, there: Entry | None, known: Sequence[Record]) -> None:
        expected, inode, links = b"", 0, 1
        if there is None:
            verdict = _Verdict.COPY
        elif there.kind != FILE:
            clear = self._clear(work, name, wanted, there, known)
            if clear is None:
                return
            verdict, expected = _Verdict.COPY, clear
        else:
            expected, inode, links = signature(there), there.inode, there.links
            if wanted.size == there.size and wanted.mtime_ns == there.mtime_ns:
                if not same_metadata(wanted, there, self._options.uid, self._options.gid):
                    verdict = _Verdict.METADATA
                else:
                    verdict = _Verdict.SAME if _confirmed(there, known) else _Verdict.UNRECORDED
            elif is_ours(there, known):
                verdict = _Verdict.COPY
            elif wanted.size == there.size and self._trees.same_content(join(work.path, name)):
                verdict = _Verdict.METADATA
            else:
                self._conflict(join(work.path, name), known)
                if not self._options.force:
                    return
                verdict = _Verdict.COPY
        member = _Member(work, name, verdict, expected, inode, links, wanted.size, wanted.mtime_ns)
        if wanted.links > 1 or links > 1:
            self._groups.setdefault((wanted.device, wanted.inode), []).append(member)
        else:
            self._settle(member)

    def _settle(self, member: _Member) -> None:
        """Plan what one file needs by itself."""
        plan, verdict = self._plan, member.verdict
        if verdict is _Verdict.COPY:
            plan.files += 1
            plan.bytes += member.size
            member.work.actions.append(Action(Op.COPY, member.name, member.expected))
            member.work.finish = True
        elif verdict is _Verdict.METADATA:
            plan.metadata += 1
            member.work.actions.append(Action(Op.METADATA, member.name, member.expected, member.mtime_ns))
        else:
            plan.unchanged += 1
            if verdict is _Verdict.UNRECORDED:
                plan.adopted += 1
                member.work.actions.append(Action(Op.ADOPT, member.name, member.expected))

    def _link_up(self) -> None:
        """Give each hard-link group of the source one file of its own in the target.

        A target file that is right already stays and becomes the leader, to which the other names are linked;
        without one the first name is copied. No two groups may share a file.
        """
        taken: set[int] = set()
        for group in self._groups.values():
            holders: dict[int, list[_Member]] = {}
            for member in group:
                if member.verdict is not _Verdict.COPY and member.inode not in taken:
                    holders.setdefault(member.inode, []).append(member)
            right = max(holders.values(), key=len) if holders else []
            if right and right[0].verdict is _Verdict.METADATA and right[0].links > len(right):
                right = []  # in place, the change would show under a name that is no part of this group
            if right:
                taken.add(right[0].inode)
                leader = right[0]
                for member in right:
                    self._settle(member)
            else:
                leader = group[0]
                self._settle(leader._replace(verdict=_Verdict.COPY))
            settled = {id(member) for member in right} | {id(leader)}
            for member in group:
                if id(member) not in settled:
                    member.work.finish = True
                    path = join(leader.work.path, leader.name)
                    self._plan.links.append(Link(member.work, member.name, path, member.expected))
        self._groups.clear()

    # folders and symbolic links -----------------------------------------------------------------------

    def _subfolder(
        self, work: Work, name: str, wanted: Entry, there: Entry | None, known: Sequence[Record]
    ) -> list[tuple[str, bool, bool]]:
        path = join(work.path, name)
        if there is not None and there.kind == FOLDER:
            if there.device != self._options.device:
                self._plan.failed.add(path, MOUNTED_THERE)
                return []
            differs = self._folder_differs(wanted, there)
            self._plan.metadata += differs
            if not _confirmed(there, known):
                self._plan.adopted += 1
                work.actions.append(Action(Op.ADOPT, name, b""))
            return [(path, True, differs)]
        if there is not None and self._clear(work, name, wanted, there, known) is None:
            return []
        self._plan.folders += 1
        work.actions.append(Action(Op.MAKE_FOLDER, name, b""))
        work.finish = True
        return [(path, False, True)]

    def _folder_differs(self, wanted: Entry, there: Entry) -> bool:
        same = same_metadata(wanted, there, self._options.uid, self._options.gid)
        return not same or wanted.mtime_ns != there.mtime_ns

    def _symlink(self, work: Work, name: str, wanted: Entry, there: Entry | None, known: Sequence[Record]) -> None:
        plan = self._plan
        if there is None:
            expected: bytes | None = b""
        elif there.kind == SYMLINK and there.link == wanted.link:
            same = same_metadata(wanted, there, self._options.uid, self._options.gid)
            if not same or wanted.mtime_ns != there.mtime_ns:
                plan.metadata += 1
                work.actions.append(Action(Op.METADATA, name, signature(there), wanted.mtime_ns))
            else:
                plan.unchanged += 1
                if not _confirmed(there, known):
                    plan.adopted += 1
                    work.actions.append(Action(Op.ADOPT, name, signature(there)))
            return
        else:
            expected = self._clear(work, name, wanted, there, known)
        if expected is not None:
            plan.files += 1
            work.actions.append(Action(Op.SYMLINK, name, expected))
            work.finish = True

    # what stands in the way ---------------------------------------------------------------------------

    def _conflict(self, path: str, known: Sequence[Record]) -> None:
        self._plan.conflicts.add(path, "changed since the last sync" if known else "never synced, and differs")

    def _clear(self, work: Work, name: str, wanted: Entry, there: Entry, known: Sequence[Record]) -> bytes | None:
        """Make way for something else at this name: what to expect there afterwards, or None if that cannot be."""
        path = join(work.path, name)
        if there.kind == FOLDER:
            self._remove(work, name, there, known)
            if path in self._kept:
                self._plan.blocked.add(path, f"cannot be replaced: {MOUNTED_THERE}, or it cannot be read")
                return None
            return b""
        if not is_ours(there, known):
            self._conflict(path, known)
            if not self._options.force:
                return None
        if wanted.kind == FOLDER:
            self._delete(work, name, there)
            work.finish = True
            return b""
        return signature(there)

    def _delete(self, work: Work, name: str, there: Entry) -> None:
        self._plan.deletions += 1
        work.actions.append(Action(Op.DELETE, name, b"" if there.kind == FOLDER else signature(there)))

    def _remove(self, work: Work, name: str, there: Entry, known: Sequence[Record]) -> None:
        """Plan the removal of one name, and of everything below it."""
        work.finish = True
        stack = [(work, name, there, known)]
        while stack:
            holder, name, there, known = stack.pop()
            path = join(holder.path, name)
            if there.kind == FOLDER and there.device != self._options.device:
                self._keep_above(path, MOUNTED_THERE)
                continue
            if not is_ours(there, known):
                self._conflict(path, known)
                if not self._options.force:
                    if there.kind == FOLDER and not known:
                        continue  # one line for a folder that was never synced, not one for each file in it
                    if there.kind != FOLDER:
                        continue
            self._delete(holder, name, there)
            if there.kind != FOLDER:
                continue
            inner = self._work(path)
            listing = self._trees.target(path)
            if listing.failure or listing.problems:
                self._keep_above(path, listing.failure or next(iter(listing.problems.values())))
            records = self._trees.records(path)
            for child in sorted(listing.entries, reverse=True):
                stack.append((inner, child, listing.entries[child], records.get(child, ())))

    def _keep_above(self, path: str, why: str) -> None:
        """Something stays: so do all folders above it."""
        self._plan.skipped.add(path, f"not deleted: {why}")
        while path:
            self._kept.add(path)
            path = path.rpartition("/")[0]

    def _keep(self) -> None:
        """Take back the deletion of folders in which something stays."""
        if not self._kept:
            return
        for work in self._plan.works:
            before = len(work.actions)
            work.actions = [
                a for a in work.actions if a.op is not Op.DELETE or join(work.path, a.name) not in self._kept
            ]
            self._plan.deletions -= before - len(work.actions)


def _confirmed(there: Entry, known: Sequence[Record]) -> bool:
    return is_ours(there, [record for record in known if record.confirmed])
