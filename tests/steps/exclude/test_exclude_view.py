"""Reading a disk out of two files: whatever lies where, the bytes are those of the overlay, of the image, or zeros."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portunix_vdisk.platform.base import Extent, ImageMap, OverlayMap
from portunix_vdisk.platform.errors import Corrupt, Failed
from portunix_vdisk.steps.exclude.view import OverlaySource

SIZE = 400


@st.composite
def runs(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Start and end of runs, ascending and apart."""
    cuts = sorted(draw(st.sets(st.integers(0, SIZE), max_size=16)))
    return list(zip(cuts[::2], cuts[1::2], strict=False))


@st.composite
def extents(draw: st.DrawFn, within: list[tuple[int, int]]) -> list[Extent]:
    """Data at any places of a file of ``SIZE`` bytes, for some of the runs or parts of them."""
    found = []
    for start, end in within:
        for low, high in ((start, (start + end) // 2), ((start + end) // 2, end)):
            if low < high and draw(st.booleans()):
                found.append(Extent(low, high - low, draw(st.integers(0, SIZE - (high - low)))))
    return found


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_every_byte_comes_from_where_it_should(data: st.DataObject) -> None:
    image = data.draw(runs().flatmap(lambda found: extents(found)))
    decided = data.draw(runs())
    changes = data.draw(extents(decided))
    used = data.draw(st.none() | runs())
    below, above = os.urandom(SIZE), os.urandom(SIZE)
    expected = bytearray(SIZE)
    for extent in image:
        expected[extent.start : extent.start + extent.length] = below[extent.offset : extent.offset + extent.length]
    for start, end in decided:
        expected[start:end] = bytes(end - start)
    for extent in changes:
        expected[extent.start : extent.start + extent.length] = above[extent.offset : extent.offset + extent.length]
    for place in range(SIZE):
        if used is not None and not any(start <= place < end for start, end in used):
            expected[place] = 0
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as overlay:
        path = Path(folder) / "image"
        path.write_bytes(below)
        overlay.write(above)
        overlay.flush()
        held = OverlayMap(SIZE, tuple(decided), tuple(changes))
        source = OverlaySource(path, ImageMap(SIZE, tuple(image)), held, overlay.fileno(), "without:x#1", used)
        try:
            whole = bytearray(b"x" * SIZE)
            source.read_into(0, whole)
            assert whole == expected
            start = data.draw(st.integers(0, SIZE))
            part = bytearray(b"x" * data.draw(st.integers(0, SIZE - start)))
            source.read_into(start, part)
            assert part == expected[start : start + len(part)]
            source.announce(start, len(part))
            told = [place for low, high in source.extents for place in range(low, high)]
            assert told == sorted(set(told)), "ascending and apart"
            assert all(place in told for place in range(SIZE) if expected[place])
            source.check()
            path.write_bytes(below + b"more")
            with pytest.raises(Failed):
                source.check()
        finally:
            source.close()
            source.close()


def test_an_overlay_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Corrupt):
        OverlaySource(tmp_path / "image", ImageMap(SIZE, ()), OverlayMap(SIZE + 1, (), ()), 0, "")


def test_an_overlay_that_ends_too_early_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(bytes(SIZE))
    with (tmp_path / "overlay").open("w+b") as overlay:
        held = OverlayMap(SIZE, ((0, 100),), (Extent(0, 100, 0),))
        source = OverlaySource(tmp_path / "image", ImageMap(SIZE, ()), held, overlay.fileno(), "")
        with pytest.raises(Failed, match="ends too early"):
            source.read_into(0, bytearray(SIZE))
        source.close()
