"""Headers of VHDX and QCOW2 that lie, and what a killed writer leaves in them."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import pytest

from portunix_vdisk.platform import qcow2, vhdx
from portunix_vdisk.platform.base import MIB, AttachRequest, ImageType, Partition
from portunix_vdisk.platform.crc32c import crc32c
from portunix_vdisk.platform.errors import Corrupt, Refused
from portunix_vdisk.platform.linux.machine import LinuxPlatform

SIZE = 64 * MIB
PLACE = Partition(MIB, SIZE - 2 * MIB)


def written(platform: LinuxPlatform, folder: Path, type: ImageType) -> Path:
    image = folder / f"disk.{type}"
    platform.create_image(image, type, SIZE)
    with platform.open_image(image, type, writable=True) as disk:
        disk.write(5 * MIB, b"data" * 1000)
    return image


def patch(image: Path, offset: int, data: bytes) -> None:
    with image.open("r+b") as file:
        file.seek(offset)
        file.write(data)


@pytest.mark.parametrize(
    ("offset", "data", "expected", "words"),
    [
        (0, b"QFJ", Corrupt, "no QCOW2"),
        (4, struct.pack(">I", 4), Refused, "version 4"),
        (8, struct.pack(">QI", 1024, 10), Refused, "backing file"),
        (20, struct.pack(">I", 40), Corrupt, "clusters of 2\\^40"),
        (24, struct.pack(">Q", 1 << 60), Corrupt, "tables for a disk"),
        (24, struct.pack(">Q", 1000), Corrupt, "tables for a disk"),
        (40, struct.pack(">Q", 1 << 50), Corrupt, "outside of it"),
        (72, struct.pack(">Q", 2), Corrupt, "marked the QCOW2"),
        (72, struct.pack(">Q", 4), Refused, "another file"),
        (72, struct.pack(">Q", 1 << 40), Refused, "features"),
    ],
)
def test_no_qcow2_that_lies_or_leads_elsewhere_is_opened(
    platform: LinuxPlatform, tmp_path: Path, offset: int, data: bytes, expected: type[Exception], words: str
) -> None:
    image = written(platform, tmp_path, ImageType.QCOW2)
    patch(image, offset, data)
    for act in (
        lambda: platform.map_image(image, ImageType.QCOW2),
        lambda: platform.check_image(image, ImageType.QCOW2),
        lambda: platform.attach(AttachRequest(image, ImageType.QCOW2, PLACE, read_only=True)),
    ):
        with pytest.raises(expected, match=words):
            act()


def test_a_qcow2_with_compressed_parts_is_refused_and_not_misread(platform: LinuxPlatform, tmp_path: Path) -> None:
    image, small = written(platform, tmp_path, ImageType.QCOW2), tmp_path / "small.qcow2"
    subprocess.run(["qemu-img", "convert", "-c", "-f", "qcow2", "-O", "qcow2", image, small], check=True)
    with small.open("rb") as file:
        assert qcow2.inspect(file.fileno()).size == SIZE
    with pytest.raises(Refused, match="compressed"):
        platform.map_image(small, ImageType.QCOW2)


def region(image: Path, guid: bytes) -> int:
    """Where an entry of the first region table is."""
    table = image.read_bytes()[192 << 10 : 256 << 10]
    return (192 << 10) + table.index(guid)


def reseal(image: Path, start: int, length: int) -> None:
    data = bytearray(image.read_bytes()[start : start + length])
    data[4:8] = bytes(4)
    patch(image, start + 4, struct.pack("<I", crc32c(0xFFFFFFFF, data) ^ 0xFFFFFFFF))


def test_a_damaged_copy_of_a_vhdx_structure_is_no_matter(platform: LinuxPlatform, tmp_path: Path) -> None:
    image = written(platform, tmp_path, ImageType.VHDX)
    before = platform.map_image(image, ImageType.VHDX)
    patch(image, (192 << 10) + 100, b"x")
    assert platform.map_image(image, ImageType.VHDX) == before
    patch(image, (256 << 10) + 100, b"x")
    with pytest.raises(Corrupt, match="region table"):
        platform.map_image(image, ImageType.VHDX)


def test_a_vhdx_table_that_points_elsewhere(platform: LinuxPlatform, tmp_path: Path) -> None:
    image = written(platform, tmp_path, ImageType.VHDX)
    with image.open("rb") as file:
        layout, runs = vhdx.extents(file.fileno())
    assert [(run.start, run.length) for run in runs] == [(5 * MIB, MIB)]
    for entry in (0 << 20 | 6, 1 << 40 | 6, (runs[0].offset // MIB) << 20 | 6):
        patch(image, layout.table[0] + 8, struct.pack("<Q", entry))
        with pytest.raises(Corrupt, match="wrong place"):
            platform.map_image(image, ImageType.VHDX)
    patch(image, layout.table[0] + 8, struct.pack("<Q", 7))
    with pytest.raises(Refused, match="differencing"):
        platform.map_image(image, ImageType.VHDX)


def test_vhdx_regions_outside_the_file_and_without_headers(platform: LinuxPlatform, tmp_path: Path) -> None:
    image = written(platform, tmp_path, ImageType.VHDX)
    bat = region(image, vhdx._BAT)
    for start in (192 << 10, 256 << 10):
        patch(image, start + bat - (192 << 10) + 16, struct.pack("<Q", 1 << 50))
        reseal(image, start, 64 << 10)
    with pytest.raises(Corrupt, match="region table"):
        platform.map_image(image, ImageType.VHDX)
    for start in (64 << 10, 128 << 10):
        patch(image, start, b"heap")
    with pytest.raises(Corrupt, match="headers"):
        platform.check_image(image, ImageType.VHDX)


def test_many_blocks_and_bitmaps_between(platform: LinuxPlatform, tmp_path: Path) -> None:
    """Behind 4,096 blocks of 1 MiB comes the entry of a bitmap, which is none of the disk's."""
    image = tmp_path / "large.vhdx"
    platform.create_image(image, ImageType.VHDX, 20 << 30)
    with platform.open_image(image, ImageType.VHDX, writable=True) as disk:
        for block in (4095, 4096, 4097, 8192, 12_289, 20_479):
            disk.write(block * MIB + 17, str(block).encode())
    found = platform.map_image(image, ImageType.VHDX)
    descriptor = os.open(image, os.O_RDONLY)
    try:
        shown = [
            os.pread(descriptor, 5, run.offset + at + 17).rstrip(b"\0")
            for run in found.extents
            for at in range(0, run.length, MIB)
        ]
    finally:
        os.close(descriptor)
    assert shown == [b"4095", b"4096", b"4097", b"8192", b"12289", b"20479"]
