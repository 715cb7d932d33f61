"""Rows about a disk at work: created, filled beside ``cp -a`` and ``rsync -a``, mounted, unmounted, listed."""

from __future__ import annotations

from portunix_vdisk.tests.bench import figures, rivals
from portunix_vdisk.tests.bench.figures import Line, Samples
from portunix_vdisk.tests.bench.stage import DISK, Contestant, Stage, warm


def rows(stage: Stage) -> list[Line]:
    """Measure; leaves one filled disk that is not mounted."""
    create, mount, unmount, running, stopped, again = (Samples() for _ in range(6))
    copy, mirror = stage.folder / "copied", stage.folder / "mirrored"
    fill = Contestant("sync", stage.vdisk(*stage.sync_words()), stage.tree.path, peak="sync")
    others = [rivals.copied(stage, copy)]
    if rivals.has("rsync"):
        others.append(rivals.mirrored(stage, stage.tree.path, mirror))
    mount_point = str(stage.mount_point)
    for run in range(stage.runs):
        if run:
            stage.place.quiet("portunix", "vdisk", "delete", DISK, "--yes")
        stage.time(create, stage.vdisk("create", "--name", DISK, "--size", "20GB"))
        stage.time(mount, stage.vdisk("mount", DISK, mount_point))
        for one in (fill, *others):
            stage.turn(one, warm, "sync")
        stage.time(again, fill.act)
        stage.time(unmount, stage.vdisk("unmount", mount_point))
        stage.time(running, stage.vdisk("list"))
        stage.place.quiet("portunix", "plugin", "stop", "vdisk")
        stage.time(stopped, stage.vdisk("list"))
    for folder in (copy, mirror):
        rivals.removed(folder)()
    stage.image = stage.image_of(DISK)
    return [
        figures.seconds("create 20 GB", create, under=1),
        figures.seconds("mount", mount, under=0.5),
        figures.seconds("unmount", unmount, under=3),
        figures.seconds("list, plugin running", running, under=0.3),
        figures.seconds("list, plugin not running", stopped, under=1.5),
        *(figures.faster("sync, first", fill.samples, other.name, other.samples) for other in others),
        figures.seconds("sync, nothing changed", again),
    ]
