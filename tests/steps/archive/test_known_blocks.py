"""What is remembered of the blocks of chunks, and that a wrong memory is never believed."""

from __future__ import annotations

import errno
import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portunix_vdisk.steps.archive.digest import digest_of
from portunix_vdisk.steps.archive.known_blocks import KnownBlocks
from portunix_vdisk.steps.archive.layout import Kind, kind_of
from portunix_vdisk.steps.archive.patch import BLOCK, apply_patch, changed_blocks, make_patch
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.target import FormerState
from portunix_vdisk.tests.support.chunks import CHUNK, noise

BEFORE = noise(CHUNK, 7)
NAME = digest_of(BEFORE)


def changed_at(*places: int, content: bytes = BEFORE) -> bytearray:
    now = bytearray(content)
    for place in places:
        now[place] ^= 1
    return now


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "blocks" / "disk"


def test_it_tells_which_blocks_changed(file: Path) -> None:
    blocks = KnownBlocks(file)
    assert blocks.changed(0, NAME, BEFORE) is None
    blocks.note(0, NAME, BEFORE)
    blocks.note(CHUNK, NAME, BEFORE)
    assert blocks.changed(0, NAME, BEFORE) == []
    assert blocks.changed(CHUNK, NAME, changed_at(0, 5 * BLOCK - 1, 5 * BLOCK, CHUNK - 1)) == [0, 4, 5, 1023]
    blocks.close()
    again = KnownBlocks(file)
    assert again.changed(0, NAME, changed_at(2 * BLOCK)) == [2], "the secret is the same"
    assert again.changed(2 * CHUNK, NAME, BEFORE) is None
    assert again.changed(0, bytes(32), BEFORE) is None, "another content"
    again.close()


def test_a_short_last_chunk(file: Path) -> None:
    blocks, short = KnownBlocks(file), BEFORE[: 3 * BLOCK + 17]
    blocks.note(0, NAME, short)
    assert blocks.changed(0, NAME, changed_at(3 * BLOCK + 16, content=short)) == [3]
    assert blocks.changed(0, NAME, BEFORE) is None, "another length"
    assert blocks.changed(0, NAME, short[:-1]) is None
    blocks.close()


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(0, CHUNK - 1), max_size=20))
def test_it_says_what_a_comparison_says(places: set[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        blocks = KnownBlocks(Path(folder) / "blocks" / "disk")
        blocks.note(0, NAME, BEFORE)
        now = changed_at(*places)
        changed = blocks.changed(0, NAME, now)
        blocks.close()
    assert changed == changed_blocks(BEFORE, now)
    assert changed is not None
    assert apply_patch(BEFORE, make_patch(NAME, now, changed)) == now


def test_no_bit_of_a_damaged_record_is_believed(file: Path) -> None:
    blocks = KnownBlocks(file)
    blocks.note(0, NAME, BEFORE)
    blocks.close()
    whole = file.read_bytes()
    dice = random.Random(5)
    for at in (16, 23, 4096, 4096 + 32, len(whole) - 1, *(dice.randrange(4096, len(whole)) for _ in range(40))):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << dice.randrange(8)]) + whole[at + 1 :])
        damaged = KnownBlocks(file)
        assert damaged.changed(0, NAME, changed_at(9)) is None, at
        damaged.close()
    for length in (0, 5, 23, 24, 4096, 4100, len(whole) - 1):
        file.write_bytes(whole[:length])
        cut = KnownBlocks(file)
        assert cut.changed(0, NAME, BEFORE) is None
        cut.note(0, NAME, BEFORE)
        assert cut.changed(0, NAME, BEFORE) == []
        cut.close()


def test_two_files_have_two_secrets(file: Path) -> None:
    for path in (file, file.with_name("other")):
        one = KnownBlocks(path)
        one.note(0, NAME, BEFORE)
        one.close()
    assert file.read_bytes()[4128:] != file.with_name("other").read_bytes()[4128:]


def test_it_does_without_where_it_cannot_write(tmp_path: Path, file: Path, monkeypatch: Any) -> None:
    (tmp_path / "file").write_text("")
    nowhere = KnownBlocks(tmp_path / "file" / "disk")
    nowhere.note(0, NAME, BEFORE)
    assert nowhere.changed(0, NAME, BEFORE) is None
    nowhere.close()

    def full(*args: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    blocks = KnownBlocks(file)
    monkeypatch.setattr(os, "pwrite", full)
    blocks.note(0, NAME, BEFORE)
    monkeypatch.undo()
    assert blocks.changed(0, NAME, BEFORE) is None
    blocks.close()


@pytest.fixture
def disk(each_way: Any, file: Path) -> Any:
    each_way.options["blocks"] = file
    return each_way


@pytest.fixture
def unpacked(monkeypatch: Any) -> list[int]:
    """Offsets of the chunks whose former state was unpacked."""
    offsets: list[int] = []
    base_at: Callable[..., Any] = FormerState.base_at
    monkeypatch.setattr(FormerState, "base_at", lambda self, at: offsets.append(at) or base_at(self, at))
    return offsets


def test_a_second_export_unpacks_nothing_and_is_right(disk: Any, file: Path, unpacked: list[int]) -> None:
    disk.export()
    disk.change(CHUNK + 70_000, noise(5000, 50))
    disk.change(3 * CHUNK, noise(100_000, 51))
    disk.export()
    if disk.options.get("encrypted"):
        assert not file.exists(), "what is encrypted leaves nothing to guess at"
        assert len(unpacked) == 2
        return
    assert unpacked == []
    with ArchiveReader(disk.output) as reader:
        patched = [chunk for chunk in reader.index.chunks if chunk.base]
        assert len(patched) == 2
        assert {kind_of(chunk.member) for chunk in patched} == {Kind.PATCH}
    disk.change(CHUNK + 90_000, noise(5000, 52))
    disk.export()
    assert unpacked == []
    disk.import_()
    disk.assert_same()


def test_without_the_memory_it_is_right_too_and_there_is_one_afterwards(
    disk: Any, file: Path, unpacked: list[int]
) -> None:
    disk.export()
    file.unlink(missing_ok=True)
    disk.change(CHUNK + 70_000, noise(5000, 50))
    disk.export()
    assert unpacked == [CHUNK]
    disk.change(CHUNK + 200_000, noise(5000, 51))
    disk.export()
    assert unpacked == [CHUNK] * (2 if disk.options.get("encrypted") else 1)
    disk.import_()
    disk.assert_same()
