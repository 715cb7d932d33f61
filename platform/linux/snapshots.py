"""Snapshots of mounted disks: the content of one moment, held still by freezing the filesystem for as long as it takes.

Through a storage daemon: :mod:`portunix_vdisk.platform.linux.fleecing`. On a plain loop device: a second file that
shares its blocks with the image, where the host's filesystem can do that (btrfs, xfs).
"""

from __future__ import annotations

import math
import os
import time
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from portunix_vdisk.platform import vhd, vhdx
from portunix_vdisk.platform.base import ImageType, Snapshot
from portunix_vdisk.platform.commands import display
from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.platform.linux import state
from portunix_vdisk.platform.linux.cloning import clone_of, clone_whole, remove_clone, try_to_clone
from portunix_vdisk.platform.linux.containers import GROWING, disk_size
from portunix_vdisk.platform.linux.facts import Facts, observe
from portunix_vdisk.platform.linux.fleece_file import fleece_file
from portunix_vdisk.platform.linux.fleecing import Fleecing
from portunix_vdisk.platform.linux.freezing import freezable, settle, thaw_left
from portunix_vdisk.platform.linux.holes import data_of
from portunix_vdisk.platform.linux.image_map import map_served
from portunix_vdisk.platform.linux.mount_point import Caller, acting_as
from portunix_vdisk.platform.linux.mounting import Mounting
from portunix_vdisk.platform.linux.state import State
from portunix_vdisk.platform.linux.storage_daemon import StorageDaemon

_QUICK = 0.3
"""Seconds for finding out where a raw image has data, while writers wait."""
_GAP = 1 << 20
"""Holes shorter than this are not told apart."""


def take_snapshot(mounting: Mounting, image: Path, rooms: Sequence[Path]) -> Snapshot:
    """Keep the content that a mounted disk has now; see :meth:`Platform.take_snapshot`."""
    facts = mounting.allowed(image)
    if facts is None:
        raise Refused(f"{display(str(image))} is not attached", state="nothing was changed")
    with mounting.locked(facts.key, f"snapshot {display(str(image))}"):
        facts = observe(mounting.root, facts.key)
        if facts is None or facts.state is None or facts.problem or not facts.mounts or facts.state.read_only:
            problem = facts.problem if facts is not None else ""
            raise Refused(
                f"{display(str(image))} is not mounted for writing{problem and ': '}{problem}",
                state="nothing was changed",
            )
        thaw_left(facts.folder, facts.mounts[-1].point)
        with mounting.opened(Path(facts.state.image), read_only=True) as descriptor:
            if state.key_of(os.fstat(descriptor)) != facts.key:
                raise Refused("the image file was replaced while it was attached", state="nothing was changed")
            if facts.state.direct:
                return _cloned(mounting, facts, facts.state, descriptor)
            if not facts.state.live:
                raise Refused(
                    "the disk was mounted by an older version, which made no provision for this",
                    state="nothing was changed",
                    hint="unmount it and mount it again",
                )
            return _fleeced(mounting, facts, facts.state, descriptor, rooms)


def drop_snapshot(mounting: Mounting, image: Path) -> None:
    """Take a snapshot away, if there is one; see :meth:`Platform.drop_snapshot`."""
    with mounting.held(image, "end the snapshot of") as facts:
        if facts is None or facts.state is None:
            return
        if facts.state.direct:
            remove_clone(mounting.caller, Path(facts.state.image))
        elif facts.state.live and facts.daemon is not None and not facts.state.read_only:
            with StorageDaemon(facts.folder, mounting.commands).talk() as monitor:
                Fleecing(monitor, facts.state.partition).dissolve()


# through the daemon -----------------------------------------------------------------------------------


def _fleeced(mounting: Mounting, facts: Facts, note: State, image: int, rooms: Sequence[Path]) -> Snapshot:
    type = ImageType(note.type)
    size = disk_size(image, type)
    entry = facts.mounts[-1]
    with (
        StorageDaemon(facts.folder, mounting.commands).talk() as monitor,
        fleece_file(mounting, rooms, size, entry.device) as fleece,
    ):
        fleecing = Fleecing(monitor, note.partition)
        fleecing.dissolve()
        try:
            fleecing.prepare(Path(f"/proc/{os.getpid()}/fd/{fleece.descriptor}"), size=size, limit=fleece.limit)
            with freezable(mounting.commands, facts.folder, entry.point, entry.device) as filesystem:
                settle(entry.point)
                filesystem.freeze()
                fleecing.begin()
                # Now, where blocks may go: what is discarded later is in the fleece, and in the image no more.
                extents = None if type in GROWING else _data_now(mounting, image, type, size)
                waited = filesystem.thaw()
            # A dynamic VHD only grows: what it has now is all that it had then, and maybe more.
            extents = _grown(image, type) if extents is None else extents
            fleecing.show(_socket(mounting.caller, facts.folder))
            _give(mounting.caller, facts.folder)
        except BaseException:
            with suppress(Exception):
                fleecing.dissolve()
            raise
    return Snapshot(str(uuid.uuid4()), size, extents, _socket_path(facts.folder), served=True, waited=waited)


def _data_now(mounting: Mounting, image: int, type: ImageType, size: int) -> tuple[tuple[int, int], ...]:
    """Where an image has data that is held still."""
    if type.raw:
        return _data(image, size, _QUICK)
    found = map_served(mounting.commands, image, type)
    return _joined((one.start, one.start + one.length) for one in found.extents)


def _grown(image: int, type: ImageType) -> tuple[tuple[int, int], ...]:
    """Where an image has data whose tables only ever grow."""
    if type is ImageType.VHD:
        return vhd.data_of(image)
    return _joined((one.start, one.start + one.length) for one in vhdx.extents(image)[1])


def _joined(runs: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    found: list[tuple[int, int]] = []
    for start, end in runs:
        if found and start - found[-1][1] < _GAP:
            found[-1] = found[-1][0], end
        else:
            found.append((start, end))
    return tuple(found)


def _socket_path(folder: Path) -> Path:
    return folder / "snapshot" / "nbd"


def _socket(caller: Caller, folder: Path) -> Path:
    """Where the socket may be made: in a folder of ours, whatever an earlier one left."""
    path = _socket_path(folder)
    path.parent.mkdir(mode=0o755, exist_ok=True)
    path.unlink(missing_ok=True)
    return path


def _give(caller: Caller, folder: Path) -> None:
    """The socket belongs to the caller alone; until now it was root's."""
    path = _socket_path(folder)
    path.chmod(0o600)
    os.chown(path, caller.owner.uid, caller.owner.gid, follow_symlinks=False)


def _data(descriptor: int, size: int, patience: float = math.inf) -> tuple[tuple[int, int], ...]:
    """Where a raw image has data, holes of less than a mebibyte counted in; from ``patience`` seconds on, all holes."""
    deadline = time.monotonic() + patience
    found: list[tuple[int, int]] = []
    for start, end in data_of(descriptor, size):
        if found and start - found[-1][1] < _GAP:
            found[-1] = found[-1][0], end
        else:
            found.append((start, end))
        if time.monotonic() > deadline:
            found[-1] = found[-1][0], size
            break
    return tuple(found)


# on a plain loop device -------------------------------------------------------------------------------


def _cloned(mounting: Mounting, facts: Facts, note: State, image: int) -> Snapshot:
    caller, path, entry = mounting.caller, clone_of(Path(note.image)), facts.mounts[-1]
    remove_clone(caller, Path(note.image))
    try:
        with acting_as(caller):
            clone = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Refused(f"cannot make {display(str(path))}: {error.strerror}", state="nothing was changed") from error
    try:
        if not caller.restricted:
            os.chown(clone, caller.owner.uid, caller.owner.gid)
        try_to_clone(image, clone)
        with freezable(mounting.commands, facts.folder, entry.point, entry.device) as filesystem:
            settle(entry.point)
            filesystem.freeze()
            clone_whole(image, clone)
            waited = filesystem.thaw()
        size = disk_size(clone, ImageType(note.type))
        return Snapshot(str(uuid.uuid4()), size, _data(clone, size), path, served=False, waited=waited)
    except BaseException:
        remove_clone(caller, Path(note.image))
        raise
    finally:
        os.close(clone)
