from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portunix_vdisk.platform.errors import Failed, Interrupted, Refused
from portunix_vdisk.steps.archive.pack import Pack, Scan, pack_is_done
from portunix_vdisk.steps.archive.partial import read_back
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.seal import Seal
from portunix_vdisk.steps.archive.status import ArchiveState, archive_status
from portunix_vdisk.steps.durable import identity_of

CHUNK = 4 << 20


def noise(length: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(length)


@pytest.fixture
def disk(house: Any) -> Any:
    """Nine chunks with small members: six different ones, one twice, one of zeros, one hole; the last is short."""
    tile = {n: noise(3000, n) for n in range(6)}
    pieces = {n * CHUNK: tile[n] for n in range(6)} | {6 * CHUNK: tile[2], 7 * CHUNK: bytes(CHUNK)}
    house.make(9 * CHUNK + 77, pieces | {9 * CHUNK: b"end"})
    return house


def boundaries(path: Path) -> list[int]:
    """Ends of all records, starting with the first document's."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return sorted(read_back(descriptor, payloads=True).chains)
    finally:
        os.close(descriptor)


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


def test_changed_source_gives_the_new_state(disk: Any) -> None:
    disk.pack()
    size = disk.partial.stat().st_size
    disk.new_process()
    disk.change(2 * CHUNK, noise(3000, 99))  # its old content lives on in chunk 6
    disk.change(3 * CHUNK, bytes(3000))  # now zeros
    disk.change(8 * CHUNK, noise(50, 98))  # was a hole
    result = disk.export()
    assert result["reused_bytes"] >= size
    assert result["written_bytes"] < size
    with ArchiveReader(disk.output) as reader:
        names = {chunk.offset // CHUNK: chunk.member for chunk in reader.index.chunks}
    assert names[2] == "chunks/1-000000800000-2.zst" and names[6] == "chunks/1-000000800000.zst"
    with zipfile.ZipFile(disk.output) as archive:
        listed = {name for name in archive.namelist() if name.startswith("chunks/")}
    assert set(names) == {0, 1, 2, 4, 5, 6, 8, 9}
    assert listed == set(names.values()), "what was replaced is not in the directory"
    disk.import_()
    disk.assert_same()


def test_content_known_only_from_a_former_state_is_lost(disk: Any) -> None:
    """Chunk 7 took over what chunk 1 held, whose member is damaged then: chunk 7 is packed again."""
    disk.pack()
    disk.new_process()
    disk.change(7 * CHUNK, noise(3000, 1))
    disk.change(CHUNK, noise(3000, 77))
    disk.pack()
    disk.new_process()
    whole = bytearray(disk.partial.read_bytes())
    place = whole.index(b"chunks/1-000000400000.zst")
    whole[place + 500] ^= 1
    disk.partial.write_bytes(whole)
    disk.export()
    disk.import_()
    disk.assert_same()


def test_source_changed_back_and_forth(disk: Any) -> None:
    for seed in (11, 12, 11, 13):
        disk.change(CHUNK, noise(3000, seed))
        disk.pack()
        disk.new_process()
    disk.export()
    disk.import_()
    disk.assert_same()


def test_touched_but_equal_source_stores_no_chunk_again(disk: Any) -> None:
    disk.pack()
    size = disk.partial.stat().st_size
    disk.new_process()
    os.utime(disk.image, ns=(1, 1))
    disk.pack()
    assert disk.partial.stat().st_size - size < 2500, "only records without payload"
    disk.finish()
    disk.import_()
    disk.assert_same()


def test_source_changed_while_packing_fails_and_keeps_the_partial(disk: Any) -> None:
    disk.pack(3, only=[0])
    export = disk.export_of()
    changed = False

    def change() -> bool:
        nonlocal changed
        if not changed:
            changed = True
            disk.change(0, b"new")
        return False

    disk.talk.cancel = change
    with pytest.raises(Failed, match="changed while") as caught:
        Pack(export, 1, 3).run(disk.ctx)
    assert "kept" in caught.value.state and disk.partial.exists()
    disk.export(3)
    disk.import_()
    disk.assert_same()


def test_source_changed_between_pack_and_seal(disk: Any) -> None:
    disk.pack()
    disk.change(CHUNK, b"later")
    Seal(disk.export_of()).run(disk.ctx)
    disk.finish()
    disk.import_()
    disk.assert_same()


def test_ranges_alone_and_in_any_order(disk: Any) -> None:
    for number in (3, 0, 4, 1, 2):
        disk.pack(5, only=[number])
        disk.new_process()
    result = disk.finish()
    assert result["written_bytes"] < 5000, "nothing was left for seal but index, RECOVER.txt and directory"
    disk.import_(5)
    disk.assert_same()


def test_seal_packs_what_is_missing(disk: Any) -> None:
    disk.pack(5, only=[2])
    disk.finish()
    disk.import_()
    disk.assert_same()


def test_pack_is_done(disk: Any) -> None:
    source = identity_of(disk.image)
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
    assert not pack_is_done(disk.output, results[0], identity_of(disk.image))
    disk.pack(4)
    assert not pack_is_done(disk.output, results[0], identity_of(disk.image))
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
    assert not pack_is_done(disk.output, results[1], identity_of(disk.image))


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
    source = identity_of(disk.image)
    assert pack_is_done(disk.output, results[0], source)
    first = reads
    for _ in range(63):
        assert pack_is_done(disk.output, results[1], source)
    assert reads == first


actions = st.one_of(
    st.tuples(st.just("pack"), st.integers(0, 3)),
    st.tuples(st.just("seal"), st.just(0)),
    st.tuples(st.just("new process"), st.just(0)),
    st.tuples(st.just("change"), st.integers(0, 9)),
    st.tuples(st.just("clear"), st.integers(0, 9)),
    st.tuples(st.just("touch"), st.just(0)),
    st.tuples(st.just("cut"), st.floats(0, 1)),
    st.tuples(st.just("lose a page"), st.floats(0, 1)),
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(history=st.lists(actions, max_size=12))
def test_whatever_happened_before_the_export_is_of_the_present_state(new_house: Any, history: Any) -> None:
    house = new_house()
    house.make(9 * CHUNK + 100, {n * CHUNK: noise(2000, n % 4) for n in (0, 1, 2, 3, 5, 6, 8)})
    for number, (action, value) in enumerate(history):
        match action:
            case "pack":
                house.pack(4, only=[value])
            case "seal":
                Seal(house.export_of()).run(house.ctx)
            case "new process":
                house.new_process()
            case "change":
                house.change(value * CHUNK + 7, noise(50, number))
            case "clear":
                house.change(value * CHUNK, bytes(100))
            case "touch":
                os.utime(house.image, ns=(number, number))
            case "cut" | "lose a page":
                house.new_process()
                if not house.partial.exists():
                    continue
                whole = house.partial.read_bytes()
                place = int(len(whole) * value)
                if action == "cut":
                    house.partial.write_bytes(whole[:place])
                else:
                    place = max(place // 4096 * 4096, 4096)
                    house.partial.write_bytes((whole[:place] + bytes(4096) + whole[place + 4096 :])[: len(whole)])
    house.export(4)
    house.import_(4)
    house.assert_same()
    with zipfile.ZipFile(house.output) as archive:
        assert archive.testzip() is None


def test_refuses_the_partial_of_another_disk(disk: Any) -> None:
    disk.pack()
    disk.new_process()
    before = disk.partial.read_bytes()
    other = disk.export_of(uuid="another")
    with pytest.raises(Refused, match="another disk"):
        Scan(other).run(disk.ctx)
    assert disk.partial.read_bytes() == before
    assert archive_status(disk.output, "another").state is ArchiveState.OTHER_DISK


@pytest.mark.parametrize("content", [b"my thesis", b"PK\3\4" + b"x" * 5000, bytes(100_000), b"PK\3\4" + b"x" * 100])
def test_refuses_a_file_that_is_in_the_way(disk: Any, content: bytes) -> None:
    disk.partial.write_bytes(content)
    with pytest.raises(Refused, match="in the way") as caught:
        disk.pack()
    assert disk.partial.read_bytes() == content and caught.value.code == 4
    assert archive_status(disk.output, "any").state is ArchiveState.NOT_AN_ARCHIVE


@pytest.mark.parametrize("content", [b"", bytes(300), b"PK\3\4\n\0"])
def test_killed_before_the_first_document_was_whole(disk: Any, content: bytes) -> None:
    disk.partial.write_bytes(content)
    assert archive_status(disk.output, "any").state is ArchiveState.PARTIAL
    disk.export()
    disk.import_()
    disk.assert_same()


def test_nothing_written_leaves_no_empty_file(disk: Any) -> None:
    disk.platform.free = 0
    with pytest.raises(Refused, match="no space"):
        disk.pack()
    assert not disk.partial.exists()


def test_reading_back_can_be_interrupted(disk: Any) -> None:
    disk.pack()
    disk.new_process()
    before = disk.partial.read_bytes()
    disk.talk.cancel = lambda: True
    with pytest.raises(Interrupted):
        disk.pack()
    assert disk.partial.read_bytes() == before


def test_does_not_follow_a_link_at_the_partials_place(disk: Any, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.touch()
    disk.partial.symlink_to(victim)
    with pytest.raises(Failed):
        disk.pack()
    assert victim.stat().st_size == 0


def test_two_exports_to_one_file(disk: Any) -> None:
    disk.pack()
    program = """
import sys
from pathlib import Path
from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.steps.archive.partial import open_partial
try:
    open_partial(Path(sys.argv[1]), "any")
except Refused as error:
    print(error.what)
"""
    done = subprocess.run([sys.executable, "-c", program, disk.partial], check=True, capture_output=True, text=True)
    assert "another export is writing" in done.stdout


def test_output_that_exists_is_never_touched(disk: Any) -> None:
    disk.output.write_bytes(b"precious")
    with pytest.raises(Refused):
        disk.pack()
    disk.output.unlink()
    disk.pack()
    Seal(disk.export_of()).run(disk.ctx)
    disk.output.write_bytes(b"precious")
    with pytest.raises(Refused) as caught:
        disk.finish()
    assert disk.output.read_bytes() == b"precious" and str(disk.partial) in caught.value.state


def test_killed_between_the_two_names(disk: Any) -> None:
    disk.pack()
    Seal(disk.export_of()).run(disk.ctx)
    disk.new_process()
    os.link(disk.partial, disk.output)
    assert archive_status(disk.output, disk.export_of().disk.uuid).state is ArchiveState.PARTIAL
    result = disk.export()
    assert result["written_bytes"] == 0 and not disk.partial.exists()
    disk.import_()
    disk.assert_same()


def test_status(disk: Any) -> None:
    uuid = disk.export_of().disk.uuid
    assert archive_status(disk.output, uuid).state is ArchiveState.ABSENT
    disk.pack()
    assert archive_status(disk.output, uuid).state is ArchiveState.PARTIAL
    result = disk.finish()
    status = archive_status(disk.output, uuid)
    assert status.state is ArchiveState.SEALED and status.source == identity_of(disk.image)
    assert (status.root, status.archive_uuid, status.size) == (
        result["root"],
        result["archive_uuid"],
        result["archive_bytes"],
    )
    assert archive_status(disk.output, "another").state is ArchiveState.OTHER_DISK
    os.truncate(disk.output, 3000)
    assert archive_status(disk.output, uuid).state is ArchiveState.DAMAGED
    disk.output.write_bytes(b"PK\3\4 is not all")
    assert archive_status(disk.output, uuid).state is ArchiveState.NOT_AN_ARCHIVE


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
