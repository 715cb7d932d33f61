"""Moving an unfinished export to another medium, and telling early that it will not fit."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from portunix_vdisk.platform.errors import Failed, NotFound, Refused
from portunix_vdisk.steps.archive.commit import next_of
from portunix_vdisk.steps.archive.keyring import set_new_password
from portunix_vdisk.steps.archive.move import MoveUnfinished
from portunix_vdisk.steps.archive.pack import Pack, Scan
from portunix_vdisk.steps.archive.storage import ArchiveFile, volumes_of
from portunix_vdisk.steps.durable import partial_of
from portunix_vdisk.tests.support.chunks import CHUNK

only_plain = pytest.mark.parametrize("each_way", ["plain"], indirect=True)


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def disk(each_way: Any) -> Any:
    each_way.there = each_way.folder / "there"
    each_way.there.mkdir()
    each_way.new = each_way.there / "disk.zip"
    set_new_password(each_way.new, b"secret")
    return each_way


def content(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in volumes_of(path))


def unfinished(disk: Any, *, update: bool) -> Path:
    if update:
        disk.export()
        disk.change(70_000, random.Random(5).randbytes(5000))
        disk.change(3 * CHUNK, random.Random(6).randbytes(1_500_000))
    disk.pack(2, only=[0] if not update else None)
    disk.new_process()
    return next_of(disk.output) if update else disk.partial


def move(disk: Any) -> Any:
    return MoveUnfinished(disk.output, disk.new, disk.options.get("volume_size")).run(disk.ctx)


def finish_there(disk: Any) -> Any:
    former, disk.output = disk.output, disk.new
    disk.new_process()
    result = disk.export()
    disk.import_()
    disk.assert_same()
    disk.new_process()
    disk.output = former
    return result


@pytest.mark.parametrize("update", [False, True])
def test_it_goes_on_at_the_new_place(disk: Any, update: bool) -> None:
    path = unfinished(disk, update=update)
    written, archive = content(path), content(disk.output)
    assert move(disk)["moved_bytes"] == len(written) + len(archive)
    assert not volumes_of(path) and content(disk.output) == archive, "an archive stays where it was too"
    assert content(disk.there / path.name) == written and content(disk.new) == archive
    assert move(disk)["moved_bytes"] == 0
    assert finish_there(disk)["reused_bytes"] > 300_000
    if update:
        disk.import_(generation=1)


@pytest.mark.parametrize("update", [False, True])
@pytest.mark.parametrize("moment", [3, *(pytest.param(n, marks=pytest.mark.full) for n in (0, 1, 2, 4, 5, 7))])
def test_killed_at_any_moment_nothing_is_lost(
    disk: Any, monkeypatch: pytest.MonkeyPatch, update: bool, moment: int
) -> None:
    path = unfinished(disk, update=update)
    written, archive = content(path), content(disk.output)
    left = [moment]

    def counting(original: Callable[..., Any]) -> Callable[..., Any]:
        def act(*arguments: Any, **more: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return original(*arguments, **more)

        return act

    with monkeypatch.context() as patched:
        for name in ("pwritev", "unlink", "link", "fsync"):
            patched.setattr(os, name, counting(getattr(os, name)))
        patched.setattr(Path, "unlink", counting(Path.unlink))
        with pytest.raises(Killed):
            move(disk)
            raise Killed
    assert content(disk.output) == archive
    assert written in (content(path), content(disk.there / path.name)), "it is whole here or there"
    disk.new_process()
    move(disk)
    finish_there(disk)


@only_plain
def test_while_appending_both_places_can_finish(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    unfinished(disk, update=True)
    original, calls = ArchiveFile.sync, [0]

    def sync(self: ArchiveFile) -> None:
        if self.path == disk.output:
            calls[0] += 1
            raise OSError(28, "No space left on device")
        original(self)

    with monkeypatch.context() as patched:
        patched.setattr(ArchiveFile, "sync", sync)
        with pytest.raises(Failed):
            disk.export()
    assert calls[0]
    disk.new_process()
    move(disk)
    assert volumes_of(next_of(disk.output)), "what was begun there can be finished there"
    finish_there(disk)
    disk.export()
    disk.import_()
    disk.assert_same()


@only_plain
def test_what_is_in_the_way_is_not_touched(disk: Any) -> None:
    path = unfinished(disk, update=False)
    written = content(path)
    for name in ("disk.zip", "disk.zip.partial"):
        other = disk.there / name
        other.write_bytes(b"mine, and longer than nothing" * 500)
        with pytest.raises(Refused, match="something else"):
            move(disk)
        assert other.read_bytes() == b"mine, and longer than nothing" * 500 and content(path) == written
        other.unlink()
    disk.platform.free = 1000
    with pytest.raises(Refused, match="are needed"):
        move(disk)
    assert content(path) == written and not list(disk.there.iterdir())


@only_plain
def test_nothing_to_move(disk: Any) -> None:
    disk.export()
    disk.new_process()
    with pytest.raises(NotFound, match="no unfinished export"):
        move(disk)


@only_plain
def test_a_full_medium_leaves_everything_where_it_was(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = unfinished(disk, update=False)
    written = content(path)

    def full(self: ArchiveFile, offset: int, parts: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(ArchiveFile, "write", full)
        with pytest.raises(Failed, match="no space left"):
            move(disk)
    assert content(path) == written
    move(disk)
    finish_there(disk)


@only_plain
def test_an_export_that_cannot_fit_is_not_begun(disk: Any) -> None:
    disk.platform.free = 500_000
    with pytest.raises(Refused, match="an estimate"):
        disk.pack()
    assert not volumes_of(disk.output) and not volumes_of(partial_of(disk.output))
    disk.platform.free = 1 << 40
    disk.export()


@only_plain
def test_room_is_looked_at_again_under_way(disk: Any) -> None:
    told: list[str] = []
    disk.talk.log = lambda level, text: told.append(f"{level}: {text}")
    disk.platform.free = 1_100_000
    export = disk.export_of()
    needed = Scan(export).run(disk.ctx)["needed_bytes"]
    assert len(told) == 1 and "an estimate" in told[0] and 1_100_000 < needed < 1_570_000
    disk.platform.free = 400_000
    Pack(export, 0, 2).run(disk.ctx)
    assert len(told) == 2 and told[-1].startswith("warning: about")
    disk.platform.free = 1 << 40
    disk.export()
    disk.import_()
    disk.assert_same()
