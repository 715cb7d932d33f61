"""Doing what a plan says, so that a stop at any moment leaves whole files and a record that knows them.

The order that makes it safe: what goes is deleted; intentions are written down before anything is made; folders, then
files (see :mod:`portunix_vdisk.steps.sync.pipeline`), then further hard links; the folders' own times; stable storage;
and only then the record accepts the new states and forgets the old ones.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice

from portunix_vdisk.steps.step import Context
from portunix_vdisk.steps.sync.flush import Flush
from portunix_vdisk.steps.sync.ledger import CHANGED_HERE, CHANGED_THERE, Job, Ledger, bearable
from portunix_vdisk.steps.sync.links import Linker
from portunix_vdisk.steps.sync.metadata import Metadata
from portunix_vdisk.steps.sync.pipeline import Pipeline
from portunix_vdisk.steps.sync.plan import Action, Op, Plan, Work, signature
from portunix_vdisk.steps.sync.record import State, SyncRecord
from portunix_vdisk.steps.sync.scan import FOLDER, Descent, Entry, join, look, reason

INTENDED_AT_ONCE = 8192
BATCH_FILES = 2048
BATCH_BYTES = 64 << 20
_MAKING = (Op.COPY, Op.SYMLINK, Op.MAKE_FOLDER, Op.METADATA)


class Apply:
    """Applies one plan to the target; see :meth:`run`.

    Args:
        source: descriptor of the source's top folder.
        target: descriptor of the target's top folder; only its filesystem is ever touched.
        pipeline: entered by the caller.
    """

    def __init__(
        self,
        plan: Plan,
        ledger: Ledger,
        record: SyncRecord,
        metadata: Metadata,
        pipeline: Pipeline,
        source: int,
        target: int,
    ) -> None:
        self._plan = plan
        self._ledger = ledger
        self._record = record
        self._metadata = metadata
        self._pipeline = pipeline
        self._pulse = pipeline.pulse
        self._top = target
        self._source = Descent(source)
        self._target = Descent(target, os.fstat(target).st_dev)

    def close(self) -> None:
        """Close what was opened."""
        self._source.close()
        self._target.close()

    def run(self, ctx: Context) -> None:
        """Do everything. What cannot be done for one file is noted in the plan's ``failed``.

        Raises:
            OSError: the target is full or broken; running again continues.
            VdiskError: of the record; ``Interrupted``; running again continues.
        """
        works = self._plan.works
        self._delete()
        self._make((work, action) for work in works for action in work.select(*_MAKING))
        self._pipeline.last = True
        self._make(self._pipeline.again, again=True)
        copies = self._link()
        if copies:
            ctx.warn(f"{len(copies)} hard links cannot be made in the target: copied as files of their own")
            self._make(copies, again=True)
        self._finish()
        Flush(self._top).wait(self._pulse.beat)
        self._confirm()

    def _delete(self) -> None:
        """Delete what has to go, the deepest first."""
        for work in reversed(self._plan.works):
            for action in work.select(Op.DELETE):
                self._pulse.beat()
                folder = self._writable(work, doomed=True)
                try:
                    if folder is None:
                        self._ledger.failed.add(join(work.path, action.name))
                        continue
                    if not action.expected:
                        os.rmdir(action.name, dir_fd=folder)
                    elif signature(look(action.name, folder)) == action.expected:
                        os.unlink(action.name, dir_fd=folder)
                    else:
                        self._ledger.fail(work.path, action.name, f"not deleted: {CHANGED_THERE}")
                        continue
                except FileNotFoundError:
                    pass
                except OSError as error:
                    self._ledger.fail(work.path, action.name, f"not deleted: {bearable(error)}")
                    continue
                self._ledger.done.deleted += 1

    # making -------------------------------------------------------------------------------------------

    def _make(self, wanted: Iterable[tuple[Work, Action]], *, again: bool = False) -> None:
        """Make folders at once, and push everything else through the pipeline in batches."""
        wanted = iter(wanted)
        batch: list[Job] = []
        size = 0
        while chunk := list(islice(wanted, INTENDED_AT_ONCE)):
            for job in self._prepared(chunk, again=again):
                if not self._in_place(job):
                    continue
                batch.append(job)
                size += job.action.size
                if len(batch) >= BATCH_FILES or size >= BATCH_BYTES:
                    self._pipeline.push(batch)
                    batch, size = [], 0
        self._pipeline.push(batch)
        self._pipeline.finish()

    def _prepared(self, chunk: Iterable[tuple[Work, Action]], *, again: bool = False) -> list[Job]:
        """Write down durably what is going to be made; with ``again``, of the source as it is now."""
        jobs: list[Job] = []
        states: list[State] = []
        for work, action in chunk:
            self._pulse.beat()
            entry: Entry | None = None
            temporary = self._ledger.temporary(action)
            if again or action.op not in (Op.COPY, Op.MAKE_FOLDER):
                try:
                    entry = look(action.name, self._source.open(work.path))
                except OSError as error:
                    self._ledger.fail(work.path, action.name, f"{CHANGED_HERE}: {reason(error)}")
                    continue
                if action.op is Op.COPY:
                    action = action._replace(size=entry.size, mtime_ns=entry.mtime_ns)
                states.append(self._ledger.state(work.path, action.name, entry, temporary))
            else:
                states.append(self._ledger.planned_state(work.path, action, temporary))
            jobs.append(Job(work, action, os.fsdecode(temporary) if temporary else "", entry))
        self._record.intend(states)
        return jobs

    def _in_place(self, job: Job) -> bool:
        """Make a folder, or the folder of a file writable; true if there is something left for the pipeline."""
        work, action = job.work, job.action
        if action.op is not Op.MAKE_FOLDER and not work.closed:
            return True
        folder = self._writable(work)
        if folder is None:
            self._ledger.failed.add(join(work.path, action.name))
            return False
        if action.op is not Op.MAKE_FOLDER:
            return True
        self._pulse.beat()
        try:
            os.mkdir(action.name, 0o700, dir_fd=folder)
            self._ledger.done.folders += 1
        except OSError as error:
            self._ledger.fail(work.path, action.name, bearable(error))
        return False

    def _writable(self, work: Work, *, doomed: bool = False) -> int | None:
        """The open target folder, made writable for us if it is ours; None (and noted) if it cannot be opened."""
        if work.path in self._ledger.failed:
            return None
        try:
            folder = self._target.open(work.path)
            if work.closed and (work.finish or doomed) and self._metadata.uid != 0:
                os.chmod(folder, 0o700)  # noqa: PTH101 - a descriptor
                work.closed = False  # its own mode is set again at the end
        except OSError as error:
            self._ledger.fail_path(work.path, bearable(error))
            return None
        return folder

    def _link(self) -> list[tuple[Work, Action]]:
        """Make the further names of files; gives those that have to be copies of their own."""
        linker = Linker(self._ledger, self._target)
        links = iter(self._plan.links)
        while chunk := list(islice(links, INTENDED_AT_ONCE)):
            leaders = {(id(link.work), link.name): link.leader for link in chunk}
            jobs = self._prepared(
                ((link.work, Action(Op.COPY, link.name, link.expected, 0, 0)) for link in chunk), again=True
            )
            for job in jobs:
                self._pulse.beat()
                folder = self._writable(job.work)
                if folder is None:
                    self._ledger.failed.add(join(job.work.path, job.action.name))
                else:
                    linker.link(job, leaders[id(job.work), job.action.name], folder)
        return linker.refused

    # the end ------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """Set the folders' own metadata, deepest first, when nothing inside will change any more."""
        for work in reversed(self._plan.works):
            if not work.finish or work.path in self._ledger.failed:
                continue
            self._pulse.beat()
            try:
                source = self._source.open(work.path)
                info = os.fstat(source)
            except OSError as error:
                self._ledger.fail_path(work.path, f"cannot be read: {reason(error)}")
                continue
            try:
                target = self._target.open(work.path)
                self._metadata.apply(source, target, info, work.path or ".")
            except OSError as error:
                self._ledger.fail_path(work.path, bearable(error))

    def _confirm(self) -> None:
        failed = self._ledger.failed
        self._record.confirm(
            given_up=map(self._ledger.key_of_path, failed),
            forgotten=(
                self._ledger.key(work.path, action.name)
                for work in self._plan.works
                for action in work.select(Op.DELETE, Op.FORGET)
                if join(work.path, action.name) not in failed
            ),
            adopted=self._adopted(),
            pause=self._pulse.beat,
        )

    def _adopted(self) -> Iterator[State]:
        """What was right already, if it still is."""
        for work in self._plan.works:
            for action in work.select(Op.ADOPT):
                there = self._there(work, action)
                if there is not None:
                    yield self._ledger.state(work.path, action.name, there)

    def _there(self, work: Work, action: Action) -> Entry | None:
        try:
            there = look(action.name, self._target.open(work.path))
        except OSError:
            return None
        right = signature(there) == action.expected if action.expected else there.kind == FOLDER
        return there if right else None
