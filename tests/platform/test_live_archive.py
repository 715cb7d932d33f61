"""Archives of mounted disks, step by step: interrupted, out of room, continued."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from silent import Silent

from portunix_vdisk.platform.base import ImageType, Owner
from portunix_vdisk.platform.errors import Failed
from portunix_vdisk.steps.archive.documents import DiskFacts
from portunix_vdisk.steps.archive.export import close_exports, job_of
from portunix_vdisk.steps.archive.imports import Import, close_imports
from portunix_vdisk.steps.archive.pack import Pack, Scan
from portunix_vdisk.steps.archive.plan import Export
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.seal import Publish, Seal, Verify
from portunix_vdisk.steps.archive.unpack import Finish, Prepare, Unpack
from portunix_vdisk.steps.live import SnapshotSource
from portunix_vdisk.steps.step import Context, Json
from portunix_vdisk.tests.platform.disks import PARTITION, SIZE, Disk
from portunix_vdisk.tests.platform.test_snapshots import live, mounted_copy, nodes, noise, tiny

__all__ = ["live", "tiny"]
COUNT = 4
FACTS = DiskFacts(
    "disk",
    "5b0c7f1e-6a43-4d0e-9f57-0d4a3c1b2e99",
    ImageType.IMG,
    SIZE,
    "ext4",
    PARTITION,
    "2025-01-02T03:04:05+00:00",
    Owner(0, 0),
)


class Work:
    """An export of a live disk, and the import of it."""

    def __init__(self, disk: Disk, folder: Path) -> None:
        self.disk, self.folder, self.room = disk, folder, folder
        self.ctx = Context(disk.platform, Silent())
        self.export = Export(disk.image, folder / "a.zip", FACTS, source=self.source)

    def source(self, ctx: Context) -> SnapshotSource:
        made = SnapshotSource(ctx, self.disk.image, SIZE, [self.room])
        made.narrow(PARTITION, "ext4")
        return made

    def pack(self, *numbers: int) -> None:
        Scan(self.export).run(self.ctx)
        for number in numbers or range(COUNT):
            Pack(self.export, number, COUNT).run(self.ctx)

    def finish(self) -> Mapping[str, Json]:
        Seal(self.export).run(self.ctx)
        Verify(self.export, contents=True).run(self.ctx)
        result = Publish(self.export).run(self.ctx)
        close_exports()
        assert isinstance(result, Mapping)
        return result

    def import_(self) -> Path:
        task = Import(self.export.output, self.folder / "back.partial", ImageType.IMG)
        Prepare(task).run(self.ctx)
        for number in range(COUNT):
            Unpack(task, number, COUNT).run(self.ctx)
        Finish(task).run(self.ctx)
        close_imports()
        return self.folder / "back.partial"


@pytest.fixture
def work(live: Disk, tmp_path: Path) -> Iterator[Work]:
    yield Work(live, tmp_path)
    close_exports()
    close_imports()


def overwrite(work: Work, seed: int) -> None:
    point = work.folder / "mnt"
    for number in range(8):
        (point / f"old{number}").write_bytes(noise(700_000, seed + number))
    (point / f"more{seed}").write_bytes(noise(3_000_000, seed))
    subprocess.run(["sync", "-f", point], check=True)


def contents(work: Work, seed: int) -> bool:
    raw = work.import_()
    with mounted_copy(raw, work.folder / "look") as look:
        return all((look / f"old{number}").read_bytes() == noise(700_000, seed + number) for number in range(8))


def test_it_holds_one_moment_however_long_it_takes(work: Work) -> None:
    before = nodes(work.disk)
    work.pack(0)
    overwrite(work, 100)
    work.pack(*range(1, COUNT))
    overwrite(work, 200)
    work.finish()
    assert nodes(work.disk) == before
    assert contents(work, 0)
    with ArchiveReader(work.export.output) as reader:
        assert reader.index.source.view.startswith("snapshot-")


def test_continued_it_holds_the_later_moment(work: Work) -> None:
    work.pack()
    close_exports()
    overwrite(work, 100)
    work.pack()
    result = work.finish()
    assert isinstance(result["reused_bytes"], int) and result["reused_bytes"] > 2_000_000
    assert contents(work, 100)


def test_continued_after_unmounting_it_holds_the_image(work: Work, tmp_path: Path) -> None:
    work.pack(0)
    close_exports()
    overwrite(work, 100)
    work.disk.platform.unmount(work.disk.image)
    work.disk.platform.detach(work.disk.image)
    work.export = replace(work.export, source=None, disk=replace(FACTS, type=work.disk.type))
    work.pack()
    work.finish()
    assert contents(work, 100)


def test_without_room_for_what_is_overwritten_it_fails_and_continues(work: Work, tiny: Path) -> None:
    work.pack(0)
    close_exports()
    work.room = tiny
    Scan(work.export).run(work.ctx)
    overwrite(work, 100)
    with pytest.raises(Failed, match="is lost") as caught:
        work.pack()
    assert f"room for in {tiny}" in caught.value.hint and "continue" in caught.value.hint
    assert job_of(work.export.output) is None
    assert work.export.unfinished.exists()
    work.room = work.folder
    work.pack()
    work.finish()
    assert contents(work, 100)


def test_free_blocks_are_left_out_also_while_deleted_files_are_open(work: Work) -> None:
    def bytes_in_use() -> int:
        source = work.source(work.ctx)
        source.close()
        return sum(end - start for start, end in source.extents)

    def junk() -> None:
        (point / "junk").write_bytes(noise(30_000_000, 9))
        subprocess.run(["sync", "-f", point], check=True)
        (point / "junk").unlink()

    point = work.folder / "mnt"
    junk()  # what was never in use is not known to be free
    before = bytes_in_use()
    with (point / "open").open("wb") as file:
        file.write(noise(2_000_000, 10))
        junk()
        (point / "open").unlink()
        assert before + 1_500_000 < bytes_in_use() < before + 4_000_000
        work.pack()
        work.finish()
    raw = work.import_()
    # Whoever mounts it next, or checks it, finishes deleting that file.
    done = subprocess.run(["e2fsck", "-fp", f"{raw}?offset={PARTITION.start}"], capture_output=True, check=False)
    assert done.returncode in (0, 1) and b"Clearing orphaned inode" in done.stdout
    with mounted_copy(raw, work.folder / "look") as look:
        assert not (look / "open").exists()
        assert all((look / f"old{number}").read_bytes() == noise(700_000, number) for number in range(8))
