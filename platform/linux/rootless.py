"""Attaching and mounting without root: by programs of the person, over FUSE.

A storage daemon of theirs shows the partition as a file, and a filesystem's program of theirs shows the files in it.
Where that program can be told at which byte of a file the filesystem begins, a raw image needs no storage daemon.

What is written down lies in the person's own state folder, as :mod:`portunix_vdisk.platform.linux.state` says, with a
lock more: ``driver`` is held by the filesystem's program. That program and the storage daemon also hold QEMU's locks on
the image, by which root's mounts, other people's and virtual machines know that it is in use.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from portunix_vdisk.platform.base import Attachment, AttachRequest, FileSystemType, ImageType, Partition
from portunix_vdisk.platform.commands import display
from portunix_vdisk.platform.errors import Failed, NoRoot, Refused, ToolFailed, VdiskError
from portunix_vdisk.platform.linux import rootless_drivers, state
from portunix_vdisk.platform.linux.drivers import PATIENCE, Showing
from portunix_vdisk.platform.linux.facts import Facts, find, observe
from portunix_vdisk.platform.linux.image_locks import hold, refuse_if_open_elsewhere
from portunix_vdisk.platform.linux.mounting import Mounting
from portunix_vdisk.platform.linux.state import State, driver_lock
from portunix_vdisk.platform.linux.storage_daemon import StorageDaemon, lock_is_held

_STEP = 0.005
_LONGEST = 107
"""Bytes of the longest name that a socket can have; unix(7)."""


@dataclass(frozen=True, slots=True)
class Rootless(Mounting):
    """Attaching and mounting for the person who runs us; ``root`` is a folder of theirs."""

    def has(self, image: Path) -> bool:
        """Whether programs of the person show this image: then they go on doing so."""
        return find(self.root, image) is not None

    def need(self, fs: FileSystemType, instead_of: NoRoot | None = None) -> None:
        """Raise ``Missing`` or ``Refused`` where this machine cannot mount such a filesystem without root.

        ``instead_of``: the failure that this would spare; where it does not, that is raised, with the reason.
        """
        try:
            rootless_drivers.need(self.commands, fs)
        except VdiskError as error:
            if instead_of is None:
                raise
            what = f"{instead_of.what}; {error.what}"
            raise NoRoot(what, instead_of.state, instead_of.hint) from error

    @staticmethod
    def refuse_snapshot() -> NoReturn:
        """Raise ``Refused``: nothing here can keep an earlier state."""
        raise Refused(
            "the disk is mounted without root: it cannot be read while it is used",
            state="nothing was changed",
            hint="portunix vdisk unmount it, then run the same command again",
        )

    def attach(self, request: AttachRequest) -> Attachment:
        """Show the partition as a file; by a storage daemon where not only a program that reaches it shall use it."""
        reached = request.fs is not None and rootless_drivers.reaches(request.fs, request.partition.start)
        return super(Rootless, self).attach(replace(request, live=not reached))

    def _examine(self, descriptor: int, type: ImageType, partition: Partition, *, read_only: bool) -> None:
        self._refuse_roots(descriptor)
        super(Rootless, self)._examine(descriptor, type, partition, read_only=read_only)

    @staticmethod
    def _refuse_roots(descriptor: int) -> None:
        theirs = observe(state.ROOT, state.key_of(os.fstat(descriptor)))
        if theirs is not None:
            raise Refused(
                f"the image is already attached by root{f' as {theirs.device}' if theirs.device else ''}",
                state="nothing was changed",
                hint="unmount the disk first",
            )

    def _bring_up(self, descriptor: int, key: str, wanted: State, secret: bytes = b"") -> None:
        folder, wanted = self.root / key, replace(wanted, rootless=True)
        daemon = self._daemon(folder)
        if not wanted.direct and len(os.fsencode(daemon.monitor)) > _LONGEST:
            raise Failed(
                f"the name of the state folder is too long: {display(str(folder))}",
                state="nothing was changed",
                hint="set PORTUNIX_HOME to a folder with a shorter name",
            )
        with ExitStack() as undo:
            undo.callback(self._clear_key, key)
            state.write(folder, wanted)
            if not wanted.direct:
                how = {"read_only": wanted.read_only}
                found = daemon.start(descriptor, ImageType(wanted.type), wanted.partition, **how, secret=secret)
                # Root looks before it attaches, and we looked before the daemon took its lock.
                self._refuse_roots(descriptor)
                state.write(folder, replace(wanted, daemon_pid=found.pid, daemon_started=found.started))
            undo.pop_all()

    def clear(self, facts: Facts) -> None:
        """Take an unmounted attachment away: the filesystem's program has ended, then the daemon, then the notes."""
        if lock_is_held(driver_lock(facts.folder)):
            raise Refused(
                "the program that shows the filesystem still runs; it is mounted where we cannot see it",
                state="the disk stays attached",
                hint="unmount it there: in another container or session",
            )
        self._daemon(facts.folder).stop()
        if facts.state is not None:
            self.forget_mount_point(facts.folder, facts.state)
        state.remove(facts.folder)

    def _daemon(self, folder: Path) -> StorageDaemon:
        return StorageDaemon(folder, self.commands, self._unmount_at)

    # mounting -----------------------------------------------------------------------------------------

    def _mount(self, showing: Showing, private: Path) -> None:
        """Start the filesystem's program, which holds the lock of the state folder and those of a raw image."""
        folder = private.parent
        note = state.read(folder)
        assert note is not None
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        with ExitStack() as closing:
            lock = os.open(driver_lock(folder), flags, 0o600)
            closing.callback(os.close, lock)
            rootless_drivers.lock(lock)
            kept, device = [lock], showing.device
            if note.direct:
                image = closing.enter_context(self.opened(Path(note.image), read_only=note.read_only))
                if state.key_of(os.fstat(image)) != folder.name:
                    raise Refused("the image file was just replaced by another", state="nothing was changed")
                hold(image, writing=not note.read_only)
                refuse_if_open_elsewhere(image, writing=not note.read_only)
                # Only now: whoever attaches it from here on meets the lock.
                self._examine(image, ImageType(note.type), note.partition, read_only=note.read_only)
                kept.append(image)
                device = f"/proc/self/fd/{image}"
            start = note.start if note.direct else 0
            rootless_drivers.show(self.commands, replace(showing, device=device), start, kept)

    def _unmount_at(self, point: Path) -> None:
        try:
            self.commands.run("fusermount3", "-u", point)
        except ToolFailed as error:
            busy = "busy" in error.output
            raise OSError(errno.EBUSY if busy else errno.EPERM, display(error.output), str(point)) from error

    def _wait_for_driver(self, facts: Facts, *, dead: bool) -> None:
        """Wait until the filesystem's program has ended and everything is in the image file.

        Raises ``Failed`` if that takes too long, or if not everything could be written. What is ``dead`` wrote nothing.
        """
        deadline = time.monotonic() + PATIENCE
        while lock_is_held(driver_lock(facts.folder)):
            if time.monotonic() > deadline:
                raise Failed(
                    f"the filesystem's program has not ended within {PATIENCE:.0f} s",
                    state="it may still be writing to the image",
                    hint="wait, then unmount again; do not move the image file",
                )
            time.sleep(_STEP)
        note = facts.state
        if note is None or note.read_only or dead:
            return
        try:
            descriptor = os.open(facts.device, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
                start = note.start if note.direct else 0
                written = rootless_drivers.is_whole(descriptor, start)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _incomplete(error.strerror or str(error)) from error
        if not written:
            raise _incomplete("the filesystem's program could not finish its work")


def _incomplete(why: str) -> Failed:
    return Failed(
        f"not everything could be written to the disk: {why}",
        state="it is not mounted any more; recently written files may be incomplete",
        hint="free space where the image file is, then unmount again, which also repairs it",
    )
