"""A snapshot as something to be exported: what it gives, what it leaves out, what it says when it broke."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portunix_vdisk.platform.base import Snapshot
from portunix_vdisk.platform.errors import Corrupt, Failed, Refused
from portunix_vdisk.steps.live import SnapshotSource
from portunix_vdisk.steps.step import Context

SIZE = 1_000_000


class Stand:
    """A platform with one snapshot, in which each byte of data says where it is and none is zero."""

    def __init__(self, extents: tuple[tuple[int, int], ...] = ((0, SIZE),)) -> None:
        self.extents, self.events, self.broken, self.warned = extents, [], False, []  # type: ignore[var-annotated]
        self.asked: list[tuple[int, int]] = []

    def take_snapshot(self, image: Path, rooms: object) -> Snapshot:
        self.events.append("taken")
        return Snapshot("u-u", SIZE, self.extents, Path("/nowhere"), served=True, waited=0.1)

    @contextmanager
    def open_snapshot(self, taken: Snapshot) -> Iterator[Stand]:
        if self.broken:
            raise Failed("cannot be opened")
        try:
            yield self
        finally:
            self.events.append("closed")

    def drop_snapshot(self, image: Path) -> None:
        self.events.append("dropped")
        if self.broken:
            raise Refused("no daemon there")

    def read_into(self, offset: int, buffer: memoryview) -> None:
        if self.broken:
            raise Failed("the disk image reported an error: Invalid argument")
        self.asked.append((offset, len(buffer)))
        buffer[:] = content(offset, offset + len(buffer))

    def log(self, level: str, text: str) -> None:
        self.warned.append(text)

    def source(self, folder: Path, size: int = SIZE) -> SnapshotSource:
        image = folder / "image"
        image.touch()
        context: Any = Context(self, self)  # type: ignore[arg-type]
        return SnapshotSource(context, image, size, [folder])


def content(start: int, end: int) -> bytes:
    return bytes(1 + place // 7 % 255 for place in range(start, end))


@st.composite
def runs(draw: st.DrawFn) -> tuple[tuple[int, int], ...]:
    points = sorted(draw(st.sets(st.integers(0, SIZE), max_size=40)))
    return tuple(zip(points[::2], points[1::2], strict=False))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(runs(), st.integers(0, SIZE - 1), st.integers(1, 200_000))
def test_all_data_and_zeros_for_the_rest(
    tmp_path: Path, extents: tuple[tuple[int, int], ...], offset: int, length: int
) -> None:
    stand = Stand(extents)
    source = stand.source(tmp_path)
    length = min(length, SIZE - offset)
    buffer = bytearray(b"?" * length)
    source.read_into(offset, buffer)
    expected = bytearray(length)
    for start, end in extents:
        start, end = max(start, offset), min(end, offset + length)
        if start < end:
            expected[start - offset : end - offset] = content(start, end)
    assert buffer == expected
    assert all(start >= offset and start + count <= offset + length for start, count in stand.asked)
    source.close()
    assert stand.events == ["taken", "closed", "dropped"]


def test_no_two_snapshots_are_taken_for_the_same(tmp_path: Path) -> None:
    source = Stand().source(tmp_path)
    assert source.identity.view == "snapshot-u-u" and source.waited == 0.1
    source.check()  # the image's times may move as they like


def test_one_that_broke_says_what_is_lost_and_what_is_not(tmp_path: Path) -> None:
    stand = Stand()
    source = stand.source(tmp_path)
    stand.broken = True
    with pytest.raises(Failed) as caught:
        source.read_into(0, bytearray(10))
    assert "is lost" in caught.value.what and str(tmp_path) in caught.value.hint
    source.close()
    assert "goes when it is unmounted" in stand.warned[0]


def test_one_of_another_size_is_not_exported(tmp_path: Path) -> None:
    stand = Stand()
    with pytest.raises(Corrupt, match="should be"):
        stand.source(tmp_path, SIZE + 512)
    assert stand.events == ["taken", "closed", "dropped"]


def test_one_that_cannot_be_opened_is_taken_away(tmp_path: Path) -> None:
    stand = Stand()
    stand.broken = True
    with pytest.raises(Failed, match="cannot be opened"):
        stand.source(tmp_path)
    assert stand.events == ["taken", "dropped"]
