"""Which disks can be exported without their caches."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from portunix_vdisk.platform.base import FileSystemType, ImageType, Owner, Partition
from portunix_vdisk.platform.errors import BadUsage, Refused
from portunix_vdisk.platform.home import Home
from portunix_vdisk.steps.disk import Disk, DiskState
from portunix_vdisk.steps.source import SourceIdentity
from portunix_vdisk.tasks.excluding import Excluding


@pytest.fixture
def session(tmp_path: Path) -> Any:
    return SimpleNamespace(home=Home(tmp_path))


def disk_with(file_system: str, folder: Path) -> Disk:
    image = folder / "image"
    image.write_bytes(b"content")
    place, kind = Partition(1 << 20, 1 << 30), cast("FileSystemType", file_system)
    return Disk("d", "uuid", image, ImageType.IMG, 2 << 30, kind, DiskState.READY, "now", place, Owner(0, 0))


@pytest.mark.parametrize("file_system", ["ntfs", "exfat", "luks"])
def test_other_filesystems_are_refused(session: Any, tmp_path: Path, file_system: str) -> None:
    with pytest.raises(Refused, match=f"d has {file_system}, and --exclude-cache understands only ext4") as caught:
        Excluding(session, disk_with(file_system, tmp_path))
    assert caught.value.hint == "export it without --exclude-cache"


def test_the_view_changes_with_the_rules_and_only_with_them(session: Any, tmp_path: Path) -> None:
    disk = disk_with(FileSystemType.EXT4, tmp_path)
    first = Excluding(session, disk)
    assert Excluding(session, disk).view == first.view
    own = tmp_path / "vdisk-excludes.yaml"
    own.write_text("keep: [/x]")
    assert Excluding(session, disk).view != first.view
    own.write_text("keep: [/x")
    with pytest.raises(BadUsage, match=r"vdisk-excludes.yaml, line 1"):
        Excluding(session, disk)


def test_what_was_left_out_is_told_only_of_this_disk_and_these_rules(session: Any, tmp_path: Path) -> None:
    disk = disk_with(FileSystemType.EXT4, tmp_path)
    excluding = Excluding(session, disk)
    assert excluding.report() is None and excluding.reported({}) is None
    told = {"files": 1, "bytes": 2, "stayed": 0, "rules": []}
    of = repr(SourceIdentity(excluding.identity().file, excluding.view))
    assert excluding.reported({"excluded": {**told, "of": of}}) == told
    disk.path.write_bytes(b"other content")
    assert excluding.reported({"excluded": {**told, "of": of}}) is None
