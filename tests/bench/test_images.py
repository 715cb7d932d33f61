"""The rows about types of images: the same work everywhere, every way is taken, nothing stays behind."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from portunix_vdisk.tests.bench import images, shown
from portunix_vdisk.tests.bench.environment import Tree
from portunix_vdisk.tests.bench.figures import Samples
from portunix_vdisk.tests.bench.stage import Stage
from portunix_vdisk.tests.bench.workplace import workplace


def test_the_slowest_is_named() -> None:
    assert images.slowest({"one": Samples([1, 9, 2]), "two": Samples([3, 3, 3])}) == ("two", Samples([3, 3, 3]))


def test_everybody_writes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "BYTES", 2 << 20)
    monkeypatch.setattr(images, "FILES", 100)
    made = images.Load.made(tmp_path)
    first = (made.large.read_bytes(), made.small.read_bytes())
    assert (images.Load.made(tmp_path).large.read_bytes(), made.small.read_bytes()) == first
    with tarfile.open(made.small) as archive:
        sizes = [member.size for member in archive.getmembers()]
    assert len(sizes) == 100
    assert 1000 < sum(sizes) / 100 < 10_000


@pytest.mark.full
def test_all_rows_on_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    little = {"BYTES": 2 << 20, "FILES": 50, "FILE_SYSTEMS": ("ext4",), "PLAIN": ("vhd",), "ENCRYPTED": ("img",)}
    for name, value in little.items():
        monkeypatch.setattr(images, name, value)
    monkeypatch.setattr(shown, "_SIZE", 1 << 30)
    with workplace(tmp_path, "bench") as place:
        monkeypatch.setattr(os, "environ", os.environ | place.environment)
        lines = images.rows(Stage(place, Tree(tmp_path, 0, 0, 0.0), 1))
    assert len(lines) == 2 + 2 + 7 + 3 + 2 * (len(shown.WAYS) - 1)
    assert sum(line.reached is not None for line in lines) == 14
    assert list(tmp_path.iterdir()) == []
