from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from portunix_vdisk.platform.errors import Corrupt, Failed, NotFound, Refused
from portunix_vdisk.steps import source
from portunix_vdisk.steps.archive import storage, write_back, writer
from portunix_vdisk.steps.archive.pack import Scan
from portunix_vdisk.steps.archive.partial import read_back
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.storage import ArchiveFile
from portunix_vdisk.tests.support.chunks import CHUNK, noise


@pytest.fixture
def disk(house: Any) -> Any:
    house.make(5 * CHUNK, {n * CHUNK: noise(5000, n) for n in range(5)})
    return house


class Faults:
    """Stands in for ``os`` in one module: the n-th call of one function fails, returns 0, or writes half and fails."""

    def __init__(self, name: str, at: int, error: int, half: bool = False) -> None:
        self._name, self._at, self._error, self._half, self.calls = name, at, error, half, 0

    def __getattr__(self, name: str) -> Any:
        original = getattr(os, name)
        if name != self._name:
            return original

        def faulty(*arguments: Any) -> Any:
            self.calls += 1
            if self.calls == self._at:
                if self._half:
                    descriptor, parts, offset = arguments
                    data = b"".join(parts)
                    os.pwrite(descriptor, data[: len(data) // 2], offset)
                if not self._error:
                    return 0
                raise OSError(self._error, os.strerror(self._error))
            return original(*arguments)

        return faulty


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EFBIG])
@pytest.mark.parametrize("half", [False, True])
def test_every_write_may_fail(disk: Any, monkeypatch: pytest.MonkeyPatch, error: int, half: bool) -> None:
    """Each write of an export in turn: the message says what to do, the next run finishes."""
    failures = 0
    for at in range(1, 40):
        faults = Faults("pwritev", at, error, half)
        with monkeypatch.context() as patch:
            patch.setattr(storage, "os", faults)
            try:
                disk.export()
            except Failed as caught:
                failures += 1
                assert "kept" in caught.state and caught.hint, at
                assert ("no space left" in caught.what) == (error == errno.ENOSPC)
            else:
                break
        assert not disk.output.exists()
        if 1 < at < 8:
            with ArchiveFile(disk.partial) as file:
                content = read_back(file, payloads=True)
                assert content.end == file.size, "the torn record was cut off at once"
        disk.export()
        disk.import_()
        disk.assert_same()
        disk.new_process()
        disk.output.unlink()
        disk.back.unlink()
    assert failures == 10, "first document, session, five chunks, index, RECOVER.txt, directory"


def test_failed_write_that_cannot_be_cut_off_either(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for at in range(1, 11):
        with monkeypatch.context() as patch:
            patch.setattr(storage, "os", Faults("pwritev", at, errno.EIO, half=True))
            patch.setattr(writer.Appender, "_cut_quietly", lambda self, end: None)
            with pytest.raises(Failed):
                disk.export()
        disk.new_process()
        disk.export()
        disk.import_()
        disk.assert_same()
        disk.output.unlink()


@pytest.mark.parametrize("name", ["fsync", "ftruncate"])
def test_sync_and_truncate_may_fail(disk: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    failures = 0
    for at in range(1, 10):
        if name == "ftruncate":  # there has to be something to cut off
            disk.pack(2, only=[0])
            disk.new_process()
            with disk.partial.open("ab") as file:
                file.write(b"a torn record")
        with monkeypatch.context() as patch:
            patch.setattr(storage, "os", Faults(name, at, errno.EIO))
            try:
                disk.export()
            except Failed as caught:
                failures += 1
                assert "kept" in caught.state
            else:
                break
        disk.export()
        disk.import_()
        disk.assert_same()
        disk.new_process()
        disk.output.unlink()
    assert failures == (2 if name == "fsync" else 1)


def test_background_write_back_failure_is_not_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system reports a failed write-back once, to whoever syncs next: that may be the background thread."""
    monkeypatch.setattr(write_back, "_AT_ONCE", 1)
    monkeypatch.setattr(storage, "os", Faults("fdatasync", 1, errno.EIO))
    for last in ("append", "sync"):
        path = tmp_path / last
        appender = writer.Appender(ArchiveFile(path, writable=True, create=True), 0)
        try:
            storage.os.calls = 0  # type: ignore[attr-defined]
            appender.append_bytes(b"some")
            appender.keep_up(lambda: None)
            with pytest.raises(Failed, match="cannot write"):
                if last == "sync":
                    appender.sync()
                appender.append_bytes(b"more")
                appender.keep_up(lambda: None)
        finally:
            appender.close()


def test_every_read_of_the_source_may_fail(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # The first two ask for encryption and free blocks: if they fail, all blocks count.
    for at in range(3, 8):
        with monkeypatch.context() as patch:
            patch.setattr(source, "os", Faults("preadv", at, errno.EIO))
            with pytest.raises(Failed, match=r"cannot read .*disk\.img at byte \d+") as caught:
                disk.export()
            assert "kept" in caught.value.state
        disk.export()
        disk.import_()
        disk.assert_same()
        disk.output.unlink()


def test_source_gets_shorter_while_it_is_read(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "os", Faults("preadv", 3, 0))
    with pytest.raises(Failed, match="was changed while it was read"):
        disk.pack()


def test_image_that_is_not_as_large_as_the_catalog_says(disk: Any) -> None:
    export = disk.export_of()
    os.truncate(disk.image, CHUNK)
    with pytest.raises(Corrupt, match="should be"):
        Scan(export).run(disk.ctx)


def test_real_file_size_limit(disk: Any) -> None:
    """EFBIG from the system itself, in a process of its own."""
    program = """
import resource, sys, importlib.util
from pathlib import Path
from portunix_vdisk.platform.errors import VdiskError
spec = importlib.util.spec_from_file_location("conftest_of_archive", sys.argv[1])
module = importlib.util.module_from_spec(spec); sys.modules[spec.name] = module; spec.loader.exec_module(module)
house = module.House(Path(sys.argv[2]))
resource.setrlimit(resource.RLIMIT_FSIZE, (12000, 12000))
try:
    house.export()
except VdiskError as error:
    print(error)
"""
    conftest = Path(__file__).with_name("conftest.py")
    done = subprocess.run(
        [sys.executable, "-c", program, conftest, disk.folder], capture_output=True, text=True, check=True
    )
    assert "largest file size" in done.stdout
    assert 0 < disk.partial.stat().st_size <= 12000
    assert disk.export()["reused_bytes"] > 5000
    disk.import_()
    disk.assert_same()


def test_refusals_before_anything_is_written(disk: Any, tmp_path: Path) -> None:
    missing = disk.export_of(output=tmp_path / "nowhere" / "x.zip")
    with pytest.raises(NotFound, match="no such folder"):
        Scan(missing).run(disk.ctx)
    disk.platform.free = 10
    with pytest.raises(Refused, match="10 B are free"):
        disk.pack()


MEMORY = """
import sys, importlib.util
from pathlib import Path
spec = importlib.util.spec_from_file_location("conftest_of_archive", sys.argv[1])
module = importlib.util.module_from_spec(spec); sys.modules[spec.name] = module; spec.loader.exec_module(module)
house = module.House(Path(sys.argv[2]))
house.export(64); house.import_(64)
print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
"""


@pytest.mark.parametrize("shape", ["dense", "two terabytes"])
def test_memory_is_bounded(house: Any, shape: str) -> None:
    if shape == "dense":
        house.make(60 * CHUNK, {n * CHUNK: noise(CHUNK, n) for n in range(60)})
    else:
        house.make(2 << 40, {(2 << 40) * n // 300 // 4096 * 4096: noise(3000, n) for n in range(300)})
    conftest = Path(__file__).with_name("conftest.py")
    command = [sys.executable, "-c", MEMORY, conftest, house.folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 150 << 10
    with ArchiveReader(house.output) as reader:
        assert reader.index.disk.size == house.image.stat().st_size
