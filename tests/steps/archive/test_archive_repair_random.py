"""Archives with damage at places drawn at random: what comes back, and that nothing is made worse."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from archive_bytes import content, copy

from portunix_vdisk.platform.base import ImageType, Partition
from portunix_vdisk.platform.errors import Corrupt, VdiskError
from portunix_vdisk.steps.archive.donors import ArchiveSource, DiskSource
from portunix_vdisk.steps.archive.frame import RepairFrame
from portunix_vdisk.steps.archive.mending import Lenient
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.repair import RepairChunks
from portunix_vdisk.steps.archive.storage import ArchiveFile
from portunix_vdisk.steps.archive.verify import VerifyArchive
from portunix_vdisk.tests.support.chunks import CHUNK


@pytest.fixture
def disk(each_way: Any) -> Any:
    """Two generations, with patches."""
    each_way.export()
    each_way.change(CHUNK + 70_000, random.Random(1).randbytes(5000))
    each_way.change(2 * CHUNK, random.Random(2).randbytes(9000))
    each_way.export()
    each_way.new_process()
    return each_way


def spoil(disk: Any, seed: int) -> None:
    """One to four places of up to some KiB; half of them near the end, where directory and index are."""
    chance = random.Random(seed)
    with ArchiveFile(disk.output, writable=True, limit=disk.options.get("volume_size")) as file:
        for _ in range(chance.randint(1, 4)):
            length = chance.choice([1, 30, 512, 4096])
            start = chance.choice([0, max(0, file.size - 6000)])
            at = chance.randrange(start, file.size - length)
            file.write(at, (chance.choice([bytes(length), chance.randbytes(length)]),))


def readable(disk: Any) -> set[bytes]:
    """Digests of all chunks that can be read."""
    found: set[bytes] = set()
    with suppress(VdiskError), ArchiveFile(disk.output) as file:
        with ArchiveReader(disk.output, file=Lenient(file)) as newest:
            numbers = newest.generations
        for number in numbers:
            with suppress(VdiskError), ArchiveReader(disk.output, number, file=Lenient(file)) as reader:
                for chunk in reader.index.chunks:
                    with suppress(Corrupt):
                        reader.plain(chunk)
                        found.add(chunk.digest)
    return found


def repair(disk: Any, donors: Sequence[Any], copies: Sequence[Path] = ()) -> Any:
    """As the command does it."""
    frame = RepairFrame(disk.output, tuple(copies)).run(disk.ctx)
    return frame, RepairChunks(disk.output, tuple(donors)).run(disk.ctx)


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(n, marks=pytest.mark.full) for n in range(2, 60))])
def test_with_a_copy_everything_comes_back(disk: Any, seed: int) -> None:
    other = copy(disk.output, disk.folder / "copy.zip")
    before = content(disk.output)
    spoil(disk, seed)
    repair(disk, [ArchiveSource(other)], [other])
    VerifyArchive(disk.output).run(disk.ctx)
    disk.import_()
    disk.assert_same()
    after = content(disk.output)
    # Only what no generation needs may still be other than it was.
    assert len(after) == len(before)


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(n, marks=pytest.mark.full) for n in range(2, 60))])
def test_with_the_disk_alone_nothing_gets_worse(disk: Any, seed: int) -> None:
    spoil(disk, seed)
    before = readable(disk)
    size = disk.image.stat().st_size
    with suppress(Corrupt):
        _, result = repair(disk, [DiskSource(disk.image, ImageType.IMG, Partition(0, size), "ext4")])
        assert (result["lost_chunks"] == 0) or result["damaged_generations"]
    assert before <= readable(disk)
