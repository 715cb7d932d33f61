from __future__ import annotations

import os
import zipfile
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portunix_vdisk.platform.errors import Failed
from portunix_vdisk.steps.archive.pack import Pack
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.seal import Seal
from portunix_vdisk.tests.support.chunks import CHUNK, noise, ten_chunks


@pytest.fixture
def disk(house: Any) -> Any:
    return ten_chunks(house)


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
