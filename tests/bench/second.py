"""Rows about the second export to the same file: what it appends, and how long it takes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from portunix_vdisk.tests.bench import figures, rivals
from portunix_vdisk.tests.bench.changes import compressed_size, one_project, replace_files, some_files
from portunix_vdisk.tests.bench.figures import Line, Samples
from portunix_vdisk.tests.bench.stage import DISK, Contestant, Stage, say, warm

WASTE = 64_000_000
"""Bytes that are deleted before ``compact``."""

Choice = Callable[[Path, int], list[Path]]


@dataclass(slots=True)
class Change:
    """A first export, a change, a second export to the same file; the same in each round."""

    what: str
    first: Samples = field(default_factory=Samples)
    again: Samples = field(default_factory=Samples)
    size: list[int] = field(default_factory=list)
    """Bytes of the archive after the first export."""
    appended: list[int] = field(default_factory=list)
    replaced: list[int] = field(default_factory=list)
    """Compressed bytes of the files that were replaced."""


def rows(stage: Stage) -> list[Line]:
    """Measure; the disk's content is another one afterwards."""
    others = _others(stage)
    few = Change("second export, 1 % of the files replaced")
    project = Change("second export, a project of a fortieth replaced")
    compacted = Change("second export, after `compact`")
    unchanged = Samples()
    for run in range(stage.runs):
        _change(stage, few, run, lambda tree, seed: some_files(tree, 0.01, seed))
        for one in others:
            stage.turn(one, warm, "second export")
        _change(stage, project, 1000 + run, lambda tree, _: one_project(tree, 1 / 40))
        stage.mounted(lambda: _waste(stage))
        _measure(stage, compacted, lambda: _compact(stage))
        stage.time(unchanged, stage.export(_archive(stage)))
    return [
        figures.share(few.what, median(few.appended), median(few.size), "the first export", at_most=0.15),
        figures.share(few.what, median(few.appended), median(few.replaced), "`tar \\| zstd` of these", at_most=10),
        figures.faster(few.what, few.again, "the first export", few.first, at_least=3),
        *(figures.faster(few.what, few.again, one.name, one.samples, at_least=1) for one in others),
        figures.share(
            project.what, median(project.appended), median(project.replaced), "`tar \\| zstd` of these", at_most=3
        ),
        figures.faster(project.what, project.again, "the first export", project.first, at_least=10),
        figures.share(compacted.what, median(compacted.appended), median(compacted.size), "the first", at_most=0.01),
        figures.seconds("second export, nothing changed", unchanged, under=0.5),
    ]


def _others(stage: Stage) -> list[Contestant]:
    """What brings an older copy of the tree up to date; the older copies are made here if no row made them before."""
    found = []
    if rivals.has("rsync"):
        stage.ready(stage.mirror, rivals.mirrored(stage, stage.copy, stage.mirror).act)
        found.append(rivals.mirrored(stage, stage.copy, stage.mirror, again=True))
    backups = rivals.Backups(stage)
    for program in backups.programs:
        if not backups.repositories[program].exists():
            first = backups.first(program, stage.copy)
            first.before()
            first.act()
        found.append(backups.again(program, stage.copy))
    return found


def _change(stage: Stage, change: Change, seed: int, choose: Choice) -> None:
    """The same files are replaced on the disk and in the copy that the other programs read."""
    files = choose(stage.copy, seed)

    def replace() -> None:
        for tree in (stage.work, stage.copy):
            replace_files(tree, files, seed)
        change.replaced.append(compressed_size(stage.copy, files))

    _measure(stage, change, lambda: stage.mounted(replace))


def _measure(stage: Stage, change: Change, act: Callable[[], object]) -> None:
    say(f"{change.what}, round {len(change.size) + 1} of {stage.runs}")
    archive = _archive(stage)
    archive.unlink(missing_ok=True)
    warm(stage.image)
    stage.time(change.first, stage.export(archive), moves_data=True)
    change.size.append(archive.stat().st_size)
    act()
    warm(stage.image)
    stage.time(change.again, stage.export(archive), moves_data=True)
    change.appended.append(archive.stat().st_size - change.size[-1])


def _waste(stage: Stage) -> None:
    """Write and delete a file, so that there is something to compact."""
    file = stage.work / "waste"
    file.write_bytes(os.urandom(WASTE))
    os.sync()
    file.unlink()


def _compact(stage: Stage) -> None:
    """Compact the disk. Raises ``RuntimeError`` if that left the image as it was: the row would prove nothing then."""
    before = stage.image.stat()
    stage.place.quiet("portunix", "vdisk", "compact", DISK)
    if stage.image.stat().st_ino == before.st_ino:
        raise RuntimeError("there was nothing to compact")


def _archive(stage: Stage) -> Path:
    return stage.folder / "second.zip"
