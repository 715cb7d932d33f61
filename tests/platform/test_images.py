from __future__ import annotations

import json
import os
import random
import struct
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds import MORE, USUAL

from portunix_vdisk.platform.base import MIB, Extent, ImageType
from portunix_vdisk.platform.errors import BadUsage, Corrupt, Failed, NotFound, Refused
from portunix_vdisk.platform.linux.image_map import parse_map
from portunix_vdisk.platform.linux.machine import LinuxPlatform

BOTH = pytest.mark.parametrize("type", [*USUAL, *MORE])


def make(platform: LinuxPlatform, folder: Path, type: ImageType, size: int = 24 * MIB) -> Path:
    image = folder / f"new.{type}"
    platform.create_image(image, type, size)
    return image


@BOTH
@pytest.mark.parametrize("size", [MIB, 17 * MIB, 20 << 30, 2039 << 30])
def test_a_new_image_has_exactly_its_size_and_no_data(
    platform: LinuxPlatform, tmp_path: Path, type: ImageType, size: int
) -> None:
    image = make(platform, tmp_path, type, size)
    found = platform.map_image(image, type)
    assert (found.size, found.extents) == (size, ())
    platform.check_image(image, type)
    with platform.open_image(image, type, writable=False) as disk:
        assert disk.size == size
        assert disk.read(size - 4096, 4096) == bytes(4096)


@BOTH
def test_create_replaces_what_is_there(platform: LinuxPlatform, tmp_path: Path, type: ImageType) -> None:
    (tmp_path / "new").write_bytes(b"x" * (3 * MIB))
    platform.create_image(tmp_path / "new", type, 4 * MIB)
    assert platform.map_image(tmp_path / "new", type).extents == ()


@BOTH
@pytest.mark.parametrize("size", [0, -MIB, MIB + 1])
def test_odd_sizes_are_refused(platform: LinuxPlatform, tmp_path: Path, type: ImageType, size: int) -> None:
    with pytest.raises(BadUsage):
        make(platform, tmp_path, type, size)


def test_too_large_for_vhd(platform: LinuxPlatform, tmp_path: Path) -> None:
    with pytest.raises(BadUsage, match="2039"):
        make(platform, tmp_path, ImageType.VHD, 2040 << 30)
    assert list(tmp_path.iterdir()) == []


@BOTH
def test_random_writes_read_back_and_survive_closing(platform: LinuxPlatform, tmp_path: Path, type: ImageType) -> None:
    image = make(platform, tmp_path, type)
    dice = random.Random(1)
    model = bytearray(24 * MIB)
    with platform.open_image(image, type, writable=True) as disk:
        for _ in range(40):
            offset = dice.randrange(0, len(model) - 512)
            length = dice.randrange(1, min(3 * MIB, len(model) - offset))
            if dice.random() < 0.3:
                disk.zero(offset, length)
                model[offset : offset + length] = bytes(length)
            else:
                data = dice.randbytes(length)
                disk.write(offset, memoryview(data))
                model[offset : offset + length] = data
            offset = dice.randrange(0, len(model) - 1)
            length = dice.randrange(0, min(MIB, len(model) - offset))
            assert disk.read(offset, length) == model[offset : offset + length]
        disk.flush()
    with platform.open_image(image, type, writable=False) as disk:
        assert disk.read(0, disk.size) == model
    platform.check_image(image, type)
    # The map leads to the same bytes without any tool.
    by_map = bytearray(24 * MIB)
    raw = image.read_bytes()
    for extent in platform.map_image(image, type).extents:
        by_map[extent.start : extent.start + extent.length] = raw[extent.offset : extent.offset + extent.length]
    assert by_map == model


@BOTH
def test_zeroing_what_is_empty_stays_empty(platform: LinuxPlatform, tmp_path: Path, type: ImageType) -> None:
    image = make(platform, tmp_path, type)
    with platform.open_image(image, type, writable=True) as disk:
        disk.write(5 * MIB, b"x" * MIB)
        before = image.stat().st_size
        disk.zero(0, disk.size)
        assert disk.read(0, disk.size) == bytes(disk.size)
    assert image.stat().st_size == before
    if type is ImageType.IMG:
        assert image.stat().st_blocks == 0


@BOTH
def test_outside_the_disk(platform: LinuxPlatform, tmp_path: Path, type: ImageType) -> None:
    image = make(platform, tmp_path, type, 4 * MIB)
    with platform.open_image(image, type, writable=True) as disk:
        for offset, length in ((-1, 1), (4 * MIB, 1), (0, 4 * MIB + 1)):
            with pytest.raises(ValueError, match="outside"):
                disk.read(offset, length)
            with pytest.raises(ValueError, match="outside"):
                disk.write(offset, bytes(length))
        assert disk.read(4 * MIB, 0) == b""


@BOTH
def test_no_writing_when_opened_for_reading(platform: LinuxPlatform, tmp_path: Path, type: ImageType) -> None:
    image = make(platform, tmp_path, type, 4 * MIB)
    with platform.open_image(image, type, writable=False) as disk, pytest.raises(Failed):
        disk.write(0, b"x" * 512)


@BOTH
def test_a_missing_image(platform: LinuxPlatform, tmp_path: Path, type: ImageType) -> None:
    image = tmp_path / "none"
    with pytest.raises(NotFound):
        platform.map_image(image, type)
    with pytest.raises(NotFound):
        platform.check_image(image, type)
    with pytest.raises(NotFound), platform.open_image(image, type, writable=False):
        pass


def test_a_full_host_disk_is_an_error_and_no_damage(platform: LinuxPlatform, tmp_path: Path) -> None:
    import resource

    image = make(platform, tmp_path, ImageType.IMG)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 * MIB, limits[1]))
    try:
        with pytest.raises(Failed, match="too large"), platform.open_image(image, ImageType.IMG, writable=True) as disk:
            disk.write(7 * MIB, b"x" * (2 * MIB))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("moment", ["at its start", "before it has met its client", "while it is used"])
@pytest.mark.parametrize("type", [ImageType.VHD, ImageType.QCOW2])
def test_killed_while_open_leaves_no_server_and_a_sound_image(
    platform: LinuxPlatform, tmp_path: Path, moment: str, type: ImageType
) -> None:
    image = make(platform, tmp_path, type)
    with platform.open_image(image, type, writable=True) as disk:
        disk.write(0, b"y" * (5 * MIB))
    script = f"""
import os, signal, sys
from pathlib import Path
from portunix_vdisk.platform.base import ImageType
from portunix_vdisk.platform.linux.machine import LinuxPlatform
from portunix_vdisk.platform.commands import Commands
from portunix_vdisk.platform.nbd import NbdClient
start = Commands.start
if {moment == "at its start"}:
    Commands.start = lambda *all, **named: (start(*all, **named), os.kill(os.getpid(), signal.SIGKILL))
if {moment.startswith("before")}:
    NbdClient._negotiate = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
with LinuxPlatform().open_image(Path({str(image)!r}), ImageType({type.value!r}), writable=True) as disk:
    disk.write(0, b"y" * {5 * MIB})
    disk.flush()
    disk.write({15 * MIB}, b"z" * {5 * MIB})
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    deadline = time.monotonic() + 5
    while True:
        try:
            with platform.open_image(image, type, writable=True) as disk:
                assert disk.read(0, 5 * MIB) == b"y" * (5 * MIB)
            break
        except Refused:
            assert time.monotonic() < deadline, "the server lives on"
            time.sleep(0.01)
    platform.check_image(image, type)


# hostile images ---------------------------------------------------------------------------------------


def damaged(platform: LinuxPlatform, folder: Path) -> tuple[Path, bytearray]:
    image = make(platform, folder, ImageType.VHD)
    with platform.open_image(image, ImageType.VHD, writable=True) as disk:
        disk.write(0, b"x" * (6 * MIB))
    return image, bytearray(image.read_bytes())


def signed(data: bytearray, at: int, length: int, checksum: int) -> None:
    """Make a checksum right again."""
    data[at + checksum : at + checksum + 4] = bytes(4)
    total = ~sum(data[at : at + length]) & 0xFFFFFFFF
    data[at + checksum : at + checksum + 4] = struct.pack(">I", total)


@pytest.mark.parametrize(
    "what",
    ["empty", "text", "first", "header", "truncated", "double", "outside", "into header", "huge", "block size"],
)
def test_damaged_vhds_are_noticed(platform: LinuxPlatform, tmp_path: Path, what: str) -> None:
    image, data = damaged(platform, tmp_path)
    table = 512 + 1024
    match what:
        case "empty":
            data.clear()
        case "text":
            data[:] = b"no image\n" * 1000
        case "first":
            data[100] ^= 1
        case "header":
            data[512 + 30] ^= 1
        case "truncated":
            del data[3 * MIB :]
        case "double":
            data[table + 4 : table + 8] = data[table : table + 4]
        case "outside":
            data[table : table + 4] = struct.pack(">I", 0x7FFFFFFF)
        case "into header":
            data[table : table + 4] = struct.pack(">I", 1)
        case "huge":
            data[512 + 28 : 512 + 32] = b"\xff\xff\xff\xff"
            signed(data, 512, 1024, 36)
        case "block size":
            data[512 + 32 : 512 + 36] = struct.pack(">I", 3000)
            signed(data, 512, 1024, 36)
    image.write_bytes(data)
    with pytest.raises(Corrupt):
        platform.check_image(image, ImageType.VHD)
    with pytest.raises(Corrupt):
        platform.map_image(image, ImageType.VHD)
    with pytest.raises(Corrupt), platform.open_image(image, ImageType.VHD, writable=True):
        pass
    assert image.read_bytes() == data


def test_a_lost_footer_is_written_again(platform: LinuxPlatform, tmp_path: Path) -> None:
    image, data = damaged(platform, tmp_path)
    image.write_bytes(data[:-512] + b"torn block" * 100)
    with platform.open_image(image, ImageType.VHD, writable=True) as disk:
        assert disk.read(0, 6 * MIB) == b"x" * (6 * MIB)
    assert image.read_bytes() == data


def test_a_raw_image_of_odd_size(platform: LinuxPlatform, tmp_path: Path) -> None:
    image = tmp_path / "odd.img"
    for size in (0, 513):
        image.write_bytes(bytes(size))
        with pytest.raises(Corrupt):
            platform.check_image(image, ImageType.IMG)


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.binary(max_size=60), st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps)))
def test_no_map_text_makes_a_traceback(text: str | bytes) -> None:
    with suppress(Corrupt):
        parse_map(text if isinstance(text, bytes) else text.encode(errors="replace"), 1000)


GOOD = {"start": 0, "length": 512, "depth": 0, "present": True, "zero": False, "data": True, "offset": 0}


@pytest.mark.parametrize(
    "change",
    [
        {"start": 512},
        {"length": 0},
        {"length": -512},
        {"length": 1024},
        {"offset": 513},
        {"offset": -1},
        {"offset": None},
        {"length": 0.5},
        {"start": False},
    ],
)
def test_maps_that_lie(change: dict[str, object]) -> None:
    assert parse_map(json.dumps([GOOD]).encode(), 1000).extents == (Extent(0, 512, 0),)
    with pytest.raises(Corrupt):
        parse_map(json.dumps([{**GOOD, **change}]).encode(), 1000)


def test_neighbours_become_one_extent() -> None:
    second = {**GOOD, "start": 512, "offset": 512}
    third = {**GOOD, "start": 1024, "offset": 5000}
    found = parse_map(json.dumps([GOOD, second, third]).encode(), 9000)
    assert found.extents == (Extent(0, 1024, 0), Extent(1024, 512, 5000))


def test_names_that_look_like_options_or_protocols(
    platform: LinuxPlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("-f", "nbd:x", "json:{}", "a,b=c", os.fsdecode(b"\xff\n")):
        image = Path(name)
        platform.create_image(image, ImageType.VHD, 4 * MIB)
        with platform.open_image(image, ImageType.VHD, writable=True) as disk:
            disk.write(0, b"here")
        assert len(platform.map_image(image, ImageType.VHD).extents) == 1
        image.unlink()
