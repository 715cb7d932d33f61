"""The medium of an archive is taken away while it is written, and comes back. Clocks that go backwards."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from portunix_vdisk.platform.errors import Failed
from portunix_vdisk.steps.archive.export import close_exports
from portunix_vdisk.steps.archive.pack import Pack, Scan
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.seal import Publish, Seal, Verify

MIB = 1 << 20
CHUNK = 4 * MIB


class Stick:
    """A small filesystem in a file, mounted at a folder."""

    def __init__(self, folder: Path) -> None:
        self.file, self.point = folder / "stick.raw", folder / "stick"
        self.point.mkdir()
        with self.file.open("xb") as file:
            file.truncate(64 * MIB)
        subprocess.run(["mkfs.ext4", "-q", "-F", self.file], check=True)
        self.plug()

    def plug(self) -> None:
        subprocess.run(["mount", "-o", "loop", self.file, self.point], check=True)

    def unplug(self) -> None:
        subprocess.run(["umount", "--lazy", self.point], check=True)


@pytest.fixture
def stick(tmp_path: Path) -> Iterator[Stick]:
    made = Stick(tmp_path)
    try:
        yield made
    finally:
        close_exports()
        with suppress(subprocess.CalledProcessError):
            made.unplug()


@pytest.fixture
def disk(house: Any, stick: Stick) -> Any:
    dice = random.Random(8)
    house.make(10 * CHUNK, {number * CHUNK: dice.randbytes(MIB) for number in range(10)})
    house.output = stick.point / "disk.zip"
    return house


STEPS: dict[str, Callable[[Any], object]] = {
    "pack": lambda export: Pack(export, 1, 2),
    "seal": Seal,
    "verify": Verify,
    "publish": Publish,
}


@pytest.mark.parametrize("before", list(STEPS))
def test_a_stick_that_is_pulled_gets_nothing_written_in_its_place(disk: Any, stick: Stick, before: str) -> None:
    export = disk.export_of()
    Scan(export).run(disk.ctx)
    Pack(export, 0, 2).run(disk.ctx)
    for name, step in STEPS.items():
        if name == before:
            stick.unplug()
            with pytest.raises(Failed, match="taken away") as caught:
                step(export).run(disk.ctx)  # type: ignore[attr-defined]
            assert "mount it there again" in caught.value.hint
            break
        step(export).run(disk.ctx)  # type: ignore[attr-defined]
    assert list(stick.point.iterdir()) == []
    disk.new_process()
    stick.plug()
    assert disk.export()["reused_bytes"] > 0
    disk.import_()
    disk.assert_same()


def test_an_update_whose_stick_is_pulled(disk: Any, stick: Stick) -> None:
    disk.export()
    disk.new_process()
    disk.change(CHUNK, b"changed")
    disk.pack()
    stick.unplug()
    with pytest.raises(Failed, match="taken away"):
        disk.finish()
    assert list(stick.point.iterdir()) == []
    disk.new_process()
    stick.plug()
    disk.export()
    disk.import_()
    disk.assert_same()
    with ArchiveReader(disk.output) as reader:
        assert reader.generations == [1, 2]


def test_a_change_is_seen_though_the_clock_went_back(disk: Any) -> None:
    disk.export()
    disk.new_process()
    disk.change(CHUNK, b"changed")
    os.utime(disk.image, ns=(10**9, 10**9))
    assert disk.export()["generation"] == 2
    disk.import_()
    disk.assert_same()
    with ArchiveReader(disk.output) as reader:
        sessions = list(reader.sessions())
    assert [session.number for session in sessions] == [1, 2]


def test_the_clock_goes_back_between_kill_and_resume(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import datetime as real

    from portunix_vdisk.steps.archive import export as module

    disk.pack(2, only=[0])
    disk.new_process()

    class Back(real):
        @classmethod
        def now(cls, tz: Any = None) -> real:
            return real(1999, 12, 31, tzinfo=tz)

    monkeypatch.setattr(module, "datetime", Back)
    assert disk.export(2)["reused_bytes"] > 0
    disk.import_()
    disk.assert_same()
