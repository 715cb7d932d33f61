"""Dynamic VHDs as we write them ourselves; QEMU, which shares no code with us, says what is in them."""

from __future__ import annotations

import errno
import os
import random
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portunix_vdisk.platform import vhd
from portunix_vdisk.platform.base import MIB, ImageType
from portunix_vdisk.platform.errors import Failed, Refused
from portunix_vdisk.platform.linux import raw_image
from portunix_vdisk.platform.linux.machine import LinuxPlatform

SIZE = 11 * MIB
"""Five blocks and a half."""
VHD = ImageType.VHD


def make(platform: LinuxPlatform, folder: Path, size: int = SIZE) -> Path:
    image = folder / "disk.vhd"
    platform.create_image(image, VHD, size)
    return image


def as_qemu_sees_it(image: Path) -> bytes:
    plain = image.with_suffix(".raw")
    subprocess.run(["qemu-img", "convert", "-f", "vpc", "-O", "raw", image, plain], check=True)
    return plain.read_bytes()


def write_with_qemu(image: Path, *orders: str) -> None:
    words = [word for order in orders for word in ("-c", order)]
    subprocess.run(["qemu-io", "-f", "vpc", *words, image], check=True, stdout=subprocess.DEVNULL)


def with_small_blocks(image: Path) -> None:
    """Make of an empty VHD one as Windows may: blocks of 512 KiB, each with a bitmap of one sector."""
    data = bytearray(image.read_bytes())
    block = 512 << 10
    data[512 + 28 : 512 + 36] = struct.pack(">II", -(-SIZE // block), block)
    data[512 + 36 : 512 + 40] = bytes(4)
    data[512 + 36 : 512 + 40] = struct.pack(">I", ~sum(data[512:1536]) & 0xFFFFFFFF)
    image.write_bytes(data)


PLACES = st.integers(0, SIZE - 1) | st.integers(0, 5).map(lambda block: 2 * MIB * block)
ORDERS = st.lists(st.tuples(st.sampled_from(["write", "zero"]), PLACES, st.integers(0, 5 * MIB)), max_size=6)


@settings(max_examples=25, deadline=None)
@given(orders=ORDERS, small=st.booleans(), qemu_first=st.booleans())
def test_whatever_is_written_is_there(
    tmp_path_factory: pytest.TempPathFactory, orders: list[tuple[str, int, int]], small: bool, qemu_first: bool
) -> None:
    platform, image = LinuxPlatform(), make(LinuxPlatform(), tmp_path_factory.mktemp("vhd"))
    expected = bytearray(SIZE)
    if small:
        with_small_blocks(image)
    elif qemu_first:
        write_with_qemu(image, "write -P 7 3M 1M")
        expected[3 * MIB : 4 * MIB] = b"\x07" * MIB
    with platform.open_image(image, VHD, writable=True) as disk:
        for number, (what, offset, length) in enumerate(orders):
            length = min(length, SIZE - offset)
            data = random.Random(number).randbytes(length) if what == "write" else bytes(length)
            if what == "write":
                disk.write(offset, memoryview(data))
            else:
                disk.zero(offset, length)
            expected[offset : offset + length] = data
        assert disk.read(0, SIZE) == expected
    platform.check_image(image, VHD)
    assert as_qemu_sees_it(image)[:SIZE] == expected
    told = bytearray(SIZE)
    with image.open("rb") as file:
        for extent in platform.map_image(image, VHD).extents:
            file.seek(extent.offset)
            told[extent.start : extent.start + extent.length] = file.read(extent.length)
    assert told == expected
    # And QEMU goes on where we stopped. It knows no blocks but those of 2 MiB when it makes new ones.
    if not small:
        write_with_qemu(image, "write -P 9 9M 2M", "write -P 8 0 1M")
        expected[9 * MIB : 11 * MIB], expected[:MIB] = b"\x09" * (2 * MIB), b"\x08" * MIB
        with platform.open_image(image, VHD, writable=False) as disk:
            assert disk.read(0, SIZE) == expected


def test_blocks_lie_on_pages_of_the_file(platform: LinuxPlatform, tmp_path: Path) -> None:
    image = make(platform, tmp_path)
    with platform.open_image(image, VHD, writable=True) as disk:
        for block in (4, 0, 2):
            disk.write(2 * MIB * block, b"x" * 2 * MIB)
    extents = platform.map_image(image, VHD).extents
    assert [extent.start // MIB for extent in extents] == [0, 4, 8]
    assert all(extent.offset % 4096 == 0 and extent.length == 2 * MIB for extent in extents)


def test_what_was_never_written_takes_no_room(platform: LinuxPlatform, tmp_path: Path) -> None:
    image = make(platform, tmp_path)
    with platform.open_image(image, VHD, writable=True) as disk:
        disk.zero(0, SIZE)
        assert image.stat().st_size < 64 << 10
        disk.write(5 * MIB, b"x" * 4096)
        disk.zero(0, SIZE)
    assert image.stat().st_blocks * 512 < 64 << 10
    assert platform.map_image(image, VHD).extents == ()


def test_sectors_that_another_program_left_out_are_put_in(platform: LinuxPlatform, tmp_path: Path) -> None:
    """Others set bits of the bitmap only for sectors that were written, and read the rest as zeros."""
    image = make(platform, tmp_path)
    write_with_qemu(image, "write -P 7 0 4k")
    with image.open("r+b") as file:
        place = vhd.blocks_of(file.fileno()).table[0] * 512
        file.seek(place)
        file.write(b"\xff" + bytes(511))
    with platform.open_image(image, VHD, writable=True) as disk:
        disk.write(MIB, b"x" * 512)
    assert image.read_bytes()[place : place + 512] == b"\xff" * 512
    assert as_qemu_sees_it(image)[MIB : MIB + 512] == b"x" * 512


class Dead(BaseException):
    """The process is killed here."""


class Dying:
    """The module os, in which the process dies at some write: before it, or in its middle."""

    def __init__(self, at: int, part: float) -> None:
        self.left = at
        self.part = part

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def pwrite(self, descriptor: int, data: memoryview, offset: int) -> int:
        self.left -= 1
        if self.left < 0:
            if len(data) > 4096:  # what lies on one page is written or not
                os.pwrite(descriptor, data[: int(len(data) * self.part)], offset)
            raise Dead
        return os.pwrite(descriptor, data, offset)


@pytest.mark.parametrize("part", [0, 0.5])
def test_killed_at_any_write(
    platform: LinuxPlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: float
) -> None:
    """What was there before stays, the image is sound, and writing it again gives all of it."""
    first, later = b"a" * MIB, b"b" * (5 * MIB)
    for at in range(100):
        image = make(platform, tmp_path)
        with platform.open_image(image, VHD, writable=True) as disk:
            disk.write(2 * MIB, first)
        try:
            with monkeypatch.context() as patch, platform.open_image(image, VHD, writable=True) as disk:
                patch.setattr(raw_image, "os", Dying(at, part))
                disk.write(3 * MIB, later)
        except Dead:
            pass
        else:
            break
        with platform.open_image(image, VHD, writable=True) as disk:
            assert disk.read(2 * MIB, MIB) == first
            assert set(disk.read(0, 2 * MIB) + disk.read(8 * MIB, SIZE - 8 * MIB)) == {0}
            assert set(disk.read(3 * MIB, 5 * MIB)) <= {0, ord("b")}
            disk.write(3 * MIB, later)
        platform.check_image(image, VHD)
        assert as_qemu_sees_it(image)[: 8 * MIB] == bytes(2 * MIB) + first + later
    assert at > 8


def test_errors_of_the_system_are_told(
    platform: LinuxPlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = make(platform, tmp_path)

    class Full(Dying):
        def pwrite(self, descriptor: int, data: memoryview, offset: int) -> int:
            if len(data) <= self.left:
                return os.pwrite(descriptor, data, offset)
            os.pwrite(descriptor, data[: len(data) // 2], offset)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for most in (0, 4096):
        with platform.open_image(image, VHD, writable=True) as disk:
            with monkeypatch.context() as patch, pytest.raises(Failed, match="No space left"):
                patch.setattr(raw_image, "os", Full(most, 0))
                disk.write(0, b"y" * MIB)
            disk.write(5 * MIB, b"x")  # another block gets the place
            assert disk.read(0, 7 * MIB) == bytes(5 * MIB) + b"x" + bytes(2 * MIB - 1)
        image = make(platform, tmp_path)


def test_two_writers_are_refused(platform: LinuxPlatform, tmp_path: Path) -> None:
    image = make(platform, tmp_path)
    with platform.open_image(image, VHD, writable=True) as disk:
        with pytest.raises(Refused, match="in use"), platform.open_image(image, VHD, writable=True):
            pass
        disk.write(0, b"still works")
        assert disk.read(0, 11) == b"still works"


def test_qemu_does_not_write_meanwhile(platform: LinuxPlatform, tmp_path: Path) -> None:
    image = make(platform, tmp_path)
    with platform.open_image(image, VHD, writable=True), pytest.raises(subprocess.CalledProcessError):
        write_with_qemu(image, "write 0 4k")
    with platform.open_image(image, VHD, writable=False):
        with pytest.raises(subprocess.CalledProcessError):
            write_with_qemu(image, "write 0 4k")
        with pytest.raises(Refused), platform.open_image(image, VHD, writable=True):
            pass
    write_with_qemu(image, "write 0 4k")
