"""Deciding what has to be done to make the target a mirror of the source, and what stands in the way.

:func:`make_plan` decides from what :class:`Trees` shows it and touches nothing. Its rule of safety: only what is
known to be a former copy of ours, or has the content that the source has now, is ever replaced or deleted. Everything
else in the way is a conflict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from portunix_vdisk.steps.sync.groups import Member, Verdict, hard_links
from portunix_vdisk.steps.sync.plan import (
    MOUNTED_THERE,
    Link,
    Op,
    Options,
    Plan,
    Record,
    Trees,
    Work,
    is_ours,
    kept_as,
    same_state,
    signature,
)
from portunix_vdisk.steps.sync.scan import FILE, FOLDER, SYMLINK, Entry, Listing, join


def make_plan(trees: Trees, source: Entry, target: Entry | None, options: Options) -> Plan:
    """Compare two trees, given their top folders, and decide.

    Raises what ``trees`` raises. With conflicts in the plan (and no ``force``) nothing of it may be applied.
    """
    return _Planner(trees, options).run(source, target)


class _Next(NamedTuple):
    """A folder that is to be planned next."""

    path: str
    in_target: bool
    differs: bool
    closed: bool


class _Planner:
    def __init__(self, trees: Trees, options: Options) -> None:
        self._trees = trees
        self._options = options
        self._plan = Plan()
        self._groups: dict[tuple[int, int], list[Member]] = {}
        self._kept: set[str] = set()

    def run(self, source: Entry, target: Entry | None) -> Plan:
        differs = target is None or self._folder_differs(source, target)
        stack = [_Next("", target is not None, differs, target is not None and _closed(target))]
        while stack:
            path, in_target, differs, closed = stack.pop()
            work = Work(path, finish=differs, closed=closed)
            self._plan.works.append(work)
            stack.extend(reversed(self._folder(work, in_target)))
        self._link_up()
        self._keep()
        self._plan.works = [work for work in self._plan.works if len(work) or work.finish]
        return self._plan

    def _folder(self, work: Work, in_target: bool) -> list[_Next]:
        """Plan one folder; gives the folders below that come next."""
        plan, path = self._plan, work.path
        source = self._trees.source(path)
        target = self._trees.target(path) if in_target else Listing()
        if source.failure:
            plan.failed.add(path or ".", source.failure)
            work.finish = False
        if target.failure:
            plan.failed.add(path or ".", f"in the target: {target.failure}")
            return []
        for name, problem in source.problems.items():
            plan.failed.add(join(path, name), problem)
        records = self._trees.records(path) if in_target else {}
        below: list[_Next] = []
        fits = self._options.fits
        twins = fits.twins(source.entries)
        for name in sorted(source.entries):
            wanted = source.entries[name]
            if trouble := fits.trouble(name, wanted, twins):
                plan.unfit.add(join(path, name), trouble)
                continue
            if name in target.problems:
                plan.failed.add(join(path, name), f"in the target: {target.problems[name]}")
                continue
            there = target.entries.get(name)
            known = records.get(name, ())
            if there is not None and wanted[:5] == there[:5] and _settled(wanted, there, known):
                plan.unchanged += 1
            elif wanted.kind == FILE:
                self._file(work, name, wanted, there, known)
            elif wanted.kind == FOLDER:
                below.extend(self._subfolder(work, name, wanted, there, known))
            elif wanted.kind == SYMLINK and not fits.links:
                plan.skipped.add(join(path, name), f"a symbolic link, which {fits.name} cannot hold")
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
            work.add(Op.FORGET, name)

    # regular files ------------------------------------------------------------------------------------

    def _file(self, work: Work, name: str, wanted: Entry, there: Entry | None, known: Sequence[Record]) -> None:
        expected, inode, links = b"", 0, 1
        if there is None:
            verdict = Verdict.COPY
        elif there.kind != FILE:
            clear = self._clear(work, name, wanted, there, known)
            if clear is None:
                return
            verdict, expected = Verdict.COPY, clear
        else:
            expected, inode, links = signature(there), there.inode, there.links
            if same_state(wanted, there, known):
                if not self._options.same_metadata(wanted, there):
                    verdict = Verdict.METADATA
                else:
                    verdict = Verdict.SAME if _confirmed(there, known) else Verdict.UNRECORDED
            elif is_ours(there, known):
                verdict = Verdict.COPY
            elif wanted.size == there.size and self._trees.same_content(join(work.path, name)):
                verdict = Verdict.METADATA
            else:
                self._conflict(join(work.path, name), known)
                if not self._options.force:
                    return
                verdict = Verdict.COPY
        member = Member(work, name, verdict, expected, inode, links, wanted.size, wanted.mtime_ns)
        if self._options.fits.links and (wanted.links > 1 or links > 1):
            self._groups.setdefault((wanted.device, wanted.inode), []).append(member)
        else:
            self._settle(member)

    def _settle(self, member: Member) -> None:
        """Plan what one file needs by itself."""
        plan, verdict = self._plan, member.verdict
        if verdict is Verdict.COPY:
            plan.files += 1
            plan.bytes += member.size
            member.work.add(Op.COPY, member.name, member.expected, member.size, member.mtime_ns)
            member.work.finish = True
        elif verdict is Verdict.METADATA:
            plan.metadata += 1
            member.work.add(Op.METADATA, member.name, member.expected, member.size, member.mtime_ns)
        else:
            plan.unchanged += 1
            if verdict is Verdict.UNRECORDED:
                plan.adopted += 1
                member.work.add(Op.ADOPT, member.name, member.expected)

    def _link_up(self) -> None:
        """Decide about all files with several names, together."""
        for settled, leader, others in hard_links(self._groups.values()):
            for member in settled:
                self._settle(member)
            for member in others:
                member.work.finish = True
                path = join(leader.work.path, leader.name)
                self._plan.links.append(Link(member.work, member.name, path, member.expected))
        self._groups.clear()

    # folders and symbolic links -----------------------------------------------------------------------

    def _subfolder(
        self, work: Work, name: str, wanted: Entry, there: Entry | None, known: Sequence[Record]
    ) -> list[_Next]:
        path = join(work.path, name)
        if there is not None and there.kind == FOLDER:
            if there.device != self._options.device:
                self._plan.failed.add(path, MOUNTED_THERE)
                return []
            differs = self._folder_differs(wanted, there)
            self._plan.metadata += differs
            if not _confirmed(there, known):
                self._plan.adopted += 1
                work.add(Op.ADOPT, name)
            return [_Next(path, True, differs, _closed(there))]
        if there is not None and self._clear(work, name, wanted, there, known) is None:
            return []
        self._plan.folders += 1
        work.add(Op.MAKE_FOLDER, name)
        work.finish = True
        return [_Next(path, False, True, False)]

    def _folder_differs(self, wanted: Entry, there: Entry) -> bool:
        same = self._options.same_metadata(wanted, there)
        return not same or not kept_as(wanted.mtime_ns, there.mtime_ns)

    def _symlink(self, work: Work, name: str, wanted: Entry, there: Entry | None, known: Sequence[Record]) -> None:
        plan = self._plan
        if there is None:
            expected: bytes | None = b""
        elif there.kind == SYMLINK and there.link == wanted.link:
            same = self._options.same_metadata(wanted, there)
            if not same or not kept_as(wanted.mtime_ns, there.mtime_ns):
                plan.metadata += 1
                work.add(Op.METADATA, name, signature(there), wanted.size, wanted.mtime_ns)
            else:
                plan.unchanged += 1
                if not _confirmed(there, known):
                    plan.adopted += 1
                    work.add(Op.ADOPT, name, signature(there))
            return
        else:
            expected = self._clear(work, name, wanted, there, known)
        if expected is not None:
            plan.files += 1
            work.add(Op.SYMLINK, name, expected)
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
        work.add(Op.DELETE, name, b"" if there.kind == FOLDER else signature(there))

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
            inner = Work(path, closed=_closed(there))
            self._plan.works.append(inner)
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
        stays: dict[str, set[str]] = {}
        for path in self._kept:
            folder, _, name = path.rpartition("/")
            stays.setdefault(folder, set()).add(name)
        for work in self._plan.works if stays else ():
            if work.path in stays:
                self._plan.deletions -= work.remove(Op.DELETE, stays[work.path])


def _closed(there: Entry) -> bool:
    return there.mode & 0o300 != 0o300


def _settled(wanted: Entry, there: Entry, known: Sequence[Record]) -> bool:
    """A short way for nearly all files of nearly all runs: mode, size, time and owner are equal."""
    if wanted.links != 1 or there.links != 1 or len(known) != 1 or wanted.mode & 0o176000 != FILE:
        return False
    kind, size, mtime_ns, _, confirmed = known[0]
    return confirmed and kind == FILE and size == there.size and mtime_ns == there.mtime_ns


def _confirmed(there: Entry, known: Sequence[Record]) -> bool:
    return is_ours(there, [record for record in known if record.confirmed])
