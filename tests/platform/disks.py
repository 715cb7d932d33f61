"""The disk that the tests of the platform use, and what a test may have left of it."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.platform.base import MIB, AttachRequest, FileSystemType, ImageType, Partition
from portunix_vdisk.platform.linux import facts, loop, mounts, state
from portunix_vdisk.platform.linux.machine import LinuxPlatform
from portunix_vdisk.platform.linux.processes import arguments_of, running, start_time

SIZE = 64 * MIB
PARTITION = Partition(MIB, SIZE - 2 * MIB)


@dataclass(frozen=True, slots=True)
class Disk:
    """An image with a filesystem."""

    platform: LinuxPlatform
    image: Path
    type: ImageType

    def attach(self, *, read_only: bool = False) -> str:
        return self.platform.attach(AttachRequest(self.image, self.type, PARTITION, read_only=read_only)).device

    def mount(self, point: Path) -> None:
        self.platform.mount(self.image, FileSystemType.EXT4, point)

    def repair(self) -> list[str]:
        return self.platform.repair(self.image, self.type, PARTITION, FileSystemType.EXT4)


def leftovers(folder: Path) -> list[str]:
    """What of ours is still there because of images below ``folder``."""
    marks = os.fsencode(folder)
    found = [f"loop {each}" for each in loop.loops() if each.backing.startswith(str(folder))]
    found += [f"mount {each}" for each in mounts.mounted() if str(each.point).startswith(str(folder))]
    for pid in running():
        words = arguments_of(pid)
        if pid != os.getpid() and start_time(pid) and any(marks in word for word in words):
            found.append(f"process {pid} {words}")
    keys = set()
    for file in folder.iterdir():  # not deeper: what a failed test left mounted may be dead
        with suppress(OSError):
            keys.add(state.key_of(file.lstat()))
    for each in facts.observe_all(state.ROOT):
        if each.key in keys or (each.state is not None and each.state.image.startswith(str(folder))):
            found += [f"state {each}"]
    # Whose name goes on is something else: the folder of an ordinary user in another test.
    found += [f"socket {path}" for path in Path(tempfile.gettempdir()).glob("portunix-vdisk-????????")]
    return found
