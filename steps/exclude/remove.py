"""Deleting what the rules leave out from the mounted overlay of a disk, and counting it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from portunix_vdisk.platform.errors import Failed
from portunix_vdisk.steps.exclude.rules import Rule, Rules
from portunix_vdisk.steps.step import Context
from portunix_vdisk.steps.sync.pulse import Pulse
from portunix_vdisk.steps.sync.scan import Descent, join, reason, shown

_NEVER_ENTERED: Final = frozenset({".git", "lost+found"})
"""Folders in which nothing is a cache: a branch may be called build, and reading them all takes long."""
_NOT_ALLOWED: Final = (errno.EACCES, errno.EPERM, errno.EBUSY)
_EXAMPLES: Final = 3
_RIGHTS: Final = 0o700


@dataclass(slots=True)
class Counted:
    """What one rule left out: names that are no folders, and bytes on the disk that became free.

    What hard links share counts when its last name goes.
    """

    files: int = 0
    bytes: int = 0


@dataclass(slots=True)
class LeftOut:
    """What was left out, by the names of the rules, and what of it could not be."""

    by_rule: dict[str, Counted] = field(default_factory=dict)
    stayed: int = 0
    examples: list[str] = field(default_factory=list)
    """Some of what stayed: path and why."""


class Remover:
    """Walks a tree once and deletes what the rules match.

    Each folder is read before anything in it is deleted, and from the top, so that no rule sees what another one did.
    No symbolic link is followed, no other filesystem entered. Folders that lose something keep their times.

    Args:
        top: descriptor of the top folder of a filesystem that nobody else uses.
    """

    def __init__(self, top: int, rules: Rules, ctx: Context) -> None:
        self._descent = Descent(top, os.fstat(top).st_dev)
        self._rules = rules
        self._pulse = Pulse(ctx)
        self.left_out = LeftOut()

    def run(self) -> LeftOut:
        """Do it. Raises ``Failed`` where reading or deleting fails for another reason than rights."""
        path = ""
        try:
            waiting = [path]
            while waiting:
                path = waiting.pop()
                waiting += self._look_into(path)
        except OSError as error:
            raise Failed(
                f"what need not be exported could not be deleted in the overlay: {reason(error)}"
                f"{f' ({shown(path)})' if path else ''}",
                state="the disk was not changed",
            ) from error
        finally:
            self._descent.close()
        return self.left_out

    def _look_into(self, path: str) -> list[str]:
        """Delete what matches in one folder; the folders in it that are left to look into, last first."""
        try:
            entries = _entries(self._descent.open(path))
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, 0):
                return []  # it stays as it is
            raise
        names = entries.keys()
        inner: list[str] = []
        matches: list[tuple[str, Rule]] = []
        for name, is_folder in entries.items():
            self._pulse.beat()
            rule = self._rule_for(join(path, name), name, names, is_folder=is_folder)
            if rule is not None:
                matches.append((name, rule))
            elif is_folder and name not in _NEVER_ENTERED:
                inner.append(join(path, name))
        if matches:
            self._delete_from(path, matches)
        return inner[::-1]

    def _delete_from(self, path: str, matches: list[tuple[str, Rule]]) -> None:
        """Delete these names; the folder itself is as before, but for them."""
        descriptor = self._descent.open(path)
        before = os.fstat(descriptor)
        with suppress(PermissionError):
            if not _may_write(before):
                os.fchmod(descriptor, stat.S_IMODE(before.st_mode) | _RIGHTS)
        for name, rule in matches:
            self._delete(join(path, name), self.left_out.by_rule.setdefault(rule.name, Counted()))
        descriptor = self._descent.open(path)
        with suppress(PermissionError):
            if not _may_write(before):
                os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
            os.utime(descriptor, ns=(before.st_atime_ns, before.st_mtime_ns))

    def _rule_for(self, path: str, name: str, siblings: Collection[str], *, is_folder: bool) -> Rule | None:
        for rule in self._rules.candidates(path, name, is_folder=is_folder):
            if rule.may_lie_among(siblings) and self._fits(path, rule, is_folder=is_folder):
                return None if self._rules.keeps(path, is_folder=is_folder) else rule
        return None

    def _fits(self, path: str, rule: Rule, *, is_folder: bool) -> bool:
        """Whether what is in it is as the rule wants; a folder that can't be read is nobody's cache."""
        if not rule.looks_inside:
            return True
        try:
            return rule.may_hold(_entries(self._descent.open(path)) if is_folder else ())
        except OSError as error:
            if error.errno in (*_NOT_ALLOWED, 0):
                return False
            raise

    def _delete(self, path: str, counted: Counted) -> None:
        """Delete a file, or a folder with what is in it. What may not be deleted stays."""
        waiting = [(path, False)]
        while waiting:
            place, emptied = waiting.pop()
            self._pulse.beat()
            try:
                if emptied:
                    self._delete_folder(place, counted)
                else:
                    waiting += self._delete_file(place, counted)
            except OSError as error:
                if error.errno == errno.ENOTEMPTY and emptied:
                    continue  # something in it stayed, and was counted
                if error.errno not in (*_NOT_ALLOWED, 0):
                    raise
                self._note(place, error)

    def _delete_file(self, path: str, counted: Counted) -> list[tuple[str, bool]]:
        """Delete it; of a folder, what is to be deleted before it and then it, the last first."""
        above, _, name = path.rpartition("/")
        folder = self._descent.open(above)
        about = os.stat(name, dir_fd=folder, follow_symlinks=False)
        is_folder = stat.S_ISDIR(about.st_mode)
        if self._rules.keeps(path, is_folder=is_folder):
            return []
        if is_folder:
            if not _may_write(about):
                os.chmod(name, stat.S_IMODE(about.st_mode) | _RIGHTS, dir_fd=folder)
            entries = _entries(self._descent.open(path))
            return [(path, True), *((join(path, inner), False) for inner in reversed(entries))]
        os.unlink(name, dir_fd=folder)
        counted.files += 1
        if about.st_nlink == 1:
            counted.bytes += about.st_blocks * 512
        return []

    def _delete_folder(self, path: str, counted: Counted) -> None:
        above, _, name = path.rpartition("/")
        folder = self._descent.open(above)
        size = os.stat(name, dir_fd=folder, follow_symlinks=False).st_blocks * 512
        os.rmdir(name, dir_fd=folder)
        counted.bytes += size

    def _note(self, path: str, error: OSError) -> None:
        self.left_out.stayed += 1
        if len(self.left_out.examples) < _EXAMPLES:
            self.left_out.examples.append(f"{shown(path)}: {reason(error)}")


def _may_write(folder: os.stat_result) -> bool:
    """Whether its mode lets us delete in it. Some tools protect their caches from writing (Go's modules)."""
    return os.geteuid() == 0 or folder.st_mode & _RIGHTS == _RIGHTS


def _entries(descriptor: int) -> dict[str, bool]:
    """Names in an open folder, in order, and whether each is a folder."""
    with os.scandir(descriptor) as found:
        return dict(sorted((item.name, item.is_dir(follow_symlinks=False)) for item in found))
