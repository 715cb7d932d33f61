"""Giving the free blocks of a mounted filesystem back to the host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from portunix_vdisk.platform.formats import TYPES
from portunix_vdisk.platform.linux.attach_program import main
from portunix_vdisk.tests.platform.disks import Disk

MIB = 1 << 20


def fill_and_delete(point: Path) -> None:
    (point / "gone").write_bytes(os.urandom(16 * MIB))
    os.sync()
    (point / "gone").unlink()


def allocated(image: Path) -> int:
    return image.stat().st_blocks * 512


def test_an_image_that_can_shrinks_while_it_is_mounted(disk: Disk, tmp_path: Path) -> None:
    disk.attach()
    disk.mount(tmp_path / "point")
    fill_and_delete(tmp_path / "point")
    before = allocated(disk.image)
    given = disk.platform.trim(disk.image)
    if TYPES[disk.type].trim:
        assert given >= 16 * MIB
        assert allocated(disk.image) <= before - 16 * MIB
    else:
        assert given == 0
    assert disk.platform.trim(disk.image) <= given
    disk.platform.detach(disk.image)


def test_there_is_nothing_to_trim_where_nothing_is_mounted(img_disk: Disk, tmp_path: Path) -> None:
    assert img_disk.platform.trim(img_disk.image) == 0
    img_disk.attach(read_only=True)
    assert img_disk.platform.trim(img_disk.image) == 0
    img_disk.mount(tmp_path / "point")
    assert img_disk.platform.trim(img_disk.image) == 0
    img_disk.platform.detach(img_disk.image)


def test_the_privileged_verb(tmp_path: Path, img_disk: Disk, capsys: pytest.CaptureFixture[str]) -> None:
    img_disk.attach()
    img_disk.mount(tmp_path / "point")
    fill_and_delete(tmp_path / "point")
    path = os.environ["PATH"]
    try:
        assert main(["trim", f"--image={img_disk.image}"]) == 0
    finally:
        os.environ["PATH"] = path
    assert int(capsys.readouterr().out.split(":")[1].strip(" }\n")) >= 16 * MIB
    img_disk.platform.detach(img_disk.image)
