"""Compacting with a foreign, damaged or outdated copy in the way, on a full host, and where it must not be done."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from blocks import free_extents, raw_of
from compacting import MIB, PARTITION, SIZE, UUID, Fixture, placed
from kinds import EACH, FORMAT
from silent import Silent

from portunix_vdisk.platform.base import ImageType
from portunix_vdisk.platform.errors import Corrupt, Failed, Refused
from portunix_vdisk.platform.linux.machine import LinuxPlatform
from portunix_vdisk.steps.compact.copy import CopyUsed, PrepareCopy
from portunix_vdisk.steps.compact.replace import Replace
from portunix_vdisk.steps.compact.survey import cells, survey
from portunix_vdisk.steps.step import Context


def test_what_lay_there_before_does_not_matter(disk: Fixture, original: Path) -> None:
    platform = LinuxPlatform()
    for size in (SIZE, SIZE // 2):
        platform.create_image(disk.task.partial, disk.type, size)
        with platform.open_image(disk.task.partial, disk.type, writable=True) as image:
            image.write(3 * MIB, os.urandom(2 * MIB))
            image.write(size - MIB, os.urandom(MIB))
        PrepareCopy(disk.task).run(Context(platform, Silent()))
    disk.task.partial.write_bytes(b"nonsense")
    disk.compact()
    disk.assert_compacted(original)


def test_what_is_wrong_in_an_earlier_copy_is_mended(disk: Fixture, original: Path) -> None:
    ctx = Context(LinuxPlatform(), Silent())
    PrepareCopy(disk.task).run(ctx)
    CopyUsed(disk.task).run(ctx)
    with raw_of(original) as raw:
        free = max(free_extents(raw, PARTITION), key=lambda run: run[1] - run[0])[0]
    inode = disk.task.partial.stat().st_ino
    with ctx.platform.open_image(disk.task.partial, disk.type, writable=True) as image:
        used = max(survey(disk.task, ctx.platform).kept, key=lambda run: run[1] - run[0])[0]
        image.write(used, os.urandom(65536))
        image.write(free + 4096, os.urandom(65536))
    result = disk.compact()
    assert disk.image.stat().st_ino == inode, "it began anew"
    assert int(str(result["written_bytes"])) < 3 * MIB
    disk.assert_compacted(original)


def test_a_damaged_copy_never_takes_the_place(disk: Fixture, original: Path) -> None:
    ctx = Context(LinuxPlatform(), Silent())
    PrepareCopy(disk.task).run(ctx)
    CopyUsed(disk.task).run(ctx)
    before = disk.digest()
    place = survey(disk.task, ctx.platform).kept[2][0]
    with ctx.platform.open_image(disk.task.partial, disk.type, writable=True) as image:
        (byte,) = image.read(place, 1)
        image.write(place, bytes([byte ^ 1]))
    with pytest.raises(Corrupt, match="differs"):
        Replace(disk.task, disk.catalog, UUID).run(ctx)
    assert disk.digest() == before
    disk.compact()
    disk.assert_compacted(original)


class Optimist(LinuxPlatform):
    """Believes that there is room for everything."""

    def free_space(self, folder: Path) -> int:
        return 1 << 60


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A filesystem with room for the image and little more."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=72M", "none", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("type", EACH)
def test_a_full_host_loses_nothing(type: ImageType, small: Path, originals: dict[ImageType, Path]) -> None:
    disk = placed(small, originals[type], type)
    before = disk.digest()
    with pytest.raises(Refused, match="are free") as refused:
        disk.compact()
    assert refused.value.hint
    assert not disk.task.partial.exists()
    with pytest.raises(Failed, match="no space left") as failed:
        disk.compact(platform=Optimist())
    assert str(disk.task.partial) in failed.value.what
    assert "not touched" in failed.value.state
    assert disk.digest() == before
    subprocess.run(["mount", "-o", "remount,size=200M", small], check=True)
    disk.compact()
    disk.assert_compacted(originals[type])


def test_what_must_not_be_replaced_is_refused(disk: Fixture, tmp_path: Path) -> None:
    other = tmp_path / "other name"
    other.hardlink_to(disk.image)
    with pytest.raises(Refused, match="hard link"):
        disk.compact()
    other.unlink()
    disk.task.partial.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused, match="in the way"):
        disk.compact()
    disk.task.partial.unlink()
    format = FORMAT[disk.type.extension]
    machine = subprocess.Popen(
        ["qemu-io", "-f", format, disk.image], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert machine.stdin is not None
    assert machine.stdout is not None
    machine.stdin.write("length\n")
    machine.stdin.flush()
    machine.stdout.read(12)
    try:
        with pytest.raises(Refused, match="use"):
            disk.compact()
    finally:
        machine.communicate()
    assert not disk.task.partial.exists()
    disk.compact()


def test_counting_cells() -> None:
    assert cells([(0, 1), (1, 5), (9, 21), (29, 30)], 10) == 3
    assert cells([], 10) == 0
    assert cells([(5, 25), (26, 27)], 10) == 3
