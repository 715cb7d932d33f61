"""What is written down about attachments, machine-wide: one folder per image in ``/run``, gone after a reboot.

``/run/portunix-vdisk/<device>-<inode>/`` (of the image file, decimal) belongs to root and is readable for everybody:
``state.json`` says what was intended, ``lock`` is held by the storage daemon, ``export`` is where its file appears,
``pid`` is its process id; ``monitor/``, for root alone, is where it takes commands. What is *true* is looked up each
time in :mod:`portunix_vdisk.platform.linux.facts`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from portunix_vdisk.platform.base import ImageType, Partition
from portunix_vdisk.platform.errors import Failed
from portunix_vdisk.platform.linux import mounts

ROOT = Path("/run/portunix-vdisk")
VERSION = 1
SERVED = "nbd"
"""Type of an attachment whose disk comes from a server and not from an image file."""
OVERLAY = "overlay"
"""The same, and it may be written to: the server keeps what is written in the file, an overlay."""
_LARGEST = 1 << 16


@dataclass(frozen=True, slots=True)
class State:
    """What the last command meant to do with an image.

    ``owner`` is the user id of the person it was attached for; ``loop`` the name of the loop device (``loop3``), empty
    before there is one; ``daemon_pid`` and ``daemon_started`` identify the storage daemon, zero without one;
    ``mount_point`` is empty when not mounted. ``server_pid`` and ``server_started`` identify the process that reads the
    disk out of the file, for the types :data:`SERVED` and :data:`OVERLAY`, otherwise zero. ``live``: a storage daemon
    that takes commands stands between image and block device, so that the disk can be exported while it is used.
    ``encrypted``: the partition is, and its plain content is shown.
    ``rootless``: programs of the person show everything, see :mod:`portunix_vdisk.platform.linux.rootless`; there is no
    loop device, and ``live`` only says that a storage daemon stands between.
    ``label``: which of several states of the file's disk is shown, in the words of who attached it.
    """

    image: str
    type: str
    start: int
    length: int
    read_only: bool
    owner: int
    loop: str = ""
    daemon_pid: int = 0
    daemon_started: int = 0
    mount_point: str = ""
    mount_point_made: bool = False
    server_pid: int = 0
    server_started: int = 0
    live: bool = False
    label: str = ""
    encrypted: bool = False
    rootless: bool = False

    @property
    def direct(self) -> bool:
        """Whether what shows the partition lies on the image file itself, with no storage daemon between."""
        return self.type not in (SERVED, OVERLAY) and ImageType(self.type).raw and not self.live

    @property
    def partition(self) -> Partition:
        """Where the partition lies."""
        return Partition(self.start, self.length)


def key_of(status: os.stat_result) -> str:
    """The name of an image's state folder."""
    return f"{status.st_dev}-{status.st_ino}"


def keys(root: Path) -> Iterator[str]:
    """Names of all state folders."""
    try:
        names = sorted(folder.name for folder in root.iterdir() if folder.is_dir())
    except (FileNotFoundError, PermissionError):  # nothing of ours is in a home that we may not look into
        return
    yield from names


def read(folder: Path) -> State | None:
    """What is written down; None if nothing that we understand is."""
    try:
        with (folder / "state.json").open("rb") as file:
            found = json.loads(file.read(_LARGEST))
        if found.pop("version") != VERSION:
            return None
        state = State(**found)
        if state.type not in (SERVED, OVERLAY):
            ImageType(state.type)
        Partition(int(state.start), int(state.length))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return state


def write(folder: Path, state: State) -> None:
    """Write it down by rename; makes the folder. Raises ``OSError``."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    partial = folder / "state.json.partial"
    # /run is memory: nothing survives a power cut, so there is nothing to sync.
    partial.write_text(json.dumps({"version": VERSION, **asdict(state)}), encoding="utf-8")
    partial.chmod(0o644)
    partial.replace(folder / "state.json")


def private_mount(folder: Path) -> Path:
    """Where a filesystem that a program shows is mounted for a moment, before it is where a person wants it."""
    return folder / "files"


def driver_lock(folder: Path) -> Path:
    """The file that a filesystem's program keeps locked as long as it lives, where nobody is root."""
    return folder / "driver"


def remove(folder: Path) -> None:
    """Forget everything about an image. Never leaves a folder without ``state.json`` behind in normal operation.

    Nothing below a mount is touched: that would be the files on the disk. Raises ``Failed``.
    """
    if any(entry.point.is_relative_to(folder) for entry in mounts.mounted()):
        raise Failed(f"something is still mounted below {folder}", hint="unmount it first")
    shutil.rmtree(folder, ignore_errors=True)
