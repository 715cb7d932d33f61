from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest
from silent import Silent

from portunix_vdisk.platform.base import AttachRequest, FileSystemType, ImageType, Owner
from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.platform.linux.machine import LinuxPlatform
from portunix_vdisk.steps.allocate import Allocate
from portunix_vdisk.steps.format import Format
from portunix_vdisk.steps.partition import plan_partition
from portunix_vdisk.steps.step import Context
from portunix_vdisk.steps.sync.mirror import Mirror

FAT, EXFAT, NTFS = FileSystemType.FAT32, FileSystemType.EXFAT, FileSystemType.NTFS


def grown(folder: Path) -> tuple[Path, Path]:
    source, root = folder / "source", folder / "root"
    (source / "in").mkdir(parents=True)
    root.mkdir()
    (source / "in" / "plain").write_bytes(b"x" * 5000)
    return source, root


def mirror(source: Path, root: Path, fs: FileSystemType | None) -> dict[str, object]:
    step = Mirror(source, root / "target", root, file_system=fs)
    result = step.run(Context(LinuxPlatform(), Silent()))
    assert isinstance(result, dict)
    return result


@pytest.mark.parametrize(
    ("name", "refusing"),
    [
        ("what?", {FAT, EXFAT, NTFS}),
        ("a:b", {FAT, EXFAT, NTFS}),
        ("ends with a point.", {FAT, EXFAT, NTFS}),
        ("con.txt", {FAT, EXFAT, NTFS}),
        ("caf\udce9", {FAT, EXFAT, NTFS}),
        ("Plain", {FAT, EXFAT}),
        (".hidden", set()),
        ("two words.tar.gz", set()),
    ],
)
@pytest.mark.parametrize("fs", [None, FileSystemType.EXT4, FAT, EXFAT, NTFS])
def test_names_that_do_not_fit_stop_it_before_the_first_write(
    tmp_path: Path, fs: FileSystemType | None, name: str, refusing: set[FileSystemType]
) -> None:
    source, root = grown(tmp_path)
    (source / "in" / name).write_bytes(b"y")
    if fs in refusing:
        with pytest.raises(Refused, match="do not fit") as refused:
            mirror(source, root, fs)
        assert "nothing was written" in refused.value.state
        assert list(root.iterdir()) == []
    else:
        mirror(source, root, fs)
        assert {each.name for each in (root / "target/in").iterdir()} == {"plain", name}


def test_a_file_that_fat_cannot_hold(tmp_path: Path) -> None:
    source, root = grown(tmp_path)
    os.truncate(source / "in" / "plain", 4 << 30)
    with pytest.raises(Refused, match="4294967295 in a file at most"):
        mirror(source, root, FAT)
    assert list(root.iterdir()) == []


def test_links_are_left_out_and_told(tmp_path: Path) -> None:
    source, root = grown(tmp_path)
    (source / "link").symlink_to("in/plain")
    (source / "hard").hardlink_to(source / "in/plain")
    result = mirror(source, root, EXFAT)
    assert result["skipped"] == ["link: a symbolic link, which exfat cannot hold"]
    target = root / "target"
    assert sorted(path.name for path in target.iterdir()) == ["hard", "in"]
    assert (target / "hard").stat().st_nlink == 1
    assert (target / "hard").read_bytes() == (target / "in/plain").read_bytes() == b"x" * 5000


@pytest.mark.parametrize("fs", [FAT, EXFAT, NTFS])
def test_onto_the_real_thing_twice(tmp_path: Path, fs: FileSystemType) -> None:
    """Owners and modes that cannot be kept are no failure, and the second run copies nothing."""
    platform, image, point = LinuxPlatform(), tmp_path / "disk.loop", tmp_path / "point"
    size, ctx = 64 << 20, Context(LinuxPlatform(), Silent())
    Allocate(image, ImageType.LOOP, size).run(ctx)
    place = plan_partition(size, ImageType.LOOP)
    Format(image, ImageType.LOOP, place, fs, "x", str(uuid.uuid4()), Owner(0, 0), tmp_path / "scratch").run(ctx)
    source, _ = grown(tmp_path)
    (source / "in/large.bin").write_bytes(os.urandom(3 << 20))
    (source / "in/run.sh").write_bytes(b"#!/bin/sh\n")
    (source / "in/run.sh").chmod(0o700)
    os.chown(source / "in/run.sh", 1234, 567)
    platform.attach(AttachRequest(image, ImageType.LOOP, place, read_only=False))
    platform.mount(image, fs, point)
    try:
        first = Mirror(source, point / "target", point, file_system=fs).run(ctx)
        second = Mirror(source, point / "target", point, file_system=fs).run(ctx)
        assert isinstance(first, dict)
        assert isinstance(second, dict)
        assert (first["files_copied"], second["files_copied"]) == (3, 0)
        platform.unmount(image)
        platform.mount(image, fs, point)
        for path in (source / "in").iterdir():
            assert (point / "target/in" / path.name).read_bytes() == path.read_bytes()
    finally:
        platform.detach(image)
