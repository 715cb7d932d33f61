"""What is true about an attachment now: kernel and process table are asked each time, the state file is only a hint."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.platform.base import Attachment
from portunix_vdisk.platform.commands import Commands
from portunix_vdisk.platform.linux import loop, mounts, state
from portunix_vdisk.platform.linux.loop import Loop
from portunix_vdisk.platform.linux.mounts import MountEntry
from portunix_vdisk.platform.linux.processes import ProcessIdentity, visible
from portunix_vdisk.platform.linux.state import OVERLAY, SERVED, State, driver_lock
from portunix_vdisk.platform.linux.storage_daemon import StorageDaemon, lock_is_held

_DELETED = " (deleted)"
_LITTLE = 4 << 20
"""Bytes that are as good as none for an image that grows."""


@dataclass(frozen=True, slots=True)
class Facts:
    """One image as the machine shows it.

    ``state`` is None when the folder is there but nothing legible is in it; ``loops`` are all loop devices on this
    image, ours first; ``mounts`` all mounts of ours; ``daemon`` the storage daemon if it runs.
    """

    key: str
    folder: Path
    state: State | None
    loops: tuple[Loop, ...]
    mounts: tuple[MountEntry, ...]
    daemon: ProcessIdentity | None
    problem: str

    @property
    def loop(self) -> Loop | None:
        """Our loop device."""
        return self.loops[0] if self.loops else None

    @property
    def device(self) -> str:
        """What shows the partition: our loop device, without root a file; empty if nothing does."""
        if self.state is not None and self.state.rootless:
            if self.state.direct:
                return self.state.image
            return str(StorageDaemon(self.folder, Commands()).export) if self.daemon else ""
        return self.loop.device if self.loop else ""

    def attachment(self) -> Attachment | None:
        """The same for the platform protocol; None without a legible state."""
        if self.state is None:
            return None
        point = self.mounts[-1].point if self.mounts else None
        return Attachment(
            image=Path(self.state.image),
            device=self.device,
            read_only=self.state.read_only,
            mount_point=point,
            mount_point_made=self.state.mount_point_made and str(point) == self.state.mount_point,
            daemon_pid=self.daemon.pid if self.daemon else None,
            problem=self.problem,
            server_pid=self.state.server_pid if self.state.type == SERVED else None,
            live=self.state.live and not self.state.rootless,
            label=self.state.label,
            rootless=self.state.rootless,
            mapped=bool(self.mounts) and self.mounts[-1].mapped,
        )

    @property
    def dead(self) -> bool:
        """Whether the storage daemon or the server behind it has died: what is mounted takes and gives nothing more."""
        if self.state is None:
            return False
        gone = any(mounts.is_fuse(entry.kind) and _died(entry) for entry in self.mounts)
        return gone or bool(self.state.daemon_pid and self.daemon is None) or not server_lives(self.state)


def observe(root: Path, key: str) -> Facts | None:
    """The facts about the image with this key; None if we never attached it. Needs no privilege."""
    folder = root / key
    if not folder.is_dir():
        return None
    known = state.read(folder)
    server = StorageDaemon(folder, Commands())
    daemon = None
    if known is not None and known.daemon_pid:
        recorded = ProcessIdentity(known.daemon_pid, known.daemon_started)
        # Where /proc hides other people's processes (hidepid), only root can tell.
        seen = known.rootless or visible()
        daemon = recorded if server.is_daemon(recorded) or not seen else None
    if known is not None and known.rootless:
        shown = [entry for entry in mounts.mounted() if mounts.is_fuse(entry.kind) and _is_at(entry, known)]
        problem = _moved(key, known) or _rootless_problem(folder, known, daemon, shown)
        return Facts(key, folder, known, (), tuple(shown), daemon, problem)
    found = tuple(_loops_of(key, known, server.export))
    entries = [entry for entry in mounts.mounted() if found and _shows(entry, found[0], folder, known)]
    problem = _problem(key, known, found, daemon, entries)
    return Facts(key, folder, known, found, tuple(entries), daemon, problem)


def observe_all(root: Path) -> Iterator[Facts]:
    """The facts about every image that we attached."""
    for key in state.keys(root):
        if (facts := observe(root, key)) is not None:
            yield facts


def find(root: Path, image: Path) -> Facts | None:
    """The facts about an image file: by device and inode, or by its recorded name if that file is gone or replaced."""
    try:
        facts = observe(root, state.key_of(image.stat()))
    except OSError:
        facts = None
    if facts is not None:
        return facts
    named = str(image.absolute())
    return next((found for found in observe_all(root) if found.state is not None and found.state.image == named), None)


def loops_on(status: os.stat_result) -> list[Loop]:
    """All loop devices on this very file, whoever made them."""
    return [found for found in loop.loops() if _is_on(found, state.key_of(status))]


def _loops_of(key: str, known: State | None, export: Path) -> Iterator[Loop]:
    candidates = [found for found in loop.loops() if found.backing == str(export) or _is_on(found, key)]
    if known is not None and known.direct:
        # The file under our loop has lost its name: it was deleted or another was renamed over it.
        recorded = loop.look(known.loop) if known.loop else None
        if recorded is not None and recorded not in candidates and recorded.backing == known.image + _DELETED:
            candidates.append(recorded)
        candidates = [found for found in candidates if (found.offset, found.limit) == (known.start, known.length)]
    recorded_name = known.loop if known is not None else ""
    return iter(sorted(candidates, key=lambda found: found.name != recorded_name))


def _shows(entry: MountEntry, found: Loop, folder: Path, known: State | None) -> bool:
    """Whether a mount is of our loop device. Those of programs and of Btrfs may have a number of their own."""
    if entry.device == found.number:
        return True
    ours = (str(state.private_mount(folder)), known.mount_point if known is not None else "")
    # Anybody may call what a program of theirs shows whatever they like, so it has to be where we put it.
    named = entry.kind == "btrfs" or (mounts.is_fuse(entry.kind) and str(entry.point) in ours)
    return named and entry.source == found.device


def _is_on(found: Loop, key: str) -> bool:
    """Whether a loop device lies on the file with this key."""
    if os.geteuid() == 0:
        try:
            device, inode = loop.backing_identity(found.name)
        except OSError:
            return False
        return f"{device}-{inode}" == key
    try:
        return state.key_of(Path(found.backing).stat()) == key
    except OSError:
        return False


def _died(entry: MountEntry) -> bool:
    try:
        os.statvfs(entry.point)
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False


def server_lives(known: State) -> bool:
    """Whether the process that reads the disk out of the file still runs; True where there is none."""
    recorded = ProcessIdentity(known.server_pid, known.server_started)
    return not known.server_pid or recorded.alive() or not visible()


def _problem(
    key: str,
    known: State | None,
    found: tuple[Loop, ...],
    daemon: ProcessIdentity | None,
    entries: list[MountEntry],
) -> str:
    if known is None:
        return "the note about this attachment cannot be read"
    if moved := _moved(key, known):
        return moved
    if known.daemon_pid and daemon is None:
        return (
            f"the storage daemon (pid {known.daemon_pid}) has died: programs that use the disk get input/output errors;"
            " what was synced before is safe"
        )
    if not known.loop:
        return "attaching was interrupted"
    if not found:
        return f"the loop device /dev/{known.loop} is gone"
    if len(found) > 1:
        return "the image is attached more than once: " + ", ".join(other.device for other in found)
    if found[0].direct:
        return f"{found[0].device} uses direct I/O, which damages data"
    if any(mounts.is_fuse(entry.kind) and _died(entry) for entry in entries):
        return "the program that shows the filesystem has died"
    if not known.read_only and any(entry.failed for entry in entries):
        return f"the filesystem switched itself to read-only after errors{_no_room(Path(known.image).parent)}"
    return ""


def _moved(key: str, known: State) -> str:
    """Whether the file is not what it was."""
    noun = {SERVED: "the archive", OVERLAY: "the overlay"}.get(known.type, "the image file")
    if not server_lives(known):
        return f"the process that reads {noun} (pid {known.server_pid}) has died; nothing more can be read"
    try:
        replaced = state.key_of(Path(known.image).stat()) != key
    except (FileNotFoundError, NotADirectoryError):
        return f"{noun} {known.image} was deleted or moved while it was attached"
    except OSError:
        replaced = False  # somebody else's folder: we may not look
    if replaced:
        return f"{noun} {known.image} was replaced by another file while it was attached"
    return ""


def _is_at(entry: MountEntry, known: State) -> bool:
    return bool(known.mount_point) and str(entry.point) == known.mount_point


def _rootless_problem(folder: Path, known: State, daemon: ProcessIdentity | None, entries: list[MountEntry]) -> str:
    if known.daemon_pid and daemon is None:
        return f"the storage daemon (pid {known.daemon_pid}) has died"
    if not known.direct and not known.daemon_pid:
        return "attaching was interrupted"
    if any(_died(entry) for entry in entries):
        return "the program that shows the filesystem has died"
    if known.mount_point and not entries:
        if lock_is_held(driver_lock(folder)):
            return "the program that shows the filesystem runs, but what it shows is not mounted here"
        return "it was mounted, and is not any more: the machine was started anew, or somebody unmounted it"
    return ""


def _no_room(folder: Path) -> str:
    """The most frequent reason: a sparse image could not grow."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return ""
    return f"; {folder} has no room left for the image" if found.f_bavail * found.f_frsize < _LITTLE else ""
