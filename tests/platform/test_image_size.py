"""Images that become larger and smaller: what is added is zeros, what stays is what it was, QEMU sees the same."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest
from kinds import FORMAT

from portunix_vdisk.platform import vhd
from portunix_vdisk.platform.base import MIB, ImageType
from portunix_vdisk.platform.linux.machine import LinuxPlatform

TYPES = (ImageType.VHD, ImageType.VHDX, ImageType.VHD_FIXED, ImageType.QCOW2, ImageType.IMG)
OURS = TYPES[:3]
"""What we write ourselves. QEMU does QCOW2, and an image of raw bytes is made longer or shorter at once."""
GIB = 1 << 30
FAR = 300 * GIB
"""So large that the block tables of VHD and VHDX need more room than they have."""


class Killed(BaseException):
    """What a SIGKILL is to us."""


def fill(platform: LinuxPlatform, image: Path, type: ImageType, places: dict[int, bytes]) -> None:
    with platform.open_image(image, type, writable=True) as disk:
        for offset, data in places.items():
            disk.write(offset, data)


def assert_holds(platform: LinuxPlatform, image: Path, type: ImageType, size: int, places: dict[int, bytes]) -> None:
    """It has this size, these bytes and nothing else, for us and for QEMU."""
    platform.check_image(image, type)
    found = platform.map_image(image, type)
    assert found.size == size
    with platform.open_image(image, type, writable=False) as disk:
        for offset, data in places.items():
            assert disk.read(offset, len(data)) == data
        assert not any(disk.read(size - MIB, MIB)) or any(
            offset + len(data) > size - MIB for offset, data in places.items()
        )
        for extent in found.extents:
            data = bytearray(disk.read(extent.start, extent.length))
            for offset, mine in places.items():
                low, high = max(offset, extent.start), min(offset + len(mine), extent.start + extent.length)
                if low < high:
                    data[low - extent.start : high - extent.start] = bytes(high - low)
            if type is ImageType.VHD_FIXED and data[:8] == b"conectix":
                del data[:512]  # killed before it could be removed, where nobody has anything
            assert not any(data), "nothing is there that nobody has written"
    qemu = FORMAT[type.extension]
    for offset, data in places.items():
        words = ["qemu-io", "-r", "-f", qemu, "-c", f"read -P {data[0]} {offset} {len(data)}", image]
        said = subprocess.run(words, check=True, capture_output=True).stdout.decode()
        assert "failed" not in said, said
    if type is ImageType.VHD:
        with image.open("rb") as file:
            blocks = vhd.blocks_of(file.fileno())
        assert len(blocks.table) == -(-size // blocks.size), "the header counts no blocks that there are not"
    told = subprocess.run(["qemu-img", "info", "-f", qemu, image], check=True, capture_output=True).stdout.decode()
    assert f"({size} bytes)" in told


@pytest.mark.parametrize("type", [TYPES[0], *(pytest.param(type, marks=pytest.mark.full) for type in TYPES[1:])])
def test_it_grows_and_shrinks(platform: LinuxPlatform, tmp_path: Path, type: ImageType) -> None:
    image = tmp_path / f"disk.{type.extension}"
    platform.create_image(image, type, 9 * MIB)
    places = {0: b"\1" * 5000, 7 * MIB - 100: b"\2" * 9000}
    fill(platform, image, type, places)
    large = FAR if type in OURS[:2] else 2 * GIB
    platform.sizing.image(image, type, large)
    assert_holds(platform, image, type, large, places)
    places[large - 5000] = b"\3" * 5000
    fill(platform, image, type, places)
    assert_holds(platform, image, type, large, places)
    del places[large - 5000]
    platform.sizing.image(image, type, 8 * MIB)
    assert_holds(platform, image, type, 8 * MIB, places)
    platform.sizing.image(image, type, 8 * MIB)
    platform.sizing.image(image, type, large)
    assert_holds(platform, image, type, large, places)
    fill(platform, image, type, {20 * MIB: b"\4" * MIB})
    assert_holds(platform, image, type, large, places | {20 * MIB: b"\4" * MIB})


@pytest.mark.parametrize("type", OURS[:2])
@pytest.mark.parametrize("used", [1, 2, 5])
def test_a_table_longer_than_what_it_displaces(
    platform: LinuxPlatform, tmp_path: Path, type: ImageType, used: int
) -> None:
    """Blocks that make room must not move to where the table will be."""
    image, large = tmp_path / f"disk.{type.extension}", 2000 * GIB
    platform.create_image(image, type, 40 * MIB)
    places = {number * 8 * MIB: bytes([number + 1]) * 4096 for number in range(used)}
    fill(platform, image, type, places)
    platform.sizing.image(image, type, large)
    assert_holds(platform, image, type, large, places)


@pytest.mark.parametrize("type", [OURS[0], *(pytest.param(type, marks=pytest.mark.full) for type in OURS[1:])])
def test_killed_before_any_write_it_goes_on(
    platform: LinuxPlatform,
    tmp_path: Path,
    type: ImageType,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    original = tmp_path / f"original.{type.extension}"
    platform.create_image(original, type, 9 * MIB)
    places = {0: b"\1" * 5000, 7 * MIB - 100: b"\2" * 9000}
    fill(platform, original, type, places)
    large = 64 * MIB if type is ImageType.VHD_FIXED else FAR
    grown = tmp_path / f"grown.{type.extension}"
    subprocess.run(["cp", "--sparse=always", original, grown], check=True)
    platform.sizing.image(grown, type, large)
    fill(platform, grown, type, {large - 5000: b"\3" * 5000})
    image, pwrite, dice = tmp_path / f"disk.{type.extension}", os.pwrite, random.Random(7)
    for start, size, other in ((original, large, 9 * MIB), (grown, 8 * MIB, large)):
        number, killed = 0, True
        while killed:
            subprocess.run(["cp", "--sparse=always", start, image], check=True)
            left = number

            def write(descriptor: int, data: bytes, offset: int) -> int:
                nonlocal left
                left -= 1
                if left < 0:
                    raise Killed
                return pwrite(descriptor, data, offset)

            monkeypatch.setattr(os, "pwrite", write)
            try:
                platform.sizing.image(image, type, size)
                killed = False
            except Killed:
                pass
            monkeypatch.setattr(os, "pwrite", pwrite)
            found = platform.map_image(image, type).size
            assert found in (size, other)
            if killed and (request.config.getoption("--full") or dice.random() < 0.15):
                with platform.open_image(image, type, writable=True) as disk:
                    disk.write(3 * MIB, b"\5" * 100)
                platform.sizing.image(image, type, size)
                assert_holds(platform, image, type, size, places | {3 * MIB: b"\5" * 100})
            number += 1
        assert number > 1
