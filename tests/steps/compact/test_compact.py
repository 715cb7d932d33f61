"""Compacting as its three steps: what is kept, what is given back, and what happens at the worst moments."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import nullcontext
from pathlib import Path

import pytest
from blocks import difference_in_use, raw_of
from compacting import MIB, PARTITION, SIZE, UUID, Fixture, in_child
from silent import Silent

from portunix_vdisk.platform.base import FileSystemType, ImageType
from portunix_vdisk.platform.errors import Interrupted, Refused
from portunix_vdisk.platform.linux.machine import LinuxPlatform
from portunix_vdisk.steps import durable
from portunix_vdisk.steps.catalog import Catalog
from portunix_vdisk.steps.compact import copy
from portunix_vdisk.steps.compact.copy import CopyUsed, PrepareCopy
from portunix_vdisk.steps.compact.survey import Compaction, Survey, allocated, survey
from portunix_vdisk.steps.step import Context


def test_only_what_is_in_use_is_left(disk: Fixture, original: Path) -> None:
    os.chown(disk.image, 12, 34)
    os.setxattr(disk.image, "user.note", b"kept")
    os.sync()
    before = disk.image.stat()
    with Catalog.open(disk.catalog, create=False) as catalog:
        catalog.mark_ready(UUID, imported_identity=durable.identity_of(disk.image))
    result = disk.compact()
    disk.assert_compacted(original)
    about = disk.image.stat()
    assert (about.st_uid, about.st_gid, about.st_mode, about.st_mtime_ns) == (
        12,
        34,
        before.st_mode,
        before.st_mtime_ns,
    )
    assert os.getxattr(disk.image, "user.note") == b"kept"
    assert result["before_bytes"] == before.st_blocks * 512
    assert result["after_bytes"] == about.st_blocks * 512
    assert about.st_blocks * 512 < before.st_blocks * 512 - 20 * MIB
    if disk.type is ImageType.VHD:
        assert about.st_size < before.st_size - 20 * MIB
    assert disk.untouched_since_import()
    assert disk.disk.partial_inode is None


def test_a_second_time_there_is_nothing_to_do(disk: Fixture) -> None:
    disk.compact()
    identity = durable.identity_of(disk.image)
    found = survey(disk.task, LinuxPlatform())
    assert found.gain < MIB
    assert disk.compact() == {}
    assert durable.identity_of(disk.image) == identity


def test_snapshots_inside_an_image_forbid_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tmp_path / "disk.qcow2"
    platform = LinuxPlatform()
    platform.create_image(image, ImageType.QCOW2, 8 * MIB)
    for count in range(3):
        there = platform.map_image(image, ImageType.QCOW2)
        assert there.snapshots == count
        monkeypatch.setattr(copy, "survey", lambda *_, there=there: Survey(there, [], [], 0, 0))
        task = Compaction(image, ImageType.QCOW2, PARTITION, FileSystemType.EXT4)
        with pytest.raises(Refused, match="snapshots in it") if count else nullcontext():
            copy.survey_or_refuse(task, Context(platform, Silent()))
        subprocess.run(["qemu-img", "snapshot", "-c", f"state{count}", image], check=True)


def test_looking_changes_nothing(disk: Fixture) -> None:
    identity = durable.identity_of(disk.image)
    ctx = Context(LinuxPlatform(), Silent())
    assert survey(disk.task, ctx.platform).worth_it
    PrepareCopy(disk.task).run(ctx)
    CopyUsed(disk.task).run(ctx)
    assert durable.identity_of(disk.image) == identity


@pytest.mark.parametrize(
    "talk", [Silent(0), Silent(3), Silent(9), Silent(deadly_bytes=24 * MIB)], ids=["0", "3", "9", "24 MiB"]
)
def test_killed_it_goes_on(disk: Fixture, original: Path, talk: Silent) -> None:
    before = disk.digest()
    identity = durable.identity_of(disk.image)
    assert in_child(lambda: disk.compact(talk)) == -signal.SIGKILL
    assert durable.identity_of(disk.image) == identity
    assert disk.digest() == before
    left = allocated(disk.task.partial)
    result = disk.compact()
    disk.assert_compacted(original)
    if talk.deadly_bytes > 0:
        assert left > 8 * MIB
        assert int(str(result["reused_bytes"])) > 0.5 * left
        assert int(str(result["written_bytes"])) < 36 * MIB - left
    assert disk.untouched_since_import()


def test_stopped_it_goes_on(disk: Fixture, original: Path) -> None:
    with pytest.raises(Interrupted):
        disk.compact(Silent(patience=6, kill=False))
    disk.compact()
    disk.assert_compacted(original)


MOMENTS = {
    "before the first note": (Catalog, "set_partial", False),
    "after the first note": (Catalog, "set_partial", True),
    "before the rename": (Path, "replace", False),
    "after the rename": (Path, "replace", True),
    "after the folder is durable": (durable, "fsync_folder", True),
    "before the second note": (Catalog, "mark_ready", False),
    "after the second note": (Catalog, "mark_ready", True),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_between_any_two_steps_of_the_swap(
    disk: Fixture, original: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name, afterwards = MOMENTS[moment]
    real = getattr(owner, name)

    def deadly(*arguments: object, **more: object) -> object:
        if afterwards:
            real(*arguments, **more)
        os.kill(os.getpid(), signal.SIGKILL)
        return None

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, deadly)
        assert in_child(disk.compact) == -signal.SIGKILL
    assert difference_in_use(original, disk.image, PARTITION) is None
    disk.compact()
    disk.assert_compacted(original)
    assert disk.untouched_since_import(), moment
    assert disk.disk.partial_inode is None


def test_a_disk_used_after_such_a_kill_counts_as_touched(disk: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def deadly(*arguments: object, **more: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "mark_ready", deadly)
        assert in_child(disk.compact) == -signal.SIGKILL
    with LinuxPlatform().open_image(disk.image, disk.type, writable=True) as image:
        image.write(SIZE - 3, b"new")
    disk.compact()
    assert disk.disk.partial_inode is None
    assert not disk.untouched_since_import()


def test_a_touched_disk_stays_touched(disk: Fixture) -> None:
    with LinuxPlatform().open_image(disk.image, disk.type, writable=True) as image:
        image.write(SIZE - 3, b"new")
    disk.compact()
    assert not disk.untouched_since_import()


def test_killed_changed_continued_gives_the_new_state(disk: Fixture, tmp_path: Path) -> None:
    assert in_child(lambda: disk.compact(Silent(9))) == -signal.SIGKILL
    place = survey(disk.task, LinuxPlatform()).kept[-2][0]
    with LinuxPlatform().open_image(disk.image, disk.type, writable=True) as image:
        image.write(SIZE - 6, b"BEHIND")
        image.zero(place, 4096)
    changed = tmp_path / f"changed.{disk.type.extension}"
    shutil.copyfile(disk.image, changed)
    disk.compact()
    assert difference_in_use(changed, disk.image, PARTITION) is None
    with raw_of(disk.image) as raw, raw.open("rb") as file:
        assert os.pread(file.fileno(), 6, SIZE - 6) == b"BEHIND"
