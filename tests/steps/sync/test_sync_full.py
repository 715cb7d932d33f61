"""A disk that gets full."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from portunix_vdisk.platform.errors import Failed
from portunix_vdisk.tests.support.syncing import T0, facts, leftovers, sync, write


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """An ext4 filesystem of 40 MB."""
    image, mount = tmp_path / "small.img", tmp_path / "small"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(40 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-J", "size=4", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mount], check=True)
    try:
        yield mount
    finally:
        subprocess.run(["umount", mount], check=True)


def test_a_full_disk_stops_the_sync_and_leaves_it_whole(source: Path, small: Path) -> None:
    for number in range(60):
        write(source / f"f{number:02}", os.urandom(1 << 20))
    with pytest.raises(Failed, match="the target disk is full") as caught:
        sync(source, small / "t", small)
    assert "run the same command again" in caught.value.hint
    assert not leftovers(small)
    wanted = facts(source)
    there = {path: fact for path, fact in facts(small / "t").items() if path}
    assert 10 < len(there) < 60 and all(fact == wanted[path] for path, fact in there.items())

    for number in range(30, 60):
        (source / f"f{number:02}").unlink()
    result = sync(source, small / "t", small, delete=True)
    assert facts(small / "t") == facts(source)
    assert result["files_copied"] < 15  # what was there is not copied again


def test_an_update_of_everything_needs_little_room(source: Path, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """25 MB are renewed where 10 are free: former versions give their space back on the way."""
    from portunix_vdisk.steps.sync import apply

    monkeypatch.setattr(apply, "BATCH_BYTES", 4 << 20)
    for turn in range(2):
        for number in range(25):
            write(source / f"f{number:02}", os.urandom(1 << 20), mtime_ns=T0 + turn)
        sync(source, small / "t", small)
        assert facts(small / "t") == facts(source)
