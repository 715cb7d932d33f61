"""Compacting as its three steps: what is kept, what is given back, and what happens at the worst moments."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from blocks import check_filesystem, difference_in_use, fill, free_extents, raw_of

from portunix_vdisk.platform.base import FileSystemType, ImageType, Owner, Partition
from portunix_vdisk.platform.errors import Corrupt, Failed, Interrupted, Refused
from portunix_vdisk.platform.linux.machine import LinuxPlatform
from portunix_vdisk.steps import durable
from portunix_vdisk.steps.catalog import Catalog
from portunix_vdisk.steps.compact.copy import CopyUsed, PrepareCopy
from portunix_vdisk.steps.compact.replace import Replace, is_pending
from portunix_vdisk.steps.compact.survey import Compaction, allocated, cells, survey
from portunix_vdisk.steps.disk import Disk, DiskState
from portunix_vdisk.steps.step import Context, Json, Question

MIB = 1 << 20
SIZE = 160 * MIB
PARTITION = Partition(MIB, SIZE - 2 * MIB)
UUID = "12345678-1234-1234-1234-123456789abc"


@dataclass
class Silent:
    """Nobody; ends the process, or wants to stop, after so many safe points."""

    patience: int = -1
    kill: bool = True
    asked: int = 0
    lines: list[str] = field(default_factory=list)

    def progress(self, task: str, done: int, total: int, unit: str) -> None:
        assert 0 <= done <= total

    def log(self, level: str, text: str) -> None:
        self.lines.append(text)

    def ask(self, question: Question) -> str:
        raise AssertionError("compact asks nothing")

    def cancelled(self) -> bool:
        self.asked += 1
        if 0 <= self.patience < self.asked:
            if not self.kill:
                return True
            os.kill(os.getpid(), signal.SIGKILL)
        return False


@dataclass
class Fixture:
    """An image with deleted files in it, and its place in a catalog."""

    image: Path
    type: ImageType
    catalog: Path

    @property
    def task(self) -> Compaction:
        return Compaction(self.image, self.type, PARTITION, FileSystemType.EXT4)

    def compact(self, person: Silent | None = None, platform: LinuxPlatform | None = None) -> dict[str, Json]:
        """All steps, as the operation runs them."""
        ctx = Context(platform or LinuxPlatform(), person or Silent())
        results: dict[str, Json] = {}
        if survey(self.task, ctx.platform).worth_it:
            for step in (PrepareCopy(self.task), CopyUsed(self.task)):
                results |= step.run(ctx)  # type: ignore[arg-type]
            results |= Replace(self.task, self.catalog, UUID).run(ctx)  # type: ignore[arg-type]
        elif is_pending(self.disk):
            results |= Replace(self.task, self.catalog, UUID).run(ctx)  # type: ignore[arg-type]
        return results

    @property
    def disk(self) -> Disk:
        with Catalog.open(self.catalog, create=False) as catalog:
            found = catalog.by_uuid(UUID)
        assert found is not None
        return found

    def digest(self) -> str:
        return hashlib.sha256(self.image.read_bytes()).hexdigest()

    def untouched_since_import(self) -> bool:
        return self.disk.imported_identity == durable.identity_of(self.image)

    def assert_compacted(self, original: Path) -> None:
        """The whole proof, with nothing of ours: same files, sound, and zeros where dumpe2fs says free."""
        assert not self.task.partial.exists()
        assert difference_in_use(original, self.image, PARTITION) is None
        LinuxPlatform().check_image(self.image, self.type)
        with raw_of(original) as expected:
            fill(expected, free_extents(expected, PARTITION), b"\0")
            format = {"vhd": "vpc", "img": "raw"}[self.type]
            command = ["qemu-img", "compare", "-f", "raw", "-F", format, expected, self.image]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout
            check_filesystem(expected, PARTITION)


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[ImageType, Path]:
    """About 25 MB in use, 32 MB that were deleted."""
    folder = tmp_path_factory.mktemp("compact")
    raw, point = folder / "disk.img", folder / "point"
    point.mkdir()
    with raw.open("xb") as file:
        file.truncate(SIZE)
        os.pwrite(file.fileno(), b"in front", 0)
        os.pwrite(file.fileno(), b"behind", SIZE - 6)
    place = f"offset={PARTITION.start}"
    options = ["-m", "0", "-b", "4096", "-J", "size=4", "-E", f"lazy_itable_init=1,nodiscard,{place}"]
    command = ["mkfs.ext4", "-q", "-F", *options, raw, f"{PARTITION.length // 1024}k"]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    mount = ["mount", "-o", f"loop,{place},sizelimit={PARTITION.length}", raw, point]
    subprocess.run(mount, check=True)
    try:
        for number in range(8):
            (point / f"kept {number}").write_bytes(os.urandom(3 * MIB))
            (point / f"gone {number}").write_bytes(os.urandom(4 * MIB))
        (point / "zeros").write_bytes(bytes(9 * MIB))
        os.sync()
        for number in range(8):
            (point / f"gone {number}").unlink()
    finally:
        subprocess.run(["umount", point], check=True)
    vhd = folder / "disk.vhd"
    options = ["-o", "subformat=dynamic,force_size=on"]
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "vpc", *options, raw, vhd], check=True)
    return {ImageType.IMG: raw, ImageType.VHD: vhd}


def placed(folder: Path, original: Path, type: ImageType) -> Fixture:
    image = folder / f"my-dev.{type}"
    subprocess.run(["cp", "--sparse=always", original, image], check=True)
    image.chmod(0o640)
    catalog = folder / "catalog.db"
    disk = Disk(
        name="my-dev",
        uuid=UUID,
        path=image,
        type=type,
        size=SIZE,
        file_system=FileSystemType.EXT4,
        state=DiskState.IMPORTING,
        created_at="2025-01-01T00:00:00Z",
        partition=PARTITION,
        owner=Owner(0, 0),
    )
    with Catalog.open(catalog, create=True) as entries:
        entries.declare(disk)
        entries.mark_ready(UUID, imported_identity=durable.identity_of(image))
    return Fixture(image, type, catalog)


@pytest.fixture(params=list(ImageType))
def disk(request: pytest.FixtureRequest, originals: dict[ImageType, Path], tmp_path: Path) -> Fixture:
    return placed(tmp_path, originals[request.param], request.param)


@pytest.fixture
def original(disk: Fixture, originals: dict[ImageType, Path]) -> Path:
    return originals[disk.type]


def in_child(work: Callable[[], object]) -> int:
    """Run in a process of its own; its wait status."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - it must never get back into pytest
            print(f"in the child: {error!r}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


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


def test_looking_changes_nothing(disk: Fixture) -> None:
    identity = durable.identity_of(disk.image)
    ctx = Context(LinuxPlatform(), Silent())
    assert survey(disk.task, ctx.platform).worth_it
    PrepareCopy(disk.task).run(ctx)
    CopyUsed(disk.task).run(ctx)
    assert durable.identity_of(disk.image) == identity


@pytest.mark.parametrize("patience", [0, 3, 6, 9, 14])
def test_killed_it_goes_on(disk: Fixture, original: Path, patience: int) -> None:
    before = disk.digest()
    identity = durable.identity_of(disk.image)
    assert in_child(lambda: disk.compact(Silent(patience))) == -signal.SIGKILL
    assert durable.identity_of(disk.image) == identity
    assert disk.digest() == before
    left = allocated(disk.task.partial)
    result = disk.compact()
    disk.assert_compacted(original)
    if patience >= 6:
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
    changed = tmp_path / f"changed.{disk.type}"
    shutil.copyfile(disk.image, changed)
    disk.compact()
    assert difference_in_use(changed, disk.image, PARTITION) is None
    with raw_of(disk.image) as raw, raw.open("rb") as file:
        assert os.pread(file.fileno(), 6, SIZE - 6) == b"BEHIND"


def test_what_lay_there_before_does_not_matter(disk: Fixture, original: Path) -> None:
    platform = LinuxPlatform()
    for size in (SIZE, SIZE // 2):
        platform.create_image(disk.task.partial, disk.type, size)
        with platform.open_image(disk.task.partial, disk.type, writable=True) as image:
            image.write(3 * MIB, os.urandom(2 * MIB))
            image.write(size - MIB, os.urandom(MIB))
        PrepareCopy(disk.task).run(Context(platform, Silent()))
    disk.task.partial.write_bytes(b"nonsense")
    disk.compact()
    disk.assert_compacted(original)


def test_what_is_wrong_in_an_earlier_copy_is_mended(disk: Fixture, original: Path) -> None:
    ctx = Context(LinuxPlatform(), Silent())
    PrepareCopy(disk.task).run(ctx)
    CopyUsed(disk.task).run(ctx)
    with raw_of(original) as raw:
        free = max(free_extents(raw, PARTITION), key=lambda run: run[1] - run[0])[0]
    inode = disk.task.partial.stat().st_ino
    with ctx.platform.open_image(disk.task.partial, disk.type, writable=True) as image:
        image.write(survey(disk.task, ctx.platform).kept[2][0], os.urandom(65536))
        image.write(free + 4096, os.urandom(65536))
    result = disk.compact()
    assert disk.image.stat().st_ino == inode, "it began anew"
    assert int(str(result["written_bytes"])) < 3 * MIB
    disk.assert_compacted(original)


def test_a_damaged_copy_never_takes_the_place(disk: Fixture, original: Path) -> None:
    ctx = Context(LinuxPlatform(), Silent())
    PrepareCopy(disk.task).run(ctx)
    CopyUsed(disk.task).run(ctx)
    before = disk.digest()
    place = survey(disk.task, ctx.platform).kept[2][0]
    with ctx.platform.open_image(disk.task.partial, disk.type, writable=True) as image:
        (byte,) = image.read(place, 1)
        image.write(place, bytes([byte ^ 1]))
    with pytest.raises(Corrupt, match="differs"):
        Replace(disk.task, disk.catalog, UUID).run(ctx)
    assert disk.digest() == before
    disk.compact()
    disk.assert_compacted(original)


class Optimist(LinuxPlatform):
    """Believes that there is room for everything."""

    def free_space(self, folder: Path) -> int:
        return 1 << 60


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A filesystem with room for the image and little more."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=72M", "none", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("type", list(ImageType))
def test_a_full_host_loses_nothing(type: ImageType, small: Path, originals: dict[ImageType, Path]) -> None:
    disk = placed(small, originals[type], type)
    before = disk.digest()
    with pytest.raises(Refused, match="are free") as refused:
        disk.compact()
    assert refused.value.hint
    assert not disk.task.partial.exists()
    with pytest.raises(Failed, match="no space left") as failed:
        disk.compact(platform=Optimist())
    assert str(disk.task.partial) in failed.value.what
    assert "not touched" in failed.value.state
    assert disk.digest() == before
    subprocess.run(["mount", "-o", "remount,size=200M", small], check=True)
    disk.compact()
    disk.assert_compacted(originals[type])


def test_what_must_not_be_replaced_is_refused(disk: Fixture, tmp_path: Path) -> None:
    other = tmp_path / "other name"
    other.hardlink_to(disk.image)
    with pytest.raises(Refused, match="hard link"):
        disk.compact()
    other.unlink()
    disk.task.partial.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused, match="in the way"):
        disk.compact()
    disk.task.partial.unlink()
    format = {"vhd": "vpc", "img": "raw"}[disk.type]
    machine = subprocess.Popen(
        ["qemu-io", "-f", format, disk.image], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert machine.stdin is not None
    assert machine.stdout is not None
    machine.stdin.write("length\n")
    machine.stdin.flush()
    machine.stdout.read(12)
    try:
        with pytest.raises(Refused, match="use"):
            disk.compact()
    finally:
        machine.communicate()
    assert not disk.task.partial.exists()
    disk.compact()


def test_counting_cells() -> None:
    assert cells([(0, 1), (1, 5), (9, 21), (29, 30)], 10) == 3
    assert cells([], 10) == 0
    assert cells([(5, 25), (26, 27)], 10) == 3
