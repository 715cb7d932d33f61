"""Rows about the first export: beside the pure limit and everything that a person would use instead."""

from __future__ import annotations

from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.tests.bench import figures, rivals
from portunix_vdisk.tests.bench.figures import Line, Samples
from portunix_vdisk.tests.bench.stage import Contestant, Stage, cold, warm


def rows(stage: Stage) -> list[Line]:
    """Measure warm, then cold; leaves the archive, the packed tar and the compressed qcow2."""
    lines: list[Line] = []
    for name, cache in (("export, warm", warm), ("export, cold", cold)):
        is_warm, limit = cache is warm, Samples()
        ours = Contestant(name, stage.export(stage.archive), stage.image, rivals.removed(stage.archive), peak="export")
        tar, zstd = rivals.tar(stage), rivals.qemu(stage, "zstd")
        others = [tar, zstd, *(_slow_ones(stage) if is_warm else ())]
        for _ in range(stage.runs):
            for one in (ours, *others):
                stage.turn(one, cache, name)
            limit.add(stage.program("limit.py", "pack", stage.archive))
        at_least = {tar.name: 1.0 if is_warm else 2.5, zstd.name: 1.3}
        at_least |= {one.name: 1.0 for one in others[2:]}
        lines.append(figures.of_limit(name, ours.samples, "zstd alone, in memory", limit))
        lines += (
            figures.faster(name, ours.samples, one.name, one.samples, at_least=at_least[one.name]) for one in others
        )
        if is_warm:
            lines += _sizes(stage)
    return lines


def _slow_ones(stage: Stage) -> list[Contestant]:
    copied, mirrored = stage.folder / "copied", stage.mirror
    found = [rivals.qemu(stage, "zlib"), rivals.copied(stage, copied)]
    if rivals.has("zip"):
        found.append(rivals.zipped(stage))
    if rivals.has("rsync"):
        found.append(rivals.mirrored(stage, stage.copy, mirrored))
    backups = rivals.Backups(stage)
    return [*found, *(backups.first(program, stage.copy) for program in backups.programs)]


def _sizes(stage: Stage) -> list[Line]:
    with ArchiveReader(stage.archive) as reader:
        used = reader.index.data_bytes
    size, packed = stage.archive.stat().st_size, stage.packed.stat().st_size
    image = rivals.compressed_image(stage, "zstd").stat().st_size
    lines = [
        figures.share("size of the archive", size, packed, "`tar \\| zstd -3`", at_most=1),
        figures.share("size of the archive", size, image, "`qemu-img convert -c` zstd", at_most=1),
        figures.share("size of the archive", size, used, "used on the disk", at_most=0.25),
    ]
    for program, folder in rivals.Backups(stage).repositories.items():
        if folder.exists():
            repository = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            lines.append(figures.share("size of the archive", size, repository, f"`{program}`'s repository", at_most=1))
    return lines
