"""A platform for tests that knows raw images in plain files only, and shortcuts for whole exports and imports."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from portunix_vdisk.platform.base import Extent, ImageMap, ImageType, Owner, Partition
from portunix_vdisk.steps.archive.documents import DiskFacts
from portunix_vdisk.steps.archive.export import close_exports
from portunix_vdisk.steps.archive.imports import Import, close_imports
from portunix_vdisk.steps.archive.keyring import set_new_password
from portunix_vdisk.steps.archive.pack import Pack, Scan
from portunix_vdisk.steps.archive.plan import Export
from portunix_vdisk.steps.archive.seal import Publish, Seal, Verify
from portunix_vdisk.steps.archive.unpack import Finish, Prepare, Unpack
from portunix_vdisk.steps.step import Context

UUID = "5b0c7f1e-6a43-4d0e-9f57-0d4a3c1b2e99"


class RawFile:
    """BlockImage of a plain file."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.size = os.fstat(descriptor).st_size
        self.writes: list[tuple[int, int]] = []
        self.flushed = 0
        """How many writes the last flush covered."""

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self.descriptor, length, offset)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        self.writes.append((offset, len(data)))
        os.pwrite(self.descriptor, data, offset)

    def zero(self, offset: int, length: int) -> None:
        self.writes.append((offset, length))
        os.pwrite(self.descriptor, bytes(length), offset)

    def flush(self) -> None:
        os.fsync(self.descriptor)
        self.flushed = len(self.writes)


class RawTestPlatform:
    """The part of Platform that archives need, for raw images."""

    def __init__(self) -> None:
        self.free = 1 << 40
        self.opened: list[RawFile] = []

    def map_image(self, path: Path, type: ImageType) -> ImageMap:
        extents, position = [], 0
        descriptor = os.open(path, os.O_RDONLY)
        try:
            size = os.fstat(descriptor).st_size
            while position < size:
                try:
                    start = os.lseek(descriptor, position, os.SEEK_DATA)
                except OSError:
                    break
                position = os.lseek(descriptor, start, os.SEEK_HOLE)
                extents.append(Extent(start, position - start, start))
        finally:
            os.close(descriptor)
        return ImageMap(size, tuple(extents))

    @contextmanager
    def open_image(self, path: Path, type: ImageType, *, writable: bool) -> Iterator[RawFile]:
        descriptor = os.open(path, os.O_RDWR if writable else os.O_RDONLY)
        image = RawFile(descriptor)
        self.opened.append(image)
        try:
            yield image
        finally:
            os.close(descriptor)

    def create_image(self, path: Path, type: ImageType, size: int) -> None:
        with path.open("wb") as file:
            file.truncate(size)

    def free_space(self, folder: Path) -> int:
        return self.free


class Silence:
    """Conversation that records progress and can be told to cancel."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []
        self.cancel: Callable[[], bool] = lambda: False

    def progress(self, task: str, done: int, total: int, unit: str) -> None:
        self.steps.append((done, total))

    def log(self, level: str, text: str) -> None:
        raise AssertionError(text)

    def ask(self, question: object) -> str:
        raise AssertionError(question)

    def cancelled(self) -> bool:
        return self.cancel()


class House:
    """One disk ``disk.img`` in a folder, exported to ``disk.zip`` and imported to ``back.img``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.image = folder / "disk.img"
        self.output = folder / "disk.zip"
        self.partial = folder / "disk.zip.partial"
        self.back = folder / "back.img.partial"
        self.platform = RawTestPlatform()
        self.talk = Silence()
        self.ctx = Context(self.platform, self.talk)  # type: ignore[arg-type]
        self.options: dict[str, Any] = {}
        """Further fields of the export."""

    def make(self, size: int, pieces: dict[int, bytes]) -> None:
        """Write a sparse image."""
        with self.image.open("wb") as file:
            file.truncate(size)
            for offset, data in pieces.items():
                file.seek(offset)
                file.write(data)

    def change(self, offset: int, data: bytes) -> None:
        """Change the image in place, as using the disk would."""
        before = self.image.stat().st_mtime_ns
        with self.image.open("r+b") as file:
            file.seek(offset)
            file.write(data)
        os.utime(self.image, ns=(before + 10**9, before + 10**9))

    def export_of(self, uuid: str = UUID, output: Path | None = None) -> Export:
        size = self.image.stat().st_size
        disk = DiskFacts(
            "disk",
            uuid,
            ImageType.IMG,
            size,
            "ext4",
            Partition(0, size),
            "2025-01-02T03:04:05+00:00",
            Owner(1000, 1000),
        )
        return Export(self.image, output or self.output, disk, **self.options)

    def new_process(self) -> None:
        """Forget everything but the files, as a new process would."""
        close_exports()
        close_imports()

    def pack(self, count: int = 1, only: list[int] | None = None) -> list[Any]:
        export = self.export_of()
        Scan(export).run(self.ctx)
        return [Pack(export, number, count).run(self.ctx) for number in (range(count) if only is None else only)]

    def finish(self) -> Any:
        export = self.export_of()
        Seal(export).run(self.ctx)
        Verify(export).run(self.ctx)
        return Publish(export).run(self.ctx)

    def export(self, count: int = 1) -> Any:
        self.pack(count)
        return self.finish()

    def unpack(self, count: int = 1, only: list[int] | None = None, generation: int | None = None) -> list[Any]:
        task = self.import_of(generation)
        Prepare(task).run(self.ctx)
        return [Unpack(task, number, count).run(self.ctx) for number in (range(count) if only is None else only)]

    def import_of(self, generation: int | None = None) -> Import:
        return Import(self.output, self.back, ImageType.IMG, generation)

    def import_(self, count: int = 1, generation: int | None = None) -> Any:
        self.unpack(count, generation=generation)
        return Finish(self.import_of(generation)).run(self.ctx)

    def assert_same(self) -> None:
        """The imported image equals the source as it is now."""
        assert self.back.stat().st_size == self.image.stat().st_size
        with self.back.open("rb") as back, self.image.open("rb") as image:
            while piece := image.read(1 << 22):
                assert back.read(1 << 22) == piece


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """In memory where the system has that: these tests sync thousands of times, and a disk would only be waited for."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="archive-test-") as folder:
        yield Path(folder)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.new_process()


@pytest.fixture
def new_house(tmp_path: Path) -> Iterator[Callable[[], House]]:
    """Makes houses in fresh folders, for property tests that need one for each example."""
    houses: list[House] = []

    def make() -> House:
        for former in houses:
            former.new_process()
            for path in former.folder.iterdir():
                path.unlink()
            former.folder.rmdir()
        houses.clear()
        folder = tmp_path / f"house-{len(houses)}"
        folder.mkdir()
        houses.append(House(folder))
        return houses[-1]

    yield make
    for former in houses:
        former.new_process()


@pytest.fixture(params=["plain", "encrypted", "volumes"])
def each_way(request: pytest.FixtureRequest, house: House) -> House:
    """Five chunks of which one is a hole; in each way that an archive may be stored."""
    if request.param == "encrypted":
        house.options["encrypted"] = True
        set_new_password(house.output, b"secret")
    if request.param == "volumes":
        house.options["volume_size"] = 1 << 20
    house.make(5 * (4 << 20), {n * (4 << 20): random.Random(n).randbytes(300_000) for n in (0, 1, 3, 4)})
    return house
