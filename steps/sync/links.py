"""Making a further name of a file that is in the target already."""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from portunix_vdisk.steps.sync.ledger import CHANGED_HERE, CHANGED_THERE, Job, Ledger, bearable, still_expected
from portunix_vdisk.steps.sync.plan import Action, Work, kept_as
from portunix_vdisk.steps.sync.scan import FILE, Descent, look


class Linker:
    """Makes hard links below one top folder."""

    def __init__(self, ledger: Ledger, target: Descent) -> None:
        self.refused: list[tuple[Work, Action]] = []
        """What the filesystem cannot link: too many names of one file, or no hard links at all."""
        self._ledger = ledger
        self._target = target

    def link(self, job: Job, leader: str, folder: int) -> None:
        """Make ``job``'s name in an open folder a name of the file ``leader``, a path; failures are noted.

        Raises:
            OSError: the target cannot be written any more.
        """
        path, name = job.work.path, job.action.name
        leader_path, _, leader_name = leader.rpartition("/")
        if leader in self._ledger.failed:
            self._ledger.fail(path, name, "a hard link to a file that could not be synced")
            return
        here = os.dup(folder)
        try:
            there = self._target.open(leader_path)
            file = look(leader_name, there)
            kept = kept_as(job.action.mtime_ns, file.mtime_ns)
            if file.kind != FILE or file.size != job.action.size or not kept:
                self._ledger.fail(path, name, CHANGED_HERE)
            elif not still_expected(job.action, here):
                self._ledger.fail(path, name, CHANGED_THERE)
            else:
                _replace(leader_name, there, job, here)
                self._ledger.done.linked += 1
        except OSError as error:
            if error.errno in (errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP):
                self.refused.append((job.work, job.action))
            else:
                self._ledger.fail(path, name, bearable(error))
        finally:
            os.close(here)


def _replace(leader: str, there: int, job: Job, here: int) -> None:
    os.link(leader, job.temporary, src_dir_fd=there, dst_dir_fd=here, follow_symlinks=False)
    try:
        os.rename(job.temporary, job.action.name, src_dir_fd=here, dst_dir_fd=here)
    finally:
        # rename does nothing at all where both are names of one file already.
        with suppress(FileNotFoundError):
            os.unlink(job.temporary, dir_fd=here)
