"""Disks with deleted files in them, for compacting."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from blocks import check_filesystem, difference_in_use, fill, free_extents, raw_of
from kinds import EACH, FORMAT
from silent import Silent

from portunix_vdisk.platform.base import FileSystemType, ImageType, Owner, Partition
from portunix_vdisk.platform.linux.machine import LinuxPlatform
from portunix_vdisk.steps import durable
from portunix_vdisk.steps.catalog import Catalog
from portunix_vdisk.steps.compact.copy import CopyUsed, PrepareCopy
from portunix_vdisk.steps.compact.replace import Replace, is_pending
from portunix_vdisk.steps.compact.survey import Compaction, survey
from portunix_vdisk.steps.disk import Disk, DiskState
from portunix_vdisk.steps.step import Context, Json

MIB = 1 << 20
SIZE = 160 * MIB
PARTITION = Partition(MIB, SIZE - 2 * MIB)
UUID = "12345678-1234-1234-1234-123456789abc"


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
            format = FORMAT[self.type.extension]
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
    made = {ImageType.IMG: raw}
    options = {
        ImageType.VHD: "subformat=dynamic,force_size=on",
        ImageType.VHD_FIXED: "subformat=fixed,force_size=on",
        ImageType.VHDX: "block_size=1M",
        ImageType.QCOW2: "compat=1.1",
    }
    for type, option in options.items():
        made[type] = folder / f"{type}.{type.extension}"
        command = ["qemu-img", "convert", "-f", "raw", "-O", FORMAT[type.extension], "-o", option, raw, made[type]]
        subprocess.run(command, check=True)
    return made


def placed(folder: Path, original: Path, type: ImageType) -> Fixture:
    image = folder / f"my-dev.{type.extension}"
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


@pytest.fixture(params=EACH)
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
