"""Giving the files of one owner on a mounted disk to the caller: for filesystems that cannot be shown otherwise.

Its user may move things about meanwhile, and put links where folders were. So nothing is looked up by a path: each
folder is opened below the one before, and each file before it is looked at. Only what has the former owner's numbers
is changed, so a second run does what the first left, and what lies on other filesystems is left alone.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from portunix_vdisk.platform.base import Owner
from portunix_vdisk.platform.commands import display
from portunix_vdisk.platform.errors import Failed, Refused
from portunix_vdisk.platform.linux import mounts
from portunix_vdisk.platform.linux.id_maps import IdMap
from portunix_vdisk.platform.linux.mounting import Mounting

_TELL = 0.1
"""Seconds between two reports."""
_NAMED = 5
"""Files that an error names."""


def give_files(mounting: Mounting, image: Path, former: Owner, told: Callable[[int], None]) -> int:
    """Give all files of ``former`` on a mounted disk to the caller; returns how many.

    ``told`` hears now and then how many were looked at; what it raises ends the work, which the next run goes on with.

    Raises:
        Refused: not mounted, read-only, shown with other owners, another user's, or root's files.
        Failed: some files could not be changed; all others are.
    """
    with mounting.held(image, "give the files of") as facts:
        if facts is None or facts.state is None or facts.problem or not facts.mounts:
            raise Refused(f"{display(str(image))} is not mounted", hint="mount it first")
        entry = facts.mounts[-1]
        if facts.state.read_only or entry.mapped:
            how = "read-only" if facts.state.read_only else "so that the numbers on it cannot be changed"
            raise Refused(f"the disk is mounted {how}", state="nothing was changed", hint="unmount it first")
        wanted = mounting.owners(facts.state, former)
        if wanted is None:
            raise Refused(
                f"the files of user {former.uid} cannot be given to you: root's stay root's, root is given none, and"
                " those of a disk that another user attached are theirs",
                state="nothing was changed",
            )
        top = os.open(entry.point, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        walk = _Walk(top, wanted, told)
        try:
            if mounts.device_below(top) != entry.device:
                raise Refused(f"something else is mounted at {display(str(entry.point))}", state="nothing was changed")
            walk.run()
        finally:
            os.close(walk.folder)
        mounts.sync(entry.point)
        if walk.refused:
            names = ", ".join(walk.refused[:_NAMED])
            raise Failed(
                f"{len(walk.refused)} files could not be given to you: {names}",
                state=f"{walk.given} others are yours now",
                hint="see what protects them (lsattr); then run the same command again",
            )
        return walk.given


def told_in(line: bytes, told: Callable[[int], None]) -> None:
    """Pass on the progress in a line that the attach program printed."""
    found = json.loads(line)
    if "seen" in found:
        told(int(found["seen"]))


@dataclass(slots=True)
class _Level:
    """A folder that is being gone through: its identity, its path for messages, its folders still to do."""

    inode: tuple[int, int]
    path: str
    left: list[str]


@dataclass(slots=True)
class _Walk:
    """One way through the tree, with a single folder open, however deep it is."""

    folder: int
    wanted: IdMap
    told: Callable[[int], None]
    given: int = 0
    seen: int = 0
    refused: list[str] = field(default_factory=list)
    _mount: bytes = b""
    _told: float = 0.0

    def run(self) -> None:
        """Raises ``OSError``, ``Failed``, and what ``told`` raises."""
        self._mount = _mount_of(self.folder)
        self._one(self.folder, ".")
        levels = [self._level(".")]
        while levels:
            level = levels[-1]
            if level.left:
                name = level.left.pop()
                if self._enter(name, f"{level.path}/{name}"):
                    levels.append(self._level(f"{level.path}/{name}"))
                continue
            levels.pop()
            if levels:
                self._go("..")
                if _inode(self.folder) != levels[-1].inode:
                    raise Failed(
                        f"{display(level.path)} was moved meanwhile",
                        state=f"{self.given} files are yours now, the others are not yet",
                        hint="run the same command again",
                    )

    def _level(self, path: str) -> _Level:
        folders = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                self.seen += 1
                if time.monotonic() - self._told > _TELL:
                    self.told(self.seen)
                    self._told = time.monotonic()
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                elif self._concerns(entry.stat(follow_symlinks=False)):
                    with suppress(FileNotFoundError):
                        self._file(entry.name, f"{path}/{entry.name}")
        return _Level(_inode(self.folder), path, folders)

    def _file(self, name: str, path: str) -> None:
        found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.folder)
        try:
            # A folder by now: whoever put it there owns it anyway, and the next run finds it.
            if not stat.S_ISDIR(os.fstat(found).st_mode) and _mount_of(found) == self._mount:
                self._one(found, path)
        finally:
            os.close(found)

    def _enter(self, name: str, path: str) -> bool:
        try:
            found = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.folder)
        except (FileNotFoundError, NotADirectoryError):
            return False
        if _mount_of(found) != self._mount:
            os.close(found)
            return False
        os.close(self.folder)
        self.folder = found
        self._one(found, path)
        return True

    def _go(self, name: str) -> None:
        found = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.folder)
        os.close(self.folder)
        self.folder = found

    def _concerns(self, about: os.stat_result) -> bool:
        return self._new(about) != (about.st_uid, about.st_gid)

    def _new(self, about: os.stat_result) -> tuple[int, int]:
        disk, shown = self.wanted.disk, self.wanted.shown
        uid = shown.uid if about.st_uid == disk.uid else about.st_uid
        return uid, shown.gid if about.st_gid == disk.gid else about.st_gid

    def _one(self, found: int, path: str) -> None:
        about = os.fstat(found)
        if not self._concerns(about):
            return
        try:
            # By descriptor, also of a symbolic link. The kernel takes set-user-ID bits and capabilities away.
            os.chown(f"/proc/self/fd/{found}", *self._new(about))
        except OSError as error:
            self.refused.append(f"{display(path)} ({error.strerror})")
        else:
            self.given += 1


def _inode(descriptor: int) -> tuple[int, int]:
    about = os.fstat(descriptor)
    return about.st_dev, about.st_ino


def _mount_of(descriptor: int) -> bytes:
    """The number of the mount that an open file was reached through; proc(5)."""
    lines = Path(f"/proc/self/fdinfo/{descriptor}").read_bytes().splitlines()
    return next((line for line in lines if line.startswith(b"mnt_id:")), b"")
