"""Mounting an attached image and unmounting it, never lazily and never by force."""

from __future__ import annotations

import errno
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from portunix_vdisk.platform.base import Attachment, FileSystemType, ImageType, Owner
from portunix_vdisk.platform.commands import display
from portunix_vdisk.platform.errors import Corrupt, Failed, Missing, Refused
from portunix_vdisk.platform.formats import TYPES
from portunix_vdisk.platform.linux import loop, mounts, state
from portunix_vdisk.platform.linux.attaching import Attaching
from portunix_vdisk.platform.linux.drivers import Showing, checker_of, leave, show, wait_for_driver
from portunix_vdisk.platform.linux.facts import Facts, observe
from portunix_vdisk.platform.linux.freezing import thaw_left
from portunix_vdisk.platform.linux.id_maps import IdMap, id_map
from portunix_vdisk.platform.linux.mount_point import mount_point_of, open_mount_point
from portunix_vdisk.platform.linux.processes import users_of
from portunix_vdisk.platform.linux.state import OVERLAY, SERVED, State

_BRIEFLY, _STEP = 1.0, 0.01
"""Seconds in which whoever looks at a mounted disk has looked, and between two attempts to unmount it."""


@dataclass(frozen=True, slots=True)
class Mounting(Attaching):
    """Attaching and mounting, for one caller."""

    def mount(self, image: Path, fs: FileSystemType, point: Path, owner: Owner | None = None) -> Attachment:
        """Mount an attached image; see :meth:`Platform.mount`."""
        facts = self.allowed(image)
        if facts is None:
            raise Refused(f"{display(str(image))} is not attached", hint="attach it first")
        with self.locked(facts.key, f"mount {display(str(image))}"):
            facts = observe(self.root, facts.key)
            if facts is None or facts.state is None or not facts.device or facts.problem:
                raise Refused(f"the disk cannot be mounted: {facts.problem if facts else 'it was just detached'}")
            if facts.mounts:
                if mount_point_of(facts.mounts[-1].point, point):
                    return self.present(facts.key)
                raise Refused(
                    f"the disk is already mounted at {display(str(facts.mounts[-1].point))}",
                    state="nothing was changed",
                    hint="unmount it first",
                )
            note = self.forget_mount_point(facts.folder, facts.state)
            with open_mount_point(point, self.caller) as place:
                state.write(facts.folder, replace(note, mount_point=str(place.path), mount_point_made=place.made))
                try:
                    showing = Showing(
                        facts.device,
                        fs,
                        place.descriptor,
                        note.read_only,
                        self.caller.owner,
                        served=note.type == SERVED,
                        still=note.type == OVERLAY,
                        owners=self.owners(note, owner),
                    )
                    if note.type == SERVED:
                        self._mount_served(showing, state.private_mount(facts.folder), note)
                    else:
                        self._mount(showing, state.private_mount(facts.folder))
                except BaseException:
                    state.write(facts.folder, note)
                    raise
            return self.present(facts.key)

    def owners(self, note: State, owner: Owner | None) -> IdMap | None:
        """How the disk of ``owner`` may be shown to the caller; None where it needs no map, or they may have none."""
        # Who attached it could read the whole image. Another may not have been able to: it may be encrypted.
        mine = not self.caller.restricted or note.owner == self.caller.owner.uid
        return id_map(owner, self.caller.owner) if owner is not None and mine else None

    def _mount(self, showing: Showing, private: Path) -> None:
        fs = showing.fs
        try:
            show(self.commands, showing, private)
        except OSError as error:
            if error.errno == errno.EROFS and showing.read_only:
                raise Refused(
                    "the disk was not unmounted cleanly, so its journal has to be replayed, which needs writing",
                    state="the disk is attached read-only and not mounted",
                    hint="mount it once without --read-only, unmount it, then mount it read-only",
                ) from error
            if error.errno == errno.ENODEV:
                raise Missing(f"the kernel of this machine has no {fs.value} filesystem") from error
            if error.errno in (errno.EUCLEAN, errno.EINVAL, errno.EIO):
                raise Corrupt(
                    f"the {fs.value} filesystem on the disk is damaged: {error.strerror}",
                    state="the disk is attached and not mounted",
                    hint=f"check it: {checker_of(fs, showing.device)}",
                ) from error
            raise Failed(
                f"cannot mount {showing.device}: {error.strerror}", state="the disk is attached, not mounted"
            ) from error

    def _mount_served(self, showing: Showing, private: Path, note: State) -> None:
        try:
            show(self.commands, showing, private)
        except (OSError, Corrupt) as error:
            kind = Missing if isinstance(error, OSError) and error.errno == errno.ENODEV else Corrupt
            why = error.strerror if isinstance(error, OSError) else error.what
            raise kind(
                f"the kernel cannot mount the {showing.fs.value} filesystem in {display(note.image)}: {why}",
                state="nothing was changed",
                hint="the archive is probably damaged where the filesystem's own tables are: use another copy of it",
            ) from error

    def trim(self, image: Path) -> int:
        """Give the free blocks back to the host; see :meth:`Platform.trim`."""
        with self.held(image, "trim") as facts:
            # QEMU's drivers of VHD, VHDX and LUKS ignore discards, although the kernel reports them as done.
            if facts is None or facts.state is None or facts.problem or facts.state.type == SERVED:
                return 0
            if facts.state.type != OVERLAY and not TYPES[ImageType(facts.state.type)].trim:
                return 0
            if not facts.mounts or facts.state.read_only or facts.state.encrypted:
                return 0
            try:
                return mounts.trim(facts.mounts[-1].point)
            except OSError as error:
                if error.errno in (errno.EOPNOTSUPP, errno.ENOTTY):
                    return 0
                raise Failed(f"the free blocks could not be given back: {error.strerror}") from error

    # unmounting ---------------------------------------------------------------------------------------

    def unmount(self, image: Path) -> None:
        """Unmount, if mounted; see :meth:`Platform.unmount`."""
        with self.held(image, "unmount") as facts:
            if facts is not None:
                self._unmount(facts)

    def detach(self, image: Path) -> None:
        """Unmount and take the block device away; see :meth:`Platform.detach`."""
        with self.held(image, "detach") as facts:
            if facts is not None:
                self._unmount(facts)
                self.clear(facts)

    def _unmount(self, facts: Facts) -> None:
        private = state.private_mount(facts.folder)
        if any(entry.point == private for entry in facts.mounts):
            # Killed before it was where it belongs: nobody has used it there.
            leave(private)
            facts = replace(facts, mounts=tuple(entry for entry in facts.mounts if entry.point != private))
        if len({entry.point for entry in facts.mounts}) > 1:
            places = ", ".join(display(str(entry.point)) for entry in facts.mounts)
            raise Refused(
                f"the disk is mounted in several places: {places}", hint="unmount the others with sudo umount"
            )
        dead = facts.dead
        for entry in reversed(facts.mounts):
            thaw_left(facts.folder, entry.point)
            # A dead daemon or a filesystem that gave up takes nothing any more; what was synced before survives.
            if not dead and not entry.failed:
                self._write_out(entry.point)
            self._take_away(entry)
        if any(mounts.is_fuse(entry.kind) for entry in facts.mounts):
            self._wait_for_driver(facts, dead=dead)
        if facts.state is not None:
            self.forget_mount_point(facts.folder, facts.state)

    def _wait_for_driver(self, facts: Facts, *, dead: bool) -> None:
        if facts.loop is not None:
            wait_for_driver(facts.loop.device)

    def _unmount_at(self, point: Path) -> None:
        """Raises ``OSError``."""
        mounts.unmount(point)

    def _take_away(self, entry: mounts.MountEntry) -> None:
        deadline = time.monotonic() + _BRIEFLY
        while True:
            try:
                self._unmount_at(entry.point)
                return
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise Failed(f"cannot unmount {display(str(entry.point))}: {error.strerror}") from error
                found = _users_of(entry)
                # Who only asks how much is free, as our own "list" does, is no user and gone in a moment.
                if found or time.monotonic() > deadline:
                    users = ", ".join(found) or "a program or another mount below it"
                    raise Refused(
                        f"{display(str(entry.point))} is in use by {users}",
                        state="the disk stays mounted; nothing is lost",
                        hint="leave the folder and stop these programs, then unmount again",
                    ) from error
                time.sleep(_STEP)

    @staticmethod
    def _write_out(point: Path) -> None:
        try:
            mounts.sync(point)
        except OSError as error:
            raise Failed(
                f"not everything could be written to the disk: {error.strerror}",
                state=f"it stays mounted at {display(str(point))}; recently written files may be incomplete",
                hint="free space where the image file is, copy what is missing once more, then unmount again",
            ) from error


def _users_of(entry: mounts.MountEntry) -> list[str]:
    """Who keeps it from being unmounted, a few of them: processes, what is mounted below, loop devices on its files."""
    numbers = {entry.device}
    with suppress(OSError):  # whoever shows it may be dead
        numbers.add(entry.point.stat().st_dev)  # of Btrfs, that of the subvolume
    below = [each.point for each in mounts.mounted() if entry.point in each.point.parents]
    found = users_of(*numbers)
    found += [f"what is mounted at {display(str(point))}" for point in below]
    found += [
        f"{each.device} on {display(each.backing)}"
        for each in loop.loops()
        if entry.point in Path(each.backing).parents
    ]
    return found[:5]
