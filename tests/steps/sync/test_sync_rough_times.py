"""Filesystems that keep times roughly: what did not change is known to be so, what did is copied, even at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.tests.support.syncing import T0, facts, sync, write

TICKS = (100, 10_000_000, 1_000_000_000, 2_000_000_000)
"""Of NTFS, exFAT, fuse2fs and FAT."""


def forget(top: Path, tick: int) -> None:
    """Round all times down, as such a filesystem would have done."""
    for path in (*top.rglob("*"), top):
        if ".vdisk" not in path.parts:
            time = path.lstat().st_mtime_ns // tick * tick
            os.utime(path, ns=(time, time), follow_symlinks=False)


@pytest.mark.parametrize("tick", TICKS)
def test_a_second_sync_knows_what_changed(tmp_path: Path, tick: int) -> None:
    source, target = tmp_path / "source", tmp_path / "disk" / "target"
    for name in ("same", "longer", "at once", "sub/gone"):
        write(source / name, name)
    (source / "again").hardlink_to(source / "same")
    (source / "link").symlink_to("same")
    target.parent.mkdir()
    assert sync(source, target, target.parent)["files_copied"] == 5
    forget(target, tick)
    before = facts(target)
    again = sync(source, target, target.parent)
    assert (again["files_copied"], again["metadata_updated"], again["linked"], again["deleted"]) == (0, 0, 0, 0)
    assert facts(target) == before

    write(source / "longer", "much longer", mtime_ns=T0 + 1)
    # As long as before, and in the same moment for such a filesystem.
    write(source / "at once", "AT ONCE", mtime_ns=T0 + 101)
    (source / "sub" / "gone").unlink()
    done = sync(source, target, target.parent, delete=True)
    assert (done["files_copied"], done["conflicts"], done["deleted"]) == (2, [], 1)
    assert (target / "at once").read_text() == "AT ONCE"
    assert (target / "longer").read_text() == "much longer"
    # What somebody changes there is theirs.
    write(target / "longer", "for ever")
    write(source / "longer", "not much", mtime_ns=T0 + 2)
    with pytest.raises(Refused, match="longer: changed since the last sync"):
        sync(source, target, target.parent)
    assert (target / "longer").read_text() == "for ever"
