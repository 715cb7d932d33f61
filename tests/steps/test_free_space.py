"""Free space of ext4 filesystems made by mkfs and used through real mounts, with dumpe2fs and e2fsck as witnesses."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from blocks import check_filesystem, fill, free_extents, until_released
from hypothesis import given, settings
from hypothesis import strategies as st
from trees import facts, grow

from portunix_vdisk.platform.base import Extent, ImageMap, ImageType, Partition
from portunix_vdisk.platform.commands import Commands
from portunix_vdisk.platform.crc32c import crc32c
from portunix_vdisk.platform.linux.images import map_image
from portunix_vdisk.steps.ext4 import Doubt
from portunix_vdisk.steps.free_space import _Free, _ones, common, find_used, used_extents
from portunix_vdisk.steps.source import ImageSource

MIB = 1 << 20
OPTIONS = {
    "ours": ("-b", "4096", "-m", "0", "-J", "size=16", "-i", "8192", "-E", "lazy_itable_init=1,nodiscard"),
    "plain": ("-b", "4096"),
    "no flex_bg": ("-b", "4096", "-O", "^flex_bg"),
    "blocks of 1 KiB": ("-b", "1024"),
    "blocks of 2 KiB, no flex_bg": ("-b", "2048", "-O", "^flex_bg"),
    "32 bits": ("-b", "4096", "-O", "^64bit"),
    "no checksums": ("-b", "4096", "-O", "^metadata_csum"),
    "checksums of uninit_bg": ("-b", "4096", "-O", "^metadata_csum,uninit_bg"),
    "32 bits, no checksums, 1 KiB": ("-b", "1024", "-O", "^64bit,^metadata_csum"),
    "seed of checksums": ("-b", "4096", "-O", "metadata_csum_seed"),
    "no journal": ("-b", "4096", "-O", "^has_journal"),
    "sparse_super2": ("-b", "4096", "-O", "sparse_super2"),
    "no reserved descriptors": ("-b", "4096", "-O", "^resize_inode"),
    "ext3": ("-t", "ext3"),
}


def make(folder: Path, options: Sequence[str], size: int = 140 * MIB, start: int = MIB) -> tuple[Path, Partition]:
    """A plain disk image with a filesystem at ``start`` and something behind it."""
    raw = folder / "disk.raw"
    with raw.open("xb") as file:
        file.truncate(start + size + MIB)
        os.pwrite(file.fileno(), b"in front", 0)
        os.pwrite(file.fileno(), b"behind", start + size)
    kind = () if "-t" in options else ("-t", "ext4")
    place = ("-E", f"offset={start}")
    if "-E" in options:
        options, place = options[:-2], ("-E", f"{options[-1]},offset={start}")
    command = ["mkfs.ext4", "-q", "-F", *kind, *options, *place, raw, f"{size // 1024}k"]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return raw, Partition(start, size)


def mounted(raw: Path, partition: Partition, work: Callable[[Path], None]) -> None:
    """Do something to the files of the filesystem through a real mount."""
    point = raw.parent / "point"
    point.mkdir(exist_ok=True)
    place = f"loop,offset={partition.start},sizelimit={partition.length}"
    subprocess.run(["mount", "-t", "ext4", "-o", place, raw, point], check=True)
    try:
        work(point)
    finally:
        subprocess.run(["umount", point], check=True)
        until_released(raw)


def busy(point: Path) -> None:
    """Files made, some deleted, some with holes."""
    grow(point, files=400, size=60_000)
    dice = random.Random(3)
    for path in sorted(point.rglob("f*.txt")):
        if dice.random() < 0.4:
            path.unlink()
    with (point / "holes").open("wb") as file:
        for at in range(0, 30 * MIB, 3 * MIB):
            os.pwrite(file.fileno(), os.urandom(9000), at)
    (point / "gone").write_bytes(os.urandom(20 * MIB))
    os.sync()
    (point / "gone").unlink()


def open_source(raw: Path) -> ImageSource:
    return ImageSource(raw, map_image(Commands(), raw, ImageType.IMG))


def dense(raw: Path) -> ImageSource:
    """The same as if the image had no holes."""
    size = raw.stat().st_size
    return ImageSource(raw, ImageMap(size, (Extent(0, size, 0),)))


def used_of(source: ImageSource, partition: Partition, file_system: str = "ext4") -> Sequence[tuple[int, int]] | None:
    with closing(source):
        return used_extents(source, partition, file_system)


def find_of(source: ImageSource, partition: Partition) -> Sequence[tuple[int, int]]:
    with closing(source):
        return find_used(source, partition, "ext4")


def complement(runs: Sequence[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    ends = [0, *(end for _, end in runs)]
    return [(end, start) for end, start in zip(ends, [*(start for start, _ in runs), size], strict=True) if end < start]


def uninitialised(raw: Path, partition: Partition) -> list[tuple[int, int]]:
    """Groups whose bitmap was never written, by dumpe2fs."""
    command = ["dumpe2fs", f"{raw}?offset={partition.start}"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    size = next(int(line.split()[-1]) for line in text.splitlines() if line.startswith("Block size:"))
    found = []
    for line in text.splitlines():
        if line.startswith("Group ") and "BLOCK_UNINIT" in line:
            first, last = line.split("(Blocks ")[1].split(")")[0].split("-")
            found.append((partition.start + int(first) * size, partition.start + (int(last) + 1) * size))
    return found


@pytest.mark.parametrize("name", OPTIONS)
def test_free_blocks_are_those_of_dumpe2fs_and_nobody_misses_them(name: str, tmp_path: Path) -> None:
    raw, partition = make(tmp_path, OPTIONS[name])
    mounted(raw, partition, busy)
    before: list[object] = []
    mounted(raw, partition, lambda point: before.append(facts(point)))
    size = raw.stat().st_size

    used = used_of(dense(raw), partition)
    assert used is not None
    free = complement(used, size)
    truth = free_extents(raw, partition)
    unknown = uninitialised(raw, partition)
    expected = list(common(truth, complement(unknown, size)))
    assert list(common(free, free)) == free
    assert sum(end - start for start, end in free) > 20 * MIB
    assert merged(expected) == free, "free runs differ from dumpe2fs"

    sparse = used_of(open_source(raw), partition)
    assert sparse is not None
    with closing(open_source(raw)) as image:
        holes = complement(image.extents, size)
    assert list(common(complement(sparse, size), holes)) != free
    assert not list(common(complement(sparse, size), complement(truth, size)))

    fill(raw, free, b"\xa5")
    check_filesystem(raw, partition)
    after: list[object] = []
    mounted(raw, partition, lambda point: after.append(facts(point)))
    assert before == after


def merged(runs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for start, end in runs:
        if found and found[-1][1] == start:
            found[-1] = found[-1][0], end
        else:
            found.append((start, end))
    return found


@pytest.mark.parametrize(
    "options", [("-O", "bigalloc"), ("-O", "meta_bg,^resize_inode"), ("-b", "4096", "-g", "8192"), ("-O", "mmp")]
)
def test_what_is_not_understood_counts_as_in_use(options: tuple[str, ...], tmp_path: Path) -> None:
    raw, partition = make(tmp_path, options)
    assert used_of(open_source(raw), partition) is None


def test_other_filesystems_count_as_in_use(tmp_path: Path) -> None:
    raw, partition = make(tmp_path, ())
    assert used_of(open_source(raw), partition, "ntfs") is None
    assert used_of(open_source(raw), Partition(0, partition.length)) is None
    assert used_of(open_source(raw), Partition(partition.start, partition.length * 2)) is None
    assert used_of(open_source(raw), Partition(partition.start, 512)) is None
    assert used_of(open_source(raw), Partition(partition.start, partition.length - 4096)) is None


def test_a_mounted_filesystem_counts_as_in_use(tmp_path: Path) -> None:
    raw, partition = make(tmp_path, ())
    seen: list[object] = []
    copy = tmp_path / "copy.raw"

    def look(point: Path) -> None:
        (point / "file").write_text("x")
        subprocess.run(["sync", "-f", point], check=True)
        subprocess.run(["cp", "--sparse=always", raw, copy], check=True)
        with pytest.raises(Doubt) as doubt:
            find_of(open_source(copy), partition)
        seen.append(doubt.value.unclean)

    mounted(raw, partition, look)
    assert seen == [True]
    assert used_of(open_source(raw), partition) is not None


@pytest.mark.parametrize("name", ["ours", "no checksums", "checksums of uninit_bg", "no flex_bg"])
def test_no_damage_to_what_counts_blocks_frees_a_used_one(name: str, tmp_path: Path) -> None:
    """Bit flips in superblock, descriptors and bitmaps: noticed, or harmless."""
    raw, partition = make(tmp_path, OPTIONS[name], size=140 * MIB)
    mounted(raw, partition, lambda point: grow(point, files=60))
    size = raw.stat().st_size
    truth = complement(free_extents(raw, partition), size)
    whole = used_of(dense(raw), partition)
    assert whole is not None
    text = subprocess.run(
        ["dumpe2fs", f"{raw}?offset={partition.start}"], check=True, capture_output=True, text=True
    ).stdout
    bitmaps = [int(line.split()[3]) for line in text.splitlines() if line.startswith("  Block bitmap at ")]
    dice = random.Random(5)
    places = [partition.start + 1024 + at for at in range(0, 1024, 3)]
    places += [partition.start + 4096 + at for at in range(128)]
    places += [partition.start + 4096 * bitmap + dice.randrange(4096) for bitmap in bitmaps for _ in range(40)]
    noticed = 0
    with raw.open("r+b") as file:
        for place in places:
            (byte,) = os.pread(file.fileno(), 1, place)
            os.pwrite(file.fileno(), bytes([byte ^ 1 << dice.randrange(8)]), place)
            found = used_of(dense(raw), partition)
            noticed += found is None
            if found is not None:
                freed = list(common(complement(found, size), truth))
                assert not freed, (place - partition.start, freed)
            os.pwrite(file.fileno(), bytes([byte]), place)
    assert used_of(dense(raw), partition) == whole
    assert noticed > len(places) // 8


def test_a_bitmap_with_the_right_count_and_the_wrong_bits_is_noticed(tmp_path: Path) -> None:
    raw, partition = make(tmp_path, OPTIONS["ours"])
    text = subprocess.run(["dumpe2fs", f"{raw}?offset={partition.start}"], check=True, capture_output=True).stdout
    block = int(text.split(b"  Block bitmap at ")[1].split()[0])
    with raw.open("r+b") as file:
        place = partition.start + 4096 * block
        bitmap = os.pread(file.fileno(), 4096, place)
        full, empty = bitmap.index(b"\xff"), bitmap.index(b"\0")
        os.pwrite(file.fileno(), b"\0", place + full)
        os.pwrite(file.fileno(), b"\xff", place + empty)
    with pytest.raises(Doubt, match="checksum"):
        find_of(dense(raw), partition)


def test_a_bitmap_of_another_group_is_noticed_without_checksums(tmp_path: Path) -> None:
    raw, partition = make(tmp_path, ("-b", "4096", "-O", "^metadata_csum,^flex_bg,^resize_inode"), size=260 * MIB)
    with raw.open("r+b") as file:
        at = partition.start + 4096
        first = os.pread(file.fileno(), 64, at)
        (blocks,) = struct.unpack("<I", os.pread(file.fileno(), 4, partition.start + 1024 + 0x20))
        # Group 0 points at a block of zeros and claims as much free space as that says.
        place = 20_000
        changed = (
            struct.pack("<I", place)
            + first[4:0x0C]
            + struct.pack("<H", blocks)
            + first[0x0E:0x12]
            + bytes(2)
            + first[0x14:]
        )
        os.pwrite(file.fileno(), changed, at)
    with pytest.raises(Doubt, match="own blocks free"):
        find_of(dense(raw), partition)


@given(st.integers(0, 2**300))
def test_runs_of_ones(bits: int) -> None:
    runs = list(_ones(bits))
    assert sum((1 << end) - (1 << start) for start, end in runs) == bits
    assert all(former[1] < later[0] for former, later in pairwise(runs))


def test_of_very_many_runs_only_long_ones_are_told() -> None:
    dice = random.Random(1)
    bits = int("01" * 8000, 2) | dice.getrandbits(16000) << 16000 | (1 << 700) - 1 << 40_000
    runs = list(_ones(bits))
    assert len(runs) <= 512
    assert (40_000, 40_700) in runs
    assert all(bits >> start & (1 << end - start) - 1 == (1 << end - start) - 1 for start, end in runs)


def test_free_runs_that_are_told_apart_are_limited() -> None:
    """A filesystem with a hole at every second block cannot make us remember each of them."""
    free = _Free()
    for number in range(400_000):
        free.add(number * 8192, number * 8192 + 4096)
        if number % 100_000 == 0:
            free.add(number * 8192 + 4096, number * 8192 + 8192)
    free.add(10**12, 10**12 + MIB)
    assert len(free.runs) <= 1 << 17
    assert free.runs[-1] == (10**12, 10**12 + MIB)
    assert all(end - start >= 8192 for start, end in free.runs)


@given(st.binary(max_size=3000), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_crc32c_folded_is_crc32c_bit_by_bit(data: bytes, state: int) -> None:
    slow = state
    for byte in data:
        slow ^= byte
        for _ in range(8):
            slow = slow >> 1 ^ (0x82F63B78 if slow & 1 else 0)
    assert crc32c(state, data) == slow
    assert crc32c(0xFFFFFFFF, b"123456789") ^ 0xFFFFFFFF == 0xE3069283


def test_two_terabytes_take_bounded_time(tmp_path: Path) -> None:
    raw, partition = make(tmp_path, OPTIONS["ours"], size=2 << 40)
    began = time.process_time()
    used = used_of(dense(raw), partition)
    assert used is not None
    assert time.process_time() - began < 30, "expected about a second"
