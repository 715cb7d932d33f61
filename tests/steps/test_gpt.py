import json
import random
import struct
import subprocess
import zlib
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portunix_vdisk.platform.base import Partition
from portunix_vdisk.platform.errors import BadUsage, Corrupt, NotFound, VdiskError
from portunix_vdisk.platform.formats import LINUX_DATA
from portunix_vdisk.steps.gpt import build_gpt, parse_gpt

MIB = 1 << 20
DISK = "11111111-2222-3333-4444-555566667777"
PART = "aaaaaaaa-bbbb-cccc-dddd-eeeeffff0000"


def disk(size=8 * MIB, name="my-dev"):
    gpt = build_gpt(size, DISK, PART, LINUX_DATA, name)
    image = bytearray(size)
    image[: len(gpt.primary)] = gpt.primary
    image[gpt.backup_offset : gpt.backup_offset + len(gpt.backup)] = gpt.backup
    assert len(image) == size
    return image


def parse(image):
    return parse_gpt(lambda offset, length: bytes(image[offset : offset + length]), len(image))


def reseal(image, lba=1):
    """Make both checksums of a header right again, as an attacker would."""
    at = lba * 512
    size = struct.unpack_from("<I", image, at + 12)[0]
    entries_at, count, entry_size = struct.unpack_from("<QII", image, at + 72)
    if entries_at < 1 << 32 and count * entry_size < 1 << 24:
        entries = bytes(image[entries_at * 512 : entries_at * 512 + count * entry_size])
        struct.pack_into("<I", image, at + 88, zlib.crc32(entries))
    if size <= 512:
        struct.pack_into("<I", image, at + 16, 0)
        struct.pack_into("<I", image, at + 16, zlib.crc32(bytes(image[at : at + size])))


def sfdisk(*arguments, stdin=None):
    return subprocess.run(["sfdisk", *arguments], input=stdin, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("size", [2 * MIB + 33 * 512, 3 * MIB, 8 * MIB, 8 * MIB + 512, 20_000_538_624, 3 << 40])
@pytest.mark.parametrize("name", ["my-dev", "Ünïcode 開発", "x" * 64])
def test_sfdisk_reads_what_we_build(tmp_path, size, name):
    gpt = build_gpt(size, DISK, PART, LINUX_DATA, name)
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(size)
        file.write(gpt.primary)
        file.seek(gpt.backup_offset)
        file.write(gpt.backup)
    assert path.stat().st_size == size
    assert "No errors detected" in sfdisk("--verify", path)
    table = json.loads(sfdisk("--json", path))["partitiontable"]
    assert table["label"] == "gpt"
    assert UUID(table["id"]) == UUID(DISK)
    (found,) = table["partitions"]
    assert (found["start"] * 512, found["size"] * 512) == (gpt.partition.start, gpt.partition.length)
    assert (UUID(found["type"]), UUID(found["uuid"])) == (UUID(LINUX_DATA), UUID(PART))
    assert found["name"] == name[:36]


def test_we_read_what_sfdisk_builds(tmp_path):
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(64 * MIB)
    sfdisk(
        path,
        stdin="label: gpt\n"
        'start=2048, size=20480, type=U, name="boot"\n'
        f'start=40960, size=2048, type={LINUX_DATA}, name="ünï", attrs="LegacyBIOSBootable"\n'
        "start=22528, size=2048, type=S\n",
    )
    table = json.loads(sfdisk("--json", path))["partitiontable"]["partitions"]
    found = parse(path.read_bytes())
    assert [(p.start // 512, p.length // 512, UUID(p.type_guid), UUID(p.guid), p.name) for p in found] == [
        (p["start"], p["size"], UUID(p["type"]), UUID(p["uuid"]), p.get("name", "")) for p in table
    ]
    assert [p.number for p in found] == [1, 2, 3]
    assert [p.attributes for p in found] == [0, 4, 0]


@given(st.integers(3 * MIB // 512, 1 << 33), st.text(max_size=70))
def test_what_is_built_is_aligned_and_reads_back(sectors, name):
    size = sectors * 512
    gpt = build_gpt(size, DISK, PART, LINUX_DATA, name)
    assert gpt.partition.start == MIB
    assert gpt.partition.length > 0
    assert gpt.partition.length % MIB == 0
    end = gpt.partition.start + gpt.partition.length
    assert end <= gpt.backup_offset < end + 2 * MIB
    assert gpt.backup_offset + len(gpt.backup) == size

    def read(offset, length):
        if offset < len(gpt.primary):
            return gpt.primary[offset : offset + length]
        return gpt.backup[offset - gpt.backup_offset :][:length]

    (found,) = parse_gpt(read, size)
    assert found.partition == gpt.partition
    (from_backup,) = parse_gpt(lambda o, n: bytes(n) if o < len(gpt.primary) else read(o, n), size)
    assert from_backup == found
    assert name.startswith(found.name.rstrip("�?")) or "\0" in name or "?" in found.name


@pytest.mark.parametrize("size", [0, 512, MIB, 2 * MIB, 2 * MIB + 32 * 512])
def test_disks_that_are_too_small(size):
    with pytest.raises(BadUsage):
        build_gpt(size, DISK, PART, LINUX_DATA, "x")


def test_size_must_be_whole_sectors():
    with pytest.raises(BadUsage):
        build_gpt(8 * MIB + 1, DISK, PART, LINUX_DATA, "x")


def test_guids_that_are_none():
    with pytest.raises(ValueError):
        build_gpt(8 * MIB, "nonsense", PART, LINUX_DATA, "x")


def test_no_table_at_all():
    for size in (0, 511, 512, 1024, 34 * 512, 8 * MIB):
        with pytest.raises(NotFound):
            parse(bytearray(size))
    with pytest.raises(VdiskError):
        parse(bytearray(random.Random(1).randbytes(MIB)))


@pytest.mark.parametrize("damage", range(512, 512 + 92))
def test_a_damaged_primary_header_is_replaced_by_the_backup(damage):
    image = disk()
    whole = parse(image)
    image[damage] ^= 0x40
    assert parse(image) == whole


def test_damaged_entries_are_replaced_by_the_backup():
    image = disk()
    whole = parse(image)
    image[1024 + 40] ^= 1
    assert parse(image) == whole


def test_a_damaged_backup_does_no_harm():
    image = disk()
    whole = parse(image)
    image[-33 * 512 :] = bytes(33 * 512)
    assert parse(image) == whole


@pytest.mark.parametrize("what", [slice(512, 1024), slice(1024, 2048)])
def test_both_copies_damaged(what):
    image = disk()
    image[what] = b"\xff" * (what.stop - what.start)
    image[-512 + 20] ^= 1
    with pytest.raises(Corrupt) as caught:
        parse(image)
    assert "damaged" in caught.value.what


def test_a_disk_that_was_cut_off_still_reads_by_its_primary_header_only_if_consistent():
    image = disk()
    with pytest.raises(VdiskError):
        parse(image[: 4 * MIB])  # the header speaks of sectors that are gone


FIELDS = {
    "header size 0": (12, "<I", 0),
    "header size 91": (12, "<I", 91),
    "header size 513": (12, "<I", 513),
    "header size huge": (12, "<I", 0xFFFF_FFFF),
    "revision 2": (8, "<I", 0x0002_0000),
    "own LBA": (24, "<Q", 7),
    "other LBA": (32, "<Q", 1 << 60),
    "first usable 0": (40, "<Q", 0),
    "first usable beyond": (40, "<Q", 1 << 63),
    "first usable in entries": (40, "<Q", 10),
    "last usable beyond": (48, "<Q", (1 << 64) - 1),
    "last usable before first": (48, "<Q", 33),
    "entries at 0": (72, "<Q", 0),
    "entries at the end": (72, "<Q", 8 * MIB // 512 - 1),
    "entries far out": (72, "<Q", (1 << 64) - 1),
    "entries in the partition": (72, "<Q", 2048),
    "no entries": (80, "<I", 0),
    "many entries": (80, "<I", 0xFFFF_FFFF),
    "entry size 0": (84, "<I", 0),
    "entry size 1": (84, "<I", 1),
    "entry size 200": (84, "<I", 200),
    "entry size huge": (84, "<I", 1 << 31),
}


@pytest.mark.parametrize("field", FIELDS)
def test_hostile_headers_with_right_checksums(field):
    offset, layout, value = FIELDS[field]
    image = disk()
    image[-33 * 512 :] = bytes(33 * 512)  # no way out
    struct.pack_into(layout, image, 512 + offset, value)
    reseal(image)
    reads = []

    def read(at, length):
        reads.append(length)
        assert at >= 0
        assert length <= 4 * MIB, "a header must not decide how much memory we take"
        return bytes(image[at : at + length])

    with pytest.raises(Corrupt):
        parse_gpt(read, len(image))


@pytest.mark.parametrize(("first", "last"), [(33, 4000), (0, 4000), (4000, 3999), (2048, 1 << 40), (2048, 16384)])
def test_hostile_partitions_with_right_checksums(first, last):
    image = disk()
    image[-33 * 512 :] = bytes(33 * 512)
    struct.pack_into("<QQ", image, 1024 + 32, first, last)
    reseal(image)
    with pytest.raises(Corrupt):
        parse(image)


def test_overlapping_partitions():
    image = disk()
    image[-33 * 512 :] = bytes(33 * 512)
    image[1024 + 128 : 1024 + 256] = image[1024 : 1024 + 128]
    struct.pack_into("<QQ", image, 1024 + 128 + 32, 3000, 3001)
    reseal(image)
    with pytest.raises(Corrupt) as caught:
        parse(image)
    assert "overlap" in caught.value.what


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 91), st.integers(0, 255)), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 511), st.integers(0, 255)), max_size=6),
)
def test_no_bytes_make_it_raise_anything_else(header, entries):
    image = disk(4 * MIB)
    image[-33 * 512 :] = bytes(33 * 512)
    for at, value in header:
        image[512 + at] = value
    for at, value in entries:
        image[1024 + at] = value
    reseal(image)
    try:
        found = parse(image)
    except (Corrupt, NotFound):
        return
    for partition in found:
        assert 0 < partition.start < partition.start + partition.length <= len(image)


def test_a_header_on_a_huge_disk_does_not_decide_how_much_is_read():
    image = disk()
    struct.pack_into("<QQ", image, 512 + 40, 1 << 33, 1 << 34)
    struct.pack_into("<I", image, 512 + 80, 1 << 31)
    reseal(image)

    def read(offset, length):
        assert length <= 4 * MIB
        return bytes(image[offset : offset + length]) if offset < len(image) else bytes(length)

    with pytest.raises(Corrupt):
        parse_gpt(read, 1 << 50)


def test_a_backup_whose_entries_lie_in_the_partition():
    image = disk()
    backup = len(image) // 512 - 1
    image[2048 * 512 : 2080 * 512] = image[1024 : 1024 + 32 * 512]
    image[512:1024] = bytes(512)
    assert len(parse(image)) == 1
    struct.pack_into("<Q", image, backup * 512 + 72, 2048)
    reseal(image, backup)
    with pytest.raises(Corrupt):
        parse(image)


def test_a_reader_that_gives_too_little():
    image = disk()
    with pytest.raises(Corrupt):
        parse_gpt(lambda offset, length: bytes(image[offset : offset + length])[:100], len(image))


def test_partition_of_a_disk_of_whole_mib():
    assert build_gpt(20 << 30, str(uuid4()), str(uuid4()), LINUX_DATA, "").partition == Partition(
        MIB, (20 << 30) - 2 * MIB
    )
