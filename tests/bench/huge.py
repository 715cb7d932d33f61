"""The rows about memory: a sparse disk of 2 TB, and the largest that any worker took in the other rows."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from portunix_vdisk.tests.bench import figures
from portunix_vdisk.tests.bench.environment import measure
from portunix_vdisk.tests.bench.figures import Line, Samples
from portunix_vdisk.tests.bench.processes import Watch
from portunix_vdisk.tests.bench.stage import Stage, say

MEMORY = 300_000_000
"""Bytes that a worker may take."""
DISK, COPY = "bench-huge", "bench-huge-copy"
PARTS = ("projects/webapi", "home")
ROOM = 5 << 40
"""Bytes that the host's disk pretends to have: a disk that could never be filled is refused."""


@contextmanager
def roomy(stage: Stage) -> Iterator[Path]:
    """A folder on a filesystem that believes to have room for disks of 2 TB, in a sparse file."""
    file, folder = stage.folder / "roomy.img", stage.folder / "roomy"
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]

    def run(*command: str | Path) -> None:
        subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, env=stage.place.environment)

    with file.open("wb") as made:
        made.truncate(ROOM)
    folder.mkdir()
    options = "lazy_itable_init=1,nodiscard,root_owner"
    run("mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-T", "largefile4", "-m", "0", "-E", options, file)
    run(*root, "mount", "-o", "loop,noinit_itable", file, folder)
    try:
        yield folder
    finally:
        run(*root, "umount", folder)
        file.unlink()


def rows(stage: Stage) -> list[Line]:
    """Export and import once: what is looked at is memory, and it doesn't depend on the day."""
    archive, point = stage.folder / "huge.zip", str(stage.folder / "huge")
    vdisk = stage.vdisk
    content = sum(measure(stage.tree.path / part)[1] for part in PARTS)
    lines = []
    say("a disk of 2 TB")
    with roomy(stage) as folder:
        try:
            vdisk("create", "--name", DISK, "--size", "2TB", "--type", "img", "--path", f"{folder}/")()
            vdisk("mount", DISK, point)()
            for part in PARTS:
                vdisk("sync", "--source", str(stage.tree.path / part), "--target", f"{point}/{part}")()
            vdisk("unmount", point)()
            for name, act in (
                ("export", stage.export(archive, DISK)),
                ("import", vdisk("import", str(archive), "--name", COPY, "--path", f"{folder}/")),
            ):
                what, samples = f"{name} of 2 TB with {content / 1e6:.0f} MB on it", Samples()
                with Watch(stage.place.plugin_pid()) as watch:
                    stage.time(samples, act, moves_data=True)
                lines.append(figures.seconds(what, samples))
                lines.append(figures.memory(f"{what}, peak memory", watch.memory, under=MEMORY))
        finally:
            _without_disks(stage)  # they can't be deleted any more once their folder is away
    archive.unlink()
    return lines


def peaks(stage: Stage) -> list[Line]:
    """Memory of the operations that were measured in other rows."""
    return [figures.memory(f"{name}, peak memory", peak, under=MEMORY) for name, peak in stage.peaks.items()]


def _without_disks(stage: Stage) -> None:
    for disk in stage.place.ask("portunix", "vdisk", "list")["disks"]:
        if disk["name"] in (DISK, COPY):
            if disk["mount_point"]:
                stage.place.quiet("portunix", "vdisk", "unmount", disk["name"])
            stage.place.quiet("portunix", "vdisk", "delete", disk["name"], "--yes")
