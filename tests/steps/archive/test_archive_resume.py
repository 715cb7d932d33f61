from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from portunix_vdisk.platform.errors import Interrupted, Refused
from portunix_vdisk.steps.archive.pack import pack_is_done
from portunix_vdisk.steps.archive.partial import read_back
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.seal import Seal
from portunix_vdisk.steps.archive.storage import ArchiveFile
from portunix_vdisk.steps.durable import identity_of
from portunix_vdisk.steps.source import SourceIdentity
from portunix_vdisk.tests.support.chunks import CHUNK, noise, ten_chunks


@pytest.fixture
def disk(house: Any) -> Any:
    return ten_chunks(house)


def boundaries(path: Path) -> list[int]:
    """Ends of all records, starting with the first document's."""
    with ArchiveFile(path) as file:
        return sorted(read_back(file, payloads=True).chains)


def test_cut_anywhere_then_resumed(disk: Any) -> None:
    """Every structure boundary, bytes around it, and random places; sealed and unsealed."""
    disk.pack(2)
    records = boundaries(disk.partial)
    Seal(disk.export_of()).run(disk.ctx)
    whole = disk.partial.read_bytes()
    disk.new_process()
    cuts = {cut + nudge for cut in [0, *records, len(whole)] for nudge in (-1, 0, 1, 40)}
    cuts |= set(random.Random(7).sample(range(len(whole)), 15))
    for cut in sorted(cut for cut in cuts if 0 <= cut <= len(whole)):
        disk.output.unlink(missing_ok=True)
        disk.partial.write_bytes(whole[:cut])
        result = disk.export(2)
        kept = max([end for end in records if end <= cut], default=0)
        assert result["reused_bytes"] >= kept, cut
        if kept > records[1]:
            missing = len(whole) - kept
            assert result["written_bytes"] <= missing + 1200, (cut, "a session and its directory entry more")
        disk.import_(2)
        disk.assert_same()
        disk.new_process()


def test_every_flipped_byte_of_a_record_is_noticed_on_resume(disk: Any) -> None:
    disk.pack()
    disk.new_process()
    whole = disk.partial.read_bytes()
    records = boundaries(disk.partial)
    places = random.Random(3).sample(range(records[0], len(whole)), 20)
    places += range(records[1], records[1] + 112, 4)  # the whole header of the first chunk
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 0x40
        disk.output.unlink(missing_ok=True)
        disk.partial.write_bytes(damaged)
        result = disk.export()
        assert result["written_bytes"] > 0
        with ArchiveReader(disk.output) as reader:
            for chunk in reader.index.chunks:
                reader.plain(chunk)
        disk.new_process()
    disk.import_()
    disk.assert_same()


def test_pages_of_zeros_after_a_power_loss(disk: Any) -> None:
    disk.pack()
    disk.new_process()
    whole = disk.partial.read_bytes()
    for start in range(0, len(whole), 4096):
        for length in (4096, len(whole)):
            disk.output.unlink(missing_ok=True)
            end = min(len(whole), start + length)
            disk.partial.write_bytes(whole[:start] + bytes(end - start) + whole[end:])
            if start == 0:
                with pytest.raises(Refused, match="in the way"):  # the first document was durable before any chunk
                    disk.export()
            else:
                disk.export()
                disk.import_()
                disk.assert_same()
            disk.new_process()


def test_ranges_alone_and_in_any_order(disk: Any) -> None:
    for number in (3, 0, 4, 1, 2):
        disk.pack(5, only=[number])
        disk.new_process()
    result = disk.finish()
    assert result["written_bytes"] < 9000, "nothing was left for seal but index, RECOVER.txt and directory"
    disk.import_(5)
    disk.assert_same()


def test_seal_packs_what_is_missing(disk: Any) -> None:
    disk.pack(5, only=[2])
    disk.finish()
    disk.import_()
    disk.assert_same()


def test_pack_is_done(disk: Any) -> None:
    source = SourceIdentity(identity_of(disk.image))
    results = disk.pack(4)
    foreign = {"end": results[0]["end"], "last": "00" * 32}
    for fresh in (False, True):
        if fresh:
            disk.new_process()
        assert all(pack_is_done(disk.output, result, source) for result in results)
        for wrong in (foreign, {}, None, {"end": "1", "last": 2}, {"end": 5, "last": results[0]["last"]}):
            assert not pack_is_done(disk.output, wrong, source)
    os.truncate(disk.partial, results[2]["end"])
    assert [pack_is_done(disk.output, result, source) for result in results] == [True, True, True, False]
    disk.change(0, b"x")
    assert not pack_is_done(disk.output, results[0], SourceIdentity(identity_of(disk.image)))
    disk.pack(4)
    assert not pack_is_done(disk.output, results[0], SourceIdentity(identity_of(disk.image)))
    disk.new_process()
    disk.partial.unlink()
    assert not pack_is_done(disk.output, results[0], source)


def test_pack_is_done_for_another_partial_of_the_same_content(disk: Any) -> None:
    """A new archive UUID makes another file, even if every chunk lies at the same place."""
    results = disk.pack(4)
    disk.new_process()
    disk.partial.unlink()
    again = disk.pack(4)
    assert [result["end"] for result in again] == [result["end"] for result in results]
    assert not pack_is_done(disk.output, results[1], SourceIdentity(identity_of(disk.image)))


def test_scanning_for_64_ranges_reads_the_file_once(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    results = disk.pack(4)
    disk.new_process()
    reads = 0
    original = os.pread

    def pread(*arguments: Any) -> bytes:
        nonlocal reads
        reads += 1
        return original(*arguments)

    monkeypatch.setattr(os, "pread", pread)
    source = SourceIdentity(identity_of(disk.image))
    assert pack_is_done(disk.output, results[0], source)
    first = reads
    for _ in range(63):
        assert pack_is_done(disk.output, results[1], source)
    assert reads == first


def test_stops_at_the_next_chunk_and_goes_on_from_there(house: Any) -> None:
    house.make(40 * CHUNK, {n * CHUNK: noise(CHUNK, n) for n in range(12)})
    house.talk.cancel = lambda: len(house.talk.steps) >= 5  # the first step is the scan's
    with pytest.raises(Interrupted):
        house.pack()
    assert len(house.talk.steps) == 5
    house.talk.cancel = lambda: False
    kept = house.partial.stat().st_size
    assert 4 * CHUNK < kept < 5 * CHUNK
    assert house.export()["reused_bytes"] >= kept
    house.import_()
    house.assert_same()


KILLED = """
import sys, importlib.util
from pathlib import Path
spec = importlib.util.spec_from_file_location("conftest_of_archive", sys.argv[1])
module = importlib.util.module_from_spec(spec); sys.modules[spec.name] = module; spec.loader.exec_module(module)
house = module.House(Path(sys.argv[2]))
house.export(8)
"""


def test_sigkill_at_moments_drawn_by_bytes(house: Any) -> None:
    house.make(48 * CHUNK, {n * CHUNK: noise(CHUNK // 2, n) for n in range(48)})
    conftest = Path(__file__).with_name("conftest.py")
    drawn, killed = random.Random(5), 0
    total = 48 * CHUNK // 2
    for _ in range(6):
        moment = drawn.randrange(total // 20, total)
        kept = house.partial.stat().st_size if house.partial.exists() else 0
        process = subprocess.Popen([sys.executable, "-c", KILLED, conftest, house.folder])
        while process.poll() is None:
            if house.partial.exists() and house.partial.stat().st_size >= max(moment, kept + 1):
                process.send_signal(signal.SIGKILL)
                killed += 1
                break
            time.sleep(0.001)
        process.wait()
        if house.output.exists():
            break
    assert killed
    if not house.output.exists():
        kept = house.partial.stat().st_size
        result = house.export(8)
        assert result["written_bytes"] <= total - kept + CHUNK + 20_000
    house.import_(8)
    house.assert_same()
