"""Writing, flushing and naming files, overlapped.

While one batch is written by threads, the one before is brought to stable storage, and the caller prepares the next.
No file gets its name before its content is on stable storage, so that not even a power cut leaves half a file.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress

from portunix_vdisk.steps.step import Context
from portunix_vdisk.steps.sync.copier import Copier, Outcome
from portunix_vdisk.steps.sync.flush import Flush
from portunix_vdisk.steps.sync.ledger import CHANGED_HERE, CHANGED_THERE, Job, Ledger, bearable, still_expected
from portunix_vdisk.steps.sync.metadata import Metadata
from portunix_vdisk.steps.sync.plan import Action, Op, Work
from portunix_vdisk.steps.sync.pulse import Pulse
from portunix_vdisk.steps.sync.scan import Descent

_POLL_SECONDS = 0.05


class Pipeline:
    """Takes batches of jobs; use as a context, which on an exception removes what has no name yet.

    Args:
        source: descriptor of the source's top folder.
        target: descriptor of the target's top folder.
        total: bytes to copy in all, for progress.
    """

    def __init__(self, ctx: Context, ledger: Ledger, metadata: Metadata, source: int, target: int, total: int) -> None:
        self.again: list[tuple[Work, Action]] = []
        """Jobs whose source changed while it was copied."""
        self.last = False
        """Set for a second try: a source that changes again has failed."""
        self._ledger = ledger
        self._top = target
        self._stop = threading.Event()
        device = os.fstat(target).st_dev
        self._copier = Copier(source, target, device, metadata, self._stop)
        self._names = Descent(target, device)
        self._thread = ThreadPoolExecutor(1, "sync")
        self._running: tuple[Sequence[Job], Future[Outcome]] | None = None
        self._written: list[Job] = []
        self._flushing: list[Job] = []
        self._flush: Flush | None = None
        self.pulse = Pulse(ctx, total, lambda: self._copier.moved)

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._stop.set()
        self._thread.shutdown()
        if self._running is not None:
            self._written += self._running[1].result().written
        self._discard(self._flushing + self._written)
        self._names.close()
        self._copier.close()

    def push(self, batch: Sequence[Job]) -> None:
        """Start writing a batch; returns while it is being written.

        Raises:
            OSError: the target is full or broken.
            Interrupted: at a safe point.
        """
        left = self._collect()
        while left:
            # The target is full. Former versions of what is written already give their space back.
            if not self._name_everything():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._start(left)
            left = self._collect()
        self._start(batch)
        self._name_flushed()
        self._flushing, self._written = self._written, []
        self._flush = Flush(self._top) if self._flushing else None

    def finish(self) -> None:
        """Return when every job that was pushed is done. Raises what :meth:`push` raises."""
        self.push(())
        self.push(())

    def _start(self, batch: Sequence[Job]) -> None:
        self._running = (batch, self._thread.submit(self._copier.run, batch)) if batch else None

    def _collect(self) -> Sequence[Job]:
        """Wait for the thread; gives what is left because the target is full."""
        if self._running is None:
            return ()
        batch, future = self._running
        while wait([future], _POLL_SECONDS).not_done:
            self.pulse.beat()
        self._running = None
        outcome = future.result()
        self._written += outcome.written
        self._ledger.done.metadata += outcome.updated
        for job, why in outcome.failed:
            self._ledger.fail(job.work.path, job.action.name, why)
        for job in outcome.again:
            if self.last or job.action.op is not Op.COPY:
                self._ledger.fail(job.work.path, job.action.name, CHANGED_HERE)
            else:
                self.again.append((job.work, job.action))
        if outcome.trouble is None:
            return ()
        if outcome.trouble.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise outcome.trouble
        return batch[outcome.taken - 1 :]

    def _name_flushed(self) -> None:
        if self._flush is not None:
            self._flush.wait(self.pulse.beat)
            self._flush = None
        self._publish(self._flushing)

    def _name_everything(self) -> int:
        """Flush and name all that is written; gives how many there were."""
        count = len(self._flushing) + len(self._written)
        Flush(self._top).wait(self.pulse.beat)
        self._name_flushed()
        self._publish(self._written)
        return count

    def _publish(self, written: list[Job]) -> None:
        """Give whole files, which are on stable storage, their names; ``written`` is empty afterwards."""
        done = self._ledger.done
        written.reverse()
        while written:
            work, action, temporary, _ = written[-1]
            self.pulse.beat()
            try:
                folder = self._names.open(work.path)
                if still_expected(action, folder):
                    os.rename(temporary, action.name, src_dir_fd=folder, dst_dir_fd=folder)
                    done.files += 1
                    done.bytes += action.size
                else:
                    os.unlink(temporary, dir_fd=folder)
                    self._ledger.fail(work.path, action.name, CHANGED_THERE)
            except OSError as error:
                self._ledger.fail(work.path, action.name, bearable(error))
                self._discard(written[-1:])
            written.pop()

    def _discard(self, written: Sequence[Job]) -> None:
        for job in written:
            with suppress(OSError):
                os.unlink(job.temporary, dir_fd=self._names.open(job.work.path))
