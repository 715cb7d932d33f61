"""Free blocks of the ext4 filesystem on a disk as e2fsprogs see them, and comparing disks without regard to these."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from portunix_vdisk.platform.base import Partition

_FORMATS = {".vhd": "vpc", ".vhdx": "vhdx", ".qcow2": "qcow2", ".img": "raw", ".dmg": "raw", ".raw": "raw"}
_PIECE = 4 << 20


@contextmanager
def raw_of(image: Path) -> Iterator[Path]:
    """The guest-visible disk of an image as a sparse plain file, by qemu-img; its suffix tells the format."""
    with tempfile.TemporaryDirectory(dir=image.parent) as folder:
        raw = Path(folder) / "disk.raw"
        format = _FORMATS[image.suffix]
        subprocess.run(["qemu-img", "convert", "-f", format, "-O", "raw", "--", image, raw], check=True)
        yield raw


def free_extents(raw: Path, partition: Partition) -> list[tuple[int, int]]:
    """Start and end (disk offsets) of each free run in the partition, by dumpe2fs."""
    command = ["dumpe2fs", f"{raw}?offset={partition.start}"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (size,) = re.findall(r"^Block size: +(\d+)$", text, re.MULTILINE)
    assert "needs_recovery" not in text
    found: list[tuple[int, int]] = []
    for line in re.findall(r"^  Free blocks: (.*)$", text, re.MULTILINE):
        for run in filter(None, line.split(", ")):
            first, _, last = run.partition("-")
            start, end = int(first), int(last or first) + 1
            found.append((partition.start + start * int(size), partition.start + end * int(size)))
    assert found == sorted(found)
    return found


def fill(raw: Path, runs: list[tuple[int, int]], byte: bytes) -> None:
    """Fill runs of a plain file with one byte; zeros become holes."""
    with raw.open("r+b") as file:
        for start, end in runs:
            if byte == b"\0":
                command = ["fallocate", "--punch-hole", "--offset", str(start), "--length", str(end - start), raw]
                subprocess.run(command, check=True)
                continue
            for at in range(start, end, _PIECE):
                os.pwrite(file.fileno(), byte * min(_PIECE, end - at), at)


def difference_in_use(one: Path, other: Path, partition: Partition) -> int | None:
    """First disk offset at which two images differ in something that their filesystem uses; None if there is none.

    Everything counts but the blocks that dumpe2fs calls free in the first image; that both call the same blocks free
    follows, as the bitmaps themselves are compared.
    """
    with raw_of(one) as first, raw_of(other) as second:
        if first.stat().st_size != second.stat().st_size:
            return min(first.stat().st_size, second.stat().st_size)
        free = free_extents(first, partition)
        with first.open("rb") as left, second.open("rb") as right:
            end = 0
            for start, stop in [*free, (first.stat().st_size, 0)]:
                for at in range(end, start, _PIECE):
                    length = min(_PIECE, start - at)
                    here, there = os.pread(left.fileno(), length, at), os.pread(right.fileno(), length, at)
                    if here != there:
                        return at + next(number for number in range(length) if here[number] != there[number])
                end = stop
    return None


def check_filesystem(raw: Path, partition: Partition) -> None:
    """``e2fsck -fn`` must find nothing."""
    done = subprocess.run(["e2fsck", "-fn", f"{raw}?offset={partition.start}"], check=False, capture_output=True)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


def until_released(raw: Path) -> None:
    """A mount namespace that another test makes at this moment has a copy of our mount, until it ends."""
    deadline = time.monotonic() + 60
    while subprocess.run(["losetup", "--associated", raw], check=True, capture_output=True).stdout:
        assert time.monotonic() < deadline
        time.sleep(0.01)
