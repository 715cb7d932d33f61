"""Compressed DMGs: what is written, QEMU and dmg2img read; what others wrote, with bad intentions too, is looked at."""

from __future__ import annotations

import bz2
import os
import plistlib
import random
import struct
import subprocess
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from media import small_ext4
from silent import Silent
from zlib_ng.zlib_ng import crc32_combine

from portunix_vdisk.platform.base import MIB, SECTOR, ForeignType, ImageType
from portunix_vdisk.platform.errors import Corrupt, Failed, Interrupted, Refused, VdiskError
from portunix_vdisk.platform.linux.machine import LinuxPlatform
from portunix_vdisk.steps import dmg
from portunix_vdisk.steps.dmg import WriteUdzo
from portunix_vdisk.steps.foreign.copy import CopyForeign
from portunix_vdisk.steps.foreign.udif import CRC32, RUN, TABLE, TRAILER, Kind, Run, read_udif
from portunix_vdisk.steps.step import Context


def context(patience: int | None = None) -> Context:
    return Context(LinuxPlatform(), Silent() if patience is None else Silent(patience=patience, kill=False))


def reading(data: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, length: data[offset : offset + length]


def raw_disk(path: Path, sectors: int, pieces: list[tuple[int, int, str]]) -> Path:
    """A sparse disk; each piece is a place and a length in parts of 1000, and what is there."""
    dice = random.Random(sectors)
    with path.open("wb") as file:
        file.truncate(sectors * SECTOR)
        for place, length, what in pieces:
            start, count = place * sectors // 1000, max(1, length * sectors // 1000)
            size = min(count, sectors - start) * SECTOR
            content = {"random": dice.randbytes, "text": lambda n: (b"all work " * n)[:n], "zeros": bytes}[what](size)
            os.pwrite(file.fileno(), content, start * SECTOR)
    return path


def udzo(folder: Path, raw: Path) -> Path:
    made = folder / "made.dmg"
    made.unlink(missing_ok=True)
    WriteUdzo(raw, ImageType.IMG, made).run(context())
    return made


_PIECES = st.tuples(st.integers(0, 999), st.integers(1, 300), st.sampled_from(["random", "text", "zeros"]))


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sectors=st.integers(1, 12 * MIB // SECTOR), pieces=st.lists(_PIECES, max_size=4))
def test_others_read_what_is_written(tmp_path: Path, sectors: int, pieces: list[tuple[int, int, str]]) -> None:
    # dmg2img takes a list at the very beginning of the file, behind no data, for none.
    raw = raw_disk(tmp_path / "raw", sectors, [*pieces, (500, 1, "text")])
    made = udzo(tmp_path, raw)
    by_qemu, by_dmg2img = tmp_path / "qemu", tmp_path / "dmg2img"
    subprocess.run(["qemu-img", "convert", "-f", "dmg", "-O", "raw", made, by_qemu], check=True, capture_output=True)
    subprocess.run(["dmg2img", "-s", made, by_dmg2img], check=True, capture_output=True)
    wanted = raw.read_bytes()
    assert by_qemu.read_bytes() == wanted
    # It leaves zeros at the end out.
    assert by_dmg2img.read_bytes().ljust(len(wanted), b"\0") == wanted
    data = made.read_bytes()
    trailer = TRAILER.unpack(data[-SECTOR:])
    (start, length), plain_sum = trailer[15:17], zlib.crc32(wanted)
    table = plistlib.loads(data[start : start + length])["resource-fork"]["blkx"][0]["Data"]
    assert TABLE.unpack_from(table)[7:10] == (CRC32, 32, plain_sum.to_bytes(4, "big").ljust(128, b"\0"))
    assert int.from_bytes(trailer[19][:4], "big") == zlib.crc32(plain_sum.to_bytes(4, "big"))
    assert read_udif(reading(data), len(data)).checksum == zlib.crc32(data[:start])
    holes = sum(run.count for run in read_udif(reading(data), len(data)).runs if run.kind is Kind.ZERO)
    assert holes * SECTOR >= len(wanted) - sum(MIB for at in range(0, len(wanted), MIB) if any(wanted[at : at + MIB]))


def test_the_checksum_of_zeros_needs_none() -> None:
    for length in (0, 1, 511, 4 * MIB):
        assert dmg.sum_of_zeros(length) == zlib.crc32(bytes(length))
    doubled = crc32_combine(dmg.sum_of_zeros(1 << 44), dmg.sum_of_zeros(1 << 44), 1 << 44)
    assert dmg.sum_of_zeros(1 << 45) == doubled, "nor is there a length that is too large"


def test_a_large_disk_gets_larger_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """QEMU takes no list of more than 16 MiB."""
    monkeypatch.setattr(dmg, "_MOST_RUNS", 3)
    raw = raw_disk(tmp_path / "raw", 10 * MIB // SECTOR, [(0, 900, "text")])
    data = udzo(tmp_path, raw).read_bytes()
    assert [run.count * SECTOR for run in read_udif(reading(data), len(data)).runs] == [4 * MIB, 4 * MIB, 2 * MIB]


def test_interrupted_it_leaves_nothing(tmp_path: Path) -> None:
    raw = raw_disk(tmp_path / "raw", 40 * MIB // SECTOR, [(0, 999, "random")])
    (tmp_path / "made.dmg.partial").write_text("of a run that was killed")
    with pytest.raises(Interrupted):
        WriteUdzo(raw, ImageType.IMG, tmp_path / "made.dmg").run(context(patience=3))
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    raw = raw_disk(tmp_path / "raw", 8 * MIB // SECTOR, [(0, 999, "random")])
    with small_ext4(tmp_path, 4 * MIB) as medium:
        before = sorted(medium.iterdir())
        with pytest.raises(Failed, match="no space left"):
            WriteUdzo(raw, ImageType.IMG, medium / "made.dmg").run(context())
        assert sorted(medium.iterdir()) == before


def test_a_name_that_is_taken_meanwhile_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw, made = raw_disk(tmp_path / "raw", MIB // SECTOR, [(0, 999, "text")]), tmp_path / "made.dmg"
    monkeypatch.setattr(dmg, "sync_file", lambda path: made.write_text("somebody's"))
    with pytest.raises(Refused, match="exists already"):
        WriteUdzo(raw, ImageType.IMG, made).run(context())
    assert made.read_text() == "somebody's"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made.dmg", "raw"]


def test_a_medium_that_changes_what_is_written_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = raw_disk(tmp_path / "raw", 5 * MIB // SECTOR, [(0, 999, "random")])

    def failing(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(2 * MIB)
            file.write(b"something else")

    monkeypatch.setattr(dmg, "sync_file", failing)
    with pytest.raises(Corrupt):
        udzo(tmp_path, raw)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


# images that others made ------------------------------------------------------------------------------


def image(runs: list[Run], stored: bytes, sectors: int, *, checksum: int | None = None) -> bytes:
    """A UDIF with these runs, right or wrong."""
    table = TABLE.pack(b"mish", 1, 0, sectors, 0, 2056, 0, 0, 0, b"", len(runs))
    table += b"".join(RUN.pack(run.kind, 0, run.start, run.count, run.offset, run.length) for run in runs)
    listed = plistlib.dumps({"resource-fork": {"blkx": [{"Data": table}]}})
    about = (0, 0, b"") if checksum is None else (CRC32, 32, checksum.to_bytes(4, "big"))
    head = (b"koly", 4, 512, 1, 0, 0, len(stored), 0, 0, 1, 1, bytes(16))
    return stored + listed + TRAILER.pack(*head, *about, len(stored), len(listed), 0, 0, b"", 1, sectors)


def imported(folder: Path, data: bytes) -> bytes:
    path, partial = folder / "theirs.dmg", folder / "copy.img.partial"
    path.write_bytes(data)
    partial.unlink(missing_ok=True)
    step = CopyForeign(path, ForeignType.UDIF, partial, ImageType.IMG)
    step.prepare(context())
    step.run(context())
    return partial.read_bytes()


PLAIN = random.Random(1).randbytes(4 * SECTOR)
PACKED = zlib.compress(PLAIN)
FIRST, SECOND = Run(Kind.RAW, 0, 4, 0, 4 * SECTOR), Run(Kind.ZLIB, 6, 4, 4 * SECTOR, len(PACKED))
GAP = Run(Kind.IGNORED, 4, 2, 0, 0)


def test_runs_of_all_kinds_are_read(tmp_path: Path) -> None:
    stored = PLAIN + PACKED
    good = image([FIRST, GAP, SECOND], stored, 10, checksum=zlib.crc32(stored))
    assert imported(tmp_path, good) == (PLAIN + bytes(2 * SECTOR) + PLAIN).ljust(MIB, b"\0")
    bad = bytearray(good)
    bad[7] ^= 1  # in a run that is not compressed
    with pytest.raises(Corrupt, match="checksum"):
        imported(tmp_path, bytes(bad))


def test_bzip2_is_read_or_refused_before_anything_is_copied(tmp_path: Path) -> None:
    """As QEMU can; Debian's cannot."""
    stored = bz2.compress(PLAIN)
    theirs = image([Run(Kind.BZIP2, 0, 4, 0, len(stored))], stored, 4)
    try:
        assert imported(tmp_path, theirs).startswith(PLAIN)
    except Refused as error:
        assert "BZIP2" in error.what
        assert not (tmp_path / "copy.img.partial").exists()


@pytest.mark.parametrize(
    ("runs", "sectors"),
    [
        ([FIRST], 10),  # the disk is larger than what there is
        ([FIRST, SECOND], 10),  # nothing is said about two sectors
        ([FIRST, Run(Kind.ZERO, 3, 7, 0, 0)], 10),  # two things are said about one
        ([Run(Kind.ZLIB, 0, 10, 0, 1 << 40)], 10),  # behind the end of the file
        ([Run(Kind.ZLIB, 0, 10, 1 << 63, 64)], 10),
        ([Run(Kind.ZLIB, 0, 1 << 30, 0, 64)], 1 << 30),  # half a terabyte at once
        ([Run(Kind.RAW, 0, 10, 0, SECTOR)], 10),
        ([Run(Kind.ZERO, 0, 0, 0, 0)], 0),
        ([Run(Kind.ZERO, 0, 1 << 60, 0, 0)], 1 << 60),
        ([], 10),
        # As many sectors as the disk has, but some of them twice and others never.
        ([FIRST, replace(SECOND, start=2), GAP], 10),
        ([FIRST, SECOND, replace(GAP, start=5)], 10),
    ],
)
def test_tables_that_lie_are_refused(tmp_path: Path, runs: list[Run], sectors: int) -> None:
    with pytest.raises(Corrupt):
        imported(tmp_path, image(runs, PLAIN + PACKED, sectors))
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.dmg"]


def test_more_than_it_says_is_never_unpacked(tmp_path: Path) -> None:
    """64 MiB of zeros in a few KB, said to be four sectors."""
    bomb = zlib.compress(bytes(1 << 26))
    with pytest.raises(VdiskError):
        imported(tmp_path, image([Run(Kind.ZLIB, 0, 4, 0, len(bomb))], bomb, 4))


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_whatever_is_bent_there_is_an_answer_or_a_refusal(data: st.DataObject) -> None:
    bent = bytearray(image([FIRST, GAP, SECOND], PLAIN + PACKED, 10))
    start = len(PLAIN + PACKED)
    for _ in range(data.draw(st.integers(1, 4))):
        bent[data.draw(st.integers(start, len(bent) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(bent[: data.draw(st.integers(0, len(bent)))] + bent[-SECTOR:])
    for each in (bytes(bent), cut):
        try:
            found = read_udif(reading(each), len(each))
        except VdiskError:
            continue
        assert sum(run.count for run in found.runs) * SECTOR == found.size


def test_a_list_that_costs_more_to_read_than_it_is_long_is_not_read() -> None:
    listed = b"<plist>" + b"<array>" * 2_300_000
    head = (b"koly", 4, 512, 1, 0, 0, 0, 0, 0, 1, 1, bytes(16), 0, 0, b"")
    whole = listed + TRAILER.pack(*head, 0, len(listed), 0, 0, b"", 1, 1)
    tracemalloc.start()
    try:
        with pytest.raises(Corrupt, match="more in it"):
            read_udif(reading(whole), len(whole))
        assert tracemalloc.get_traced_memory()[1] < 64 * MIB
    finally:
        tracemalloc.stop()


def test_a_part_of_several_files_is_refused() -> None:
    whole = bytearray(image([Run(Kind.ZERO, 0, 4, 0, 0)], b"", 4))
    struct.pack_into(">I", whole, len(whole) - SECTOR + 60, 2)
    with pytest.raises(Refused, match="one file of 2"):
        read_udif(reading(bytes(whole)), len(whole))
