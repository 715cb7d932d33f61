"""Owner, extended attributes, mode and times of a copy, set through descriptors."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from portunix_vdisk.steps.sync.plan import Notes, wanted_mode
from portunix_vdisk.steps.sync.scan import reason

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
    kept: bool = True
    """Whether the target keeps owners, modes and attributes. Where not, times are set as far as it lets us."""

    def apply(
        self,
        source: int,
        target: int | str,
        info: os.stat_result,
        path: str,
        made_with: tuple[int, int] | None = None,
    ) -> None:
        """Make the target's metadata those of the source.

        Args:
            source: descriptor of the source.
            target: descriptor of the target, or a name of it below ``/proc/self/fd``.
            info: what ``fstat`` said of the source.
            path: for messages.
            made_with: owner that a target has which was just made; None for one that was there before.

        Raises:
            OSError: an error of the target.
        """
        if not self.kept:
            try:
                os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))
            except OSError as error:
                if error.errno not in (*_NO_ATTRIBUTES, errno.EPERM):
                    raise
            return
        if self.uid == 0 and (info.st_uid, info.st_gid) != made_with:
            # First, because it clears set-user-ID bits and file capabilities.
            os.chown(target, info.st_uid, info.st_gid)
        self._attributes(source, target, path, made_with is not None)
        os.chmod(target, wanted_mode(info.st_mode, info.st_uid, info.st_gid, self.uid, self.gid))  # noqa: PTH101 - a descriptor
        os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))

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
