"""Reading partition tables of others, and telling what a file is; whatever comes, an answer or a refusal."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from portunix_vdisk.platform.errors import Corrupt, NotFound, Refused
from portunix_vdisk.steps.foreign.containers import Container, container_of
from portunix_vdisk.steps.foreign.filesystems import Read
from portunix_vdisk.steps.foreign.volumes import choose, volumes_of

MIB = 1 << 20
SIZE = 64 * MIB


def reading(data: bytes | bytearray) -> Read:
    return lambda offset, length: bytes(data[offset : offset + length])


def table(folder: Path, text: str) -> bytearray:
    disk = folder / "disk"
    with disk.open("wb") as file:
        file.truncate(SIZE)
    subprocess.run(["sfdisk", "-q", disk], input=text.encode(), check=True, capture_output=True)
    return bytearray(disk.read_bytes())


def put_ext4(disk: bytearray, start: int) -> None:
    disk[start + 1080 : start + 1082] = b"\x53\xef"


def test_logical_partitions_are_numbered_as_linux_does(tmp_path: Path) -> None:
    lines = ["label: dos", "start=2048,size=2048", "start=8192,type=5"]
    lines += [f"start={10240 + 4096 * number},size=2048" for number in range(5)]
    disk = table(tmp_path, "\n".join(lines))
    put_ext4(disk, (10240 + 4096 * 2) * 512)
    found = volumes_of(reading(disk), SIZE)
    assert [volume.number for volume in found] == [1, 5, 6, 7, 8, 9]
    assert choose(found, None, frozenset({"ext4"})).number == 7
    with pytest.raises(Refused):
        choose(found, 5, frozenset({"ext4"}))
    with pytest.raises(NotFound):
        choose(found, 2, frozenset({"ext4"}))


def test_a_chain_that_is_a_circle_ends(tmp_path: Path) -> None:
    disk = table(tmp_path, "label: dos\nstart=8192,type=5\nstart=10240,size=2048\nstart=14336,size=2048\n")
    assert len(volumes_of(reading(disk), SIZE)) == 2
    first = 8192 * 512 + 446 + 16
    disk[first + 8 : first + 12] = (0).to_bytes(4, "little")
    with pytest.raises(Corrupt):
        volumes_of(reading(disk), SIZE)
    disk[first + 8 : first + 12] = (2**31).to_bytes(4, "little")
    with pytest.raises(Corrupt):
        volumes_of(reading(disk), SIZE)


def test_the_gpt_counts_more_than_what_lies_around(tmp_path: Path) -> None:
    disk = table(tmp_path, "label: gpt\nstart=2048,size=2048\n")
    assert [volume.number for volume in volumes_of(reading(disk), SIZE)] == [1]
    disk[512:520] = bytes(8)
    disk[-512:] = bytes(512)
    with pytest.raises(Corrupt):
        volumes_of(reading(disk), SIZE)


def test_a_partition_behind_the_end_means_a_truncated_image(tmp_path: Path) -> None:
    disk = table(tmp_path, "label: dos\nstart=2048\n")
    with pytest.raises(Corrupt, match="truncated"):
        volumes_of(reading(disk[: SIZE // 2]), SIZE // 2)


@given(st.binary(min_size=66, max_size=66), st.binary(max_size=512))
def test_any_first_sector_is_answered_or_refused(entries: bytes, more: bytes) -> None:
    disk = bytearray(446) + entries[:64] + b"\x55\xaa" + more.ljust(512, b"\0") + bytes(MIB)
    with suppress(Corrupt):
        for volume in volumes_of(reading(disk), len(disk)):
            assert 0 <= volume.partition.start < volume.partition.start + volume.partition.length <= len(disk)


@pytest.mark.parametrize(
    ("format", "options", "expected"),
    [
        ("vpc", "subformat=dynamic", Container.VHD),
        ("vpc", "subformat=fixed", Container.VHD_FIXED),
        ("vhdx", "", Container.VHDX),
        ("qcow2", "compat=0.10", Container.QCOW2),
        ("vmdk", "", Container.VMDK),
        ("vdi", "", Container.VDI),
        ("raw", "", Container.RAW),
    ],
)
def test_images_are_known_by_their_content(tmp_path: Path, format: str, options: str, expected: Container) -> None:
    image = tmp_path / "image"
    words = ["qemu-img", "create", "-q", "-f", format, *(["-o", options] if options else []), image, "4M"]
    subprocess.run(words, check=True)
    data = image.read_bytes()
    assert container_of(reading(data), len(data), "image") is expected
    if expected not in (Container.RAW, Container.VHD_FIXED):
        pretending = bytearray(data.ljust(4096, b"\0"))
        pretending[510:512] = b"\x55\xaa"
        with pytest.raises(Refused, match="can be read as"):
            container_of(reading(pretending), len(pretending), "image")
        assert container_of(reading(pretending), len(pretending), "image", "img") is Container.RAW
        with pytest.raises(Refused, match="can be read as"):
            container_of(reading(data), len(data), "image.raw")
    with pytest.raises(Refused):
        other = "vdi" if expected is not Container.VDI else "vmdk"
        container_of(reading(data), len(data), "image", other)


@given(st.binary(max_size=2048))
@example(b"KDMV")
def test_any_file_is_something_or_refused(data: bytes) -> None:
    with suppress(Refused):
        assert container_of(reading(data), len(data), "file") in Container


def test_a_vmdk_above_another_is_refused(tmp_path: Path) -> None:
    parent, child = tmp_path / "parent.vmdk", tmp_path / "child.vmdk"
    subprocess.run(["qemu-img", "create", "-q", "-f", "vmdk", parent, "4M"], check=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "vmdk", "-b", parent, "-F", "vmdk", child], check=True)
    data = child.read_bytes()
    with pytest.raises(Refused, match="names other files"):
        container_of(reading(data), len(data), "child.vmdk")
