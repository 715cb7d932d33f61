"""Key slots of an encrypted disk: what opens it afterwards, whatever happens meanwhile."""

from __future__ import annotations

import stat
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from silent import Silent

from portunix_vdisk.platform.base import MIB, BlockImage, ImageType, Partition
from portunix_vdisk.platform.errors import BadUsage, Corrupt, Refused, WrongPassword
from portunix_vdisk.platform.linux import luks
from portunix_vdisk.platform.linux.machine import LinuxPlatform
from portunix_vdisk.steps.encrypt import EncryptPartition
from portunix_vdisk.steps.keyslots import BackUpHeader, ChangeKey, KeyChange, read_header
from portunix_vdisk.steps.luks import HEADER_BYTES, LARGEST_HEADER, MAGIC, parse_luks
from portunix_vdisk.steps.step import Context

SIZE = 20 * MIB
PARTITION = Partition(MIB, SIZE - 2 * MIB)
OLD, NEW = b"the old one", "der neue, größer".encode()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(luks, "_SLOWNESS", ("--pbkdf-force-iterations", "1000"))


@pytest.fixture
def image(tmp_path: Path, quick: None) -> Path:
    path = tmp_path / "disk.img"
    platform = LinuxPlatform()
    platform.create_image(path, ImageType.IMG, SIZE)
    EncryptPartition(path, ImageType.IMG, PARTITION, tmp_path / "scratch", OLD).run(Context(platform, Silent()))
    return path


def change(image: Path, kind: KeyChange, secret: bytes, new: bytes = b"", platform: Any = None) -> list[int]:
    step = ChangeKey(image, ImageType.IMG, PARTITION, image.with_name("header"), kind, secret, new)
    try:
        result = step.run(Context(platform or LinuxPlatform(), Silent()))
    finally:
        assert not step.scratch.exists()
    assert isinstance(result, dict)
    return result["slots"]  # type: ignore[return-value]


def opens(image: Path, *secrets: bytes) -> list[bool]:
    part = image.with_name("part")
    part.write_bytes(image.read_bytes()[MIB:])
    return [LinuxPlatform().luks.opens(part, secret) for secret in secrets]


def test_a_password_is_replaced_added_and_removed(image: Path) -> None:
    content = image.read_bytes()[MIB + 2 * MIB :]
    assert opens(image, OLD, NEW) == [True, False]
    assert change(image, KeyChange.ADD, OLD, NEW) == [0, 1]
    assert opens(image, OLD, NEW) == [True, True]
    assert change(image, KeyChange.ADD, OLD, NEW) == [0, 1], "it opens the disk already"
    assert change(image, KeyChange.REMOVE, OLD) == [1]
    assert opens(image, OLD, NEW) == [False, True]
    assert change(image, KeyChange.REPLACE, NEW, OLD) == [0]
    assert opens(image, OLD, NEW) == [True, False]
    assert image.read_bytes()[MIB + 2 * MIB :] == content
    dump = subprocess.run(["cryptsetup", "luksDump", image.with_name("part")], check=True, capture_output=True)
    assert dump.stdout.count(b"ENABLED") == 1


def test_the_last_password_stays_and_nine_are_too_many(image: Path) -> None:
    before = image.read_bytes()
    with pytest.raises(Refused, match="last password"):
        change(image, KeyChange.REMOVE, OLD)
    for kind in KeyChange:
        with pytest.raises(WrongPassword):
            change(image, kind, NEW, b"another")
    with pytest.raises(BadUsage, match="the old one"):
        change(image, KeyChange.REPLACE, OLD, OLD)
    for bad in (b"latin \xe4", b"zero \0"):
        with pytest.raises(BadUsage, match="UTF-8"):
            change(image, KeyChange.ADD, OLD, bad)
    assert image.read_bytes() == before
    for number in range(7):
        change(image, KeyChange.ADD, OLD, b"number %d" % number)
    for kind in (KeyChange.ADD, KeyChange.REPLACE):
        with pytest.raises(Refused, match="in use"):
            change(image, kind, OLD, NEW)


class _Killed(BaseException):
    pass


class _Dying(LinuxPlatform):
    """Its image takes so many writes, and of the next one only a part."""

    def __init__(self, writes: int, part: int) -> None:
        super().__init__()
        self.left, self.part = writes, part

    @contextmanager
    def open_image(self, path: Path, type: ImageType, *, writable: bool) -> Iterator[BlockImage]:  # type: ignore[override]
        with super().open_image(path, type, writable=writable) as image:
            write = image.write

            def dying(offset: int, data: bytes | memoryview) -> None:
                self.left -= 1
                if self.left < 0:
                    write(offset, data[: self.part])
                    raise _Killed
                write(offset, data)

            image.write = dying  # type: ignore[method-assign]
            yield image


@pytest.mark.parametrize("part", [0, 512])
@pytest.mark.parametrize("writes", [0, 1, 40, 62, 63, 64, 100, 126, 127])
def test_at_every_moment_some_password_opens_it(image: Path, writes: int, part: int) -> None:
    platform = _Dying(writes, part)
    with pytest.raises(_Killed):
        change(image, KeyChange.REPLACE, OLD, NEW, platform)
    old, new = opens(image, OLD, NEW)
    assert old or new
    if old:
        change(image, KeyChange.REPLACE, OLD, NEW)
    assert opens(image, OLD, NEW) == [False, True]


def test_a_large_disk_costs_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy of the header is as large as the partition, and must not be read as a whole."""
    platform, large = LinuxPlatform(), Partition(MIB, 8 << 40)
    path = tmp_path / "large.img"
    platform.create_image(path, ImageType.IMG, (8 << 40) + 2 * MIB)
    EncryptPartition(path, ImageType.IMG, large, tmp_path / "scratch", OLD).run(Context(platform, Silent()))
    step = ChangeKey(path, ImageType.IMG, large, tmp_path / "header", KeyChange.REPLACE, OLD, NEW)
    assert step.run(Context(platform, Silent())) == {"slots": [1]}


def test_there_are_no_more_moments(image: Path) -> None:
    """Twice the key material, 4000 stripes of 64 bytes in blocks, and the table."""
    change(image, KeyChange.REPLACE, OLD, NEW, _Dying(2 * (-(-256_000 // 4096) + 1), 0))


def test_a_copy_of_the_header_opens_it(image: Path, tmp_path: Path) -> None:
    output = tmp_path / "copy.luks"
    ctx = Context(LinuxPlatform(), Silent())
    step = BackUpHeader(image, ImageType.IMG, PARTITION, output)
    assert step.run(ctx) == {"bytes": 2 * MIB}
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert output.read_bytes() == image.read_bytes()[MIB : 3 * MIB]
    with pytest.raises(Refused, match="exists"):
        step.run(ctx)
    with image.open("r+b") as file:  # somebody ran mkfs on it
        file.seek(MIB)
        file.write(bytes(4096))
    with pytest.raises(Corrupt, match="no LUKS header"):
        read_header(ctx, image, ImageType.IMG, PARTITION)
    part = tmp_path / "part"
    part.write_bytes(output.read_bytes() + image.read_bytes()[3 * MIB :])
    assert LinuxPlatform().luks.opens(part, OLD)


@given(st.binary(max_size=HEADER_BYTES + 8), st.booleans())
def test_no_bytes_are_misunderstood(data: bytes, marked: bool) -> None:
    try:
        found = parse_luks((MAGIC + b"\0\1" if marked else b"") + data)
    except Corrupt:
        return
    assert 0 < found.payload <= LARGEST_HEADER
    assert set(found.slots) <= set(range(8))


def test_what_a_header_may_not_say(image: Path) -> None:
    good = image.read_bytes()[MIB : MIB + HEADER_BYTES]
    assert parse_luks(good).slots == (0,)
    for place, value, words in (
        (6, struct.pack(">H", 2), "LUKS2"),
        (104, struct.pack(">I", 1 << 31), "no sense"),
        (104, struct.pack(">I", 0), "no sense"),
        (108, struct.pack(">I", 0), "no sense"),
        (208, b"what", "key slot 0"),
        (212, b"\xff" * 4, "key slot 0"),
        (252, b"\0\0\x10\0", "key slot 0"),
        (164, b"\xff" * 4, "no sense"),
        (0, b"EXT4", "no LUKS header"),
    ):
        bad = good[:place] + value + good[place + len(value) :]
        with pytest.raises(Corrupt, match=words):
            parse_luks(bad)
