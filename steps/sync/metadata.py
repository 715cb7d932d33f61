"""Owner, extended attributes, mode and times of a copy, set through descriptors."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from portunix_vdisk.steps.sync.plan import Notes, wanted_mode
from portunix_vdisk.steps.sync.scan import Entry, reason

_NO_ATTRIBUTES = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


@dataclass(frozen=True, slots=True)
class Metadata:
    """Sets what belongs to a copy besides its content.

    ``uid`` 0 keeps owners and system attributes; otherwise files belong to ``uid`` and ``gid``. Attributes that
    cannot be set are noted in ``refused`` and stop nothing.
    """

    uid: int
    gid: int
    refused: Notes

    def apply(
        self, source: int | None, target: int | str, wanted: Entry, path: str, *, atime_ns: int, fresh: bool = False
    ) -> None:
        """Make the target's metadata those of the source.

        Args:
            source: open source, for its extended attributes; None if it has none that could be read.
            target: a descriptor, or a name of it below ``/proc/self/fd``.
            wanted: what ``lstat`` said of the source.
            path: for messages.
            atime_ns: access time to set.
            fresh: the target was just made and has no attributes that could be too many.

        Raises:
            OSError: an error of the target.
        """
        if self.uid == 0:
            # First, because it clears set-user-ID bits and file capabilities.
            os.chown(target, wanted.uid, wanted.gid)
        if source is not None:
            self._attributes(source, target, path, fresh)
        os.chmod(target, wanted_mode(wanted, self.uid, self.gid))  # noqa: PTH101 - a descriptor
        os.utime(target, ns=(atime_ns, wanted.mtime_ns))

    def _attributes(self, source: int, target: int | str, path: str, fresh: bool) -> None:
        try:
            wanted = [name for name in os.listxattr(source) if self._ours(name)]
            there = [] if fresh else [name for name in os.listxattr(target) if self._ours(name)]
        except OSError as error:
            if error.errno not in _NO_ATTRIBUTES:
                self.refused.add(path, reason(error))
            return
        for name in wanted:
            try:
                os.setxattr(target, name, os.getxattr(source, name))
            except OSError as error:
                self.refused.add(path, f"{name}: {reason(error)}")
        for name in there:
            if name not in wanted and name != "security.selinux":
                try:
                    os.removexattr(target, name)
                except OSError as error:
                    self.refused.add(path, f"{name}: {reason(error)}")

    def _ours(self, name: str) -> bool:
        return name.startswith(("user.", "security.", "system.posix_acl_") if self.uid == 0 else "user.")
