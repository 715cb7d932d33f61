"""Making files under their temporary names: the work of one thread."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from portunix_vdisk.steps.sync.content import SourceChanged, SourceUnreadable, Version, copy_content, open_source
from portunix_vdisk.steps.sync.ledger import CHANGED_HERE, CHANGED_THERE, Job, bearable
from portunix_vdisk.steps.sync.metadata import Metadata
from portunix_vdisk.steps.sync.plan import Action, Op, Work, signature
from portunix_vdisk.steps.sync.scan import SYMLINK, Descent, Entry, entry_of, join, reason

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class _Stopped(Exception):
    pass


@dataclass(slots=True)
class Outcome:
    """What became of some jobs.

    ``written`` are whole under their temporary names; ``again`` are those whose source changed; ``trouble`` is an
    error after which nothing more can be written to the target.
    """

    written: list[Job] = field(default_factory=list)
    again: list[Job] = field(default_factory=list)
    failed: list[tuple[Job, str]] = field(default_factory=list)
    updated: int = 0
    taken: int = 0
    """How many jobs were begun; the last of them met the trouble."""
    trouble: OSError | None = None


class Copier:
    """Copies files and makes symbolic links; used by one thread at a time.

    Args:
        source: descriptor of the source's top folder.
        target: descriptor of the target's top folder, on filesystem ``device``.
        metadata: sets what is no content.
        stop: when set, the copier returns as soon as it can.
    """

    def __init__(self, source: int, target: int, device: int, metadata: Metadata, stop: threading.Event) -> None:
        self.moved = 0
        """Bytes copied so far, for progress."""
        self._source = Descent(source)
        self._target = Descent(target, device)
        self._metadata = metadata
        self._stop = stop
        self._work: Work | None = None
        self._folder = self._above = -1
        self._owner = metadata.uid, metadata.gid

    def close(self) -> None:
        """Close what was opened."""
        self._source.close()
        self._target.close()

    def run(self, jobs: Sequence[Job]) -> Outcome:
        """Do all jobs, or as many as can be done. Never raises for what can happen to files."""
        outcome = Outcome()
        try:
            for job in jobs:
                if self._stop.is_set():
                    break
                outcome.taken += 1
                self._one(job, outcome)
        except _Stopped:
            pass
        except OSError as error:
            outcome.trouble = error
        return outcome

    def _one(self, job: Job, outcome: Outcome) -> None:
        work, action, temporary, entry = job
        try:
            if self._work is not work:
                self._enter(work)
            if action.op is Op.COPY:
                self._copy(work, action, temporary)
                outcome.written.append(job)
            elif entry is None:
                raise SourceChanged
            elif action.op is Op.METADATA:
                self._update(job, entry)
                outcome.updated += 1
            elif entry.kind != SYMLINK:
                raise SourceChanged
            else:
                self._symlink(entry, temporary)
                outcome.written.append(job)
        except SourceChanged:
            outcome.again.append(job)
        except SourceUnreadable as trouble:
            outcome.failed.append((job, f"cannot be read: {trouble}"))
        except OSError as error:
            outcome.failed.append((job, bearable(error)))

    def _enter(self, work: Work) -> None:
        self._work = None
        self._folder = self._target.open(work.path)
        try:
            self._above = self._source.open(work.path)
        except OSError as error:
            raise SourceUnreadable(reason(error)) from error
        if self._metadata.uid == 0:
            info = os.fstat(self._folder)
            inherited = info.st_mode & stat.S_ISGID
            self._owner = 0, (info.st_gid if inherited else self._metadata.gid)
        self._work = work

    def _copy(self, work: Work, action: Action, temporary: str) -> None:
        folder = self._folder
        source, info = open_source(action.name, self._above, Version(action.size, action.mtime_ns))
        try:
            target = os.open(temporary, _CREATE, 0o600, dir_fd=folder)
            try:
                copy_content(source, target, info, self._count)
                self._metadata.apply(source, target, info, join(work.path, action.name), made_with=self._owner)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=folder)
                raise
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _count(self, count: int) -> None:
        self.moved += count
        if self._stop.is_set():
            raise _Stopped

    def _symlink(self, entry: Entry, temporary: str) -> None:
        os.symlink(entry.link, temporary, dir_fd=self._folder)
        try:
            self._dress_symlink(temporary, entry)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=self._folder)
            raise

    def _dress_symlink(self, name: str, entry: Entry) -> None:
        if self._metadata.uid == 0:
            os.chown(name, entry.uid, entry.gid, dir_fd=self._folder, follow_symlinks=False)
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=self._folder, follow_symlinks=False)

    def _update(self, job: Job, entry: Entry) -> None:
        """Set metadata of a file that stays, through a descriptor that follows nothing and needs no permission."""
        action = job.action
        target = os.open(action.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._folder)
        try:
            there = entry_of(os.fstat(target))
            # The second name of a file that was updated a moment ago has the new time already.
            if signature(there) != action.expected and there.mtime_ns != entry.mtime_ns:
                raise FileExistsError(errno.EEXIST, CHANGED_THERE)
            # Content was found equal to that version of the source, and to no other.
            if entry.mtime_ns != action.mtime_ns or there.kind != entry.kind or there.size != entry.size:
                raise FileExistsError(errno.EEXIST, CHANGED_HERE)
            if entry.kind == SYMLINK:
                self._dress_symlink(action.name, entry)
                return
            source, info = open_source(action.name, self._above, Version(entry.size, entry.mtime_ns))
            try:
                self._metadata.apply(source, f"/proc/self/fd/{target}", info, join(job.work.path, action.name))
            finally:
                os.close(source)
        finally:
            os.close(target)
