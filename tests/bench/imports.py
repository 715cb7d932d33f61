"""Rows about the import and ``verify``: beside what the disk and the processor can do at best, and beside unpacking."""

from __future__ import annotations

from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.tests.bench import figures, rivals
from portunix_vdisk.tests.bench.figures import Line, Samples
from portunix_vdisk.tests.bench.stage import COPY, Contestant, Stage, cold, warm

FAST = 700e6
"""Bytes of the disk a second that an import shall reach where the host's disk can take them."""


def rows(stage: Stage) -> list[Line]:
    """Measure warm, then cold. Uses the archive and the packed tar of the export, or makes them."""
    stage.ready(stage.archive, stage.export(stage.archive))
    stage.ready(stage.packed, rivals.tar(stage).act)
    stage.ready(rivals.compressed_image(stage, "zstd"), rivals.qemu(stage, "zstd").act)
    with ArchiveReader(stage.archive) as reader:
        size = reader.index.data_bytes
    lines: list[Line] = []
    unpacked = stage.folder / "unpacked"
    writing, unpacking = Samples(), Samples()
    verify = Contestant("verify", stage.vdisk("verify", str(stage.archive)), stage.archive, peak="verify")
    for name, cache in (("import, warm", warm), ("import, cold", cold)):
        bring_in = stage.vdisk("import", str(stage.archive), "--name", COPY)
        ours = Contestant(name, bring_in, stage.archive, lambda: _without_copy(stage), peak="import")
        untar, unqemu = rivals.untar(stage, unpacked), rivals.unqemu(stage)
        for _ in range(stage.runs):
            for one in (ours, untar, unqemu):
                stage.turn(one, cache, name)
            if cache is warm:
                writing.add(stage.program("write_limit.py", stage.folder, str(size)))
                stage.turn(verify, warm, "verify")
                unpacking.add(stage.program("limit.py", "unpack", stage.archive))
        if cache is warm:
            lines.append(figures.rate(name, size, ours.samples, writing, at_least=FAST))
        at_least = None if cache is warm else 2.5
        lines.append(figures.faster(name, ours.samples, untar.name, untar.samples, at_least=at_least))
        lines.append(figures.faster(name, ours.samples, unqemu.name, unqemu.samples))
    lines.append(figures.of_limit("verify", verify.samples, "decompression alone, in memory", unpacking))
    _without_copy(stage)
    rivals.removed(unpacked)()
    return lines


def _without_copy(stage: Stage) -> None:
    disks = stage.place.ask("portunix", "vdisk", "list")["disks"]
    if any(disk["name"] == COPY for disk in disks):
        stage.place.quiet("portunix", "vdisk", "delete", COPY, "--yes")
