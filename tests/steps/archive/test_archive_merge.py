"""One full archive of a delta and what it is based on."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from portunix_vdisk.platform.errors import Corrupt, Interrupted, NotFound, Refused
from portunix_vdisk.steps.archive.keyring import set_new_password
from portunix_vdisk.steps.archive.merge import Merge
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.record import header_length
from portunix_vdisk.steps.archive.status import ArchiveState, archive_status
from portunix_vdisk.steps.archive.storage import ArchiveFile, volumes_of
from portunix_vdisk.steps.archive.verify import VerifyArchive
from portunix_vdisk.tests.support.chunks import CHUNK

only_plain = pytest.mark.parametrize("each_way", ["plain"], indirect=True)
UUID = "5b0c7f1e-6a43-4d0e-9f57-0d4a3c1b2e99"


@pytest.fixture
def disk(each_way: Any) -> Any:
    """monday.zip, tuesday.zip against it, disk.zip against that: patches, new, equal and vanished chunks."""
    each_way.full = each_way.folder / "full.zip"
    last = each_way.output
    each_way.names = []
    for name, change in (("monday.zip", None), ("tuesday.zip", 70_000), ("disk.zip", CHUNK + 90_000)):
        each_way.output = each_way.folder / name
        set_new_password(each_way.output, b"secret")
        if change is not None:
            each_way.change(change, random.Random(change).randbytes(5000))
            each_way.change(2 * CHUNK + change, b"new")
            each_way.options["base"] = each_way.folder / each_way.names[-1]
        each_way.export()
        each_way.new_process()
        each_way.names.append(name)
    assert each_way.output == last
    set_new_password(each_way.full, b"secret")
    return each_way


def merge(disk: Any, *bases: Path) -> Any:
    options = disk.options
    task = Merge(disk.output, disk.full, bases, options.get("encrypted", False), options.get("volume_size"))
    return task.run(disk.ctx)


def assert_full(disk: Any) -> None:
    for name in disk.names:
        for file in volumes_of(disk.folder / name):
            file.unlink()
    disk.output = disk.full
    with ArchiveReader(disk.full) as reader:
        assert reader.header.base is None and reader.generations == [1]
    VerifyArchive(disk.full).run(disk.ctx)
    disk.import_()
    disk.assert_same()


def test_it_stands_alone_and_is_the_same_disk(disk: Any) -> None:
    with ArchiveReader(disk.output) as reader:
        root, source = reader.index.root.hex(), reader.index.source
    result = merge(disk)
    assert result["changed"] and result["root"] == root
    assert merge(disk)["changed"] is False
    status = archive_status(disk.full, UUID)
    assert (status.state, status.source) == (ArchiveState.SEALED, source), "the next export finds it up to date"
    assert_full(disk)


def test_interrupted_it_goes_on(disk: Any) -> None:
    calls = [0]

    def cancelled() -> bool:
        calls[0] += 1
        return calls[0] > 12

    disk.talk.cancel = cancelled
    with pytest.raises(Interrupted):
        merge(disk)
    disk.talk.cancel = lambda: False
    assert not volumes_of(disk.full)
    disk.new_process()
    result = merge(disk)
    assert result["changed"] and result["reused_bytes"] > 0
    assert_full(disk)


def refused(disk: Any, error: type[Exception], words: str, change: Callable[[], object]) -> None:
    change()
    disk.new_process()
    with pytest.raises(error, match=words):
        merge(disk)
    assert not volumes_of(disk.full)


@only_plain
def test_a_missing_base_is_named(disk: Any) -> None:
    first = volumes_of(disk.folder / "monday.zip")[0]
    refused(disk, Refused, "monday.zip", lambda: first.rename(disk.folder / "away"))


@only_plain
def test_another_archive_under_the_name_of_the_base_is_no_base(disk: Any) -> None:
    def exchange() -> None:
        for file in volumes_of(disk.folder / "monday.zip"):
            file.unlink()
        for file in volumes_of(disk.output):
            (disk.folder / ("monday.zip" + file.name.removeprefix("disk.zip"))).write_bytes(file.read_bytes())

    refused(disk, Refused, "another archive", exchange)


@only_plain
def test_a_base_that_went_on_without_that_state(disk: Any) -> None:
    def update() -> None:
        delta, disk.output = disk.output, disk.folder / "monday.zip"
        disk.options["base"], disk.options["keep"] = None, 1
        disk.change(99, b"later")
        disk.export()
        disk.output = delta

    refused(disk, NotFound, "no longer holds the state", update)


@only_plain
def test_damage_in_the_base_is_found(disk: Any) -> None:
    def spoil() -> None:
        base = disk.folder / "monday.zip"
        with ArchiveReader(base) as reader:
            chunk = reader.index.chunks[-1]
            place = reader.directory.entries[chunk.member].offset + header_length(chunk.member) + 100
        with ArchiveFile(base, writable=True, limit=disk.options.get("volume_size")) as file:
            file.write(place, (b"?" * 64,))

    refused(disk, Corrupt, "monday.zip", spoil)


@only_plain
def test_a_full_archive_and_something_else_are_not_touched(disk: Any) -> None:
    disk.full.write_bytes(b"mine")
    with pytest.raises(Refused):
        merge(disk)
    assert disk.full.read_bytes() == b"mine"
    disk.output = disk.folder / "monday.zip"
    with pytest.raises(Refused, match="no delta"):
        merge(disk)
