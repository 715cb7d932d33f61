"""Adding a generation to an archive so that it can be imported at every moment."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from portunix_vdisk.platform.errors import Failed, Refused
from portunix_vdisk.steps.archive import commit
from portunix_vdisk.steps.archive.commit import append_update, finish_update, next_of
from portunix_vdisk.steps.archive.directory import last_whole_directory
from portunix_vdisk.steps.archive.partial import read_back
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.seal import Seal
from portunix_vdisk.steps.archive.storage import ArchiveFile, volumes_of
from portunix_vdisk.tests.support.chunks import CHUNK, noise


@pytest.fixture
def disk(each_way: Any) -> Any:
    return each_way


def size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in volumes_of(path))


@pytest.fixture
def updated(disk: Any) -> Callable[[], tuple[bytes, bytes, bytes, bytes]]:
    """An archive with an update that is sealed and not appended: image before, image after, archive, update."""

    def make() -> tuple[bytes, bytes, bytes, bytes]:
        before = disk.image.read_bytes()
        disk.export()
        disk.change(CHUNK + 70_000, noise(5000, 50))
        disk.change(3 * CHUNK, noise(100_000, 51))
        disk.pack()
        Seal(disk.export_of()).run(disk.ctx)
        disk.new_process()
        archive, update = (
            b"".join(file.read_bytes() for file in volumes_of(path)) for path in (disk.output, next_of(disk.output))
        )
        return before, disk.image.read_bytes(), archive, update

    return make


def put(disk: Any, path: Path, content: bytes) -> None:
    """Write a file, or its volumes."""
    limit = disk.options.get("volume_size")
    for file in volumes_of(path):
        file.unlink()
    with ArchiveFile(path, writable=True, create=True, limit=limit) as file:
        file.write(0, (content,))


def cuts(disk: Any, update: bytes, count: int) -> list[int]:
    with ArchiveReader(disk.output) as reader:
        vault = reader.vault
        with ArchiveFile(next_of(disk.output)) as file:
            content = read_back(file, payloads=True, vault=lambda header: vault)
    borders = {0, *content.chains, len(update)}
    places = {border + nudge for border in borders for nudge in (-1, 0, 1)}
    places |= set(random.Random(3).sample(range(len(update)), count)) | set(range(len(update) - 60, len(update), 7))
    return sorted(place for place in places if 0 <= place <= len(update))


def test_archive_imports_at_every_cut_of_the_append(disk: Any, updated: Any) -> None:
    """Killed while appending: the unmodified name gives the old state, or the new one; the next export finishes."""
    before, after, archive, update = updated()
    for cut in cuts(disk, update, 12):
        put(disk, disk.output, archive + update[:cut])
        put(disk, next_of(disk.output), update)
        disk.import_()
        assert disk.back.read_bytes() == (after if cut == len(update) else before), cut
        disk.new_process()
        assert finish_update(disk.output) == (cut > 0)
        with ArchiveReader(disk.output) as reader:
            done = reader.generations == [1, 2]
        assert done == (cut > 0)
        if not done:
            assert disk.export()["written_bytes"] < 9000, "nothing was packed again"
        assert not volumes_of(next_of(disk.output))
        disk.import_()
        disk.assert_same()
        disk.new_process()


def test_update_cut_anywhere_is_resumed(disk: Any, updated: Any) -> None:
    _, _, archive, update = updated()
    for cut in cuts(disk, update, 12):
        put(disk, disk.output, archive)
        put(disk, next_of(disk.output), update[:cut])
        disk.export()
        disk.import_()
        disk.assert_same()
        disk.new_process()


@pytest.mark.parametrize("beside", ["nothing", "a broken update", "another update"])
def test_an_end_that_may_be_damaged_is_never_cut_off(disk: Any, updated: Any, beside: str) -> None:
    """A bad sector in the newest directory looks like an update that was cut off; it still can be mended."""
    before, after, archive, update = updated()
    disk.export()
    if beside == "another update":
        disk.change(0, b"third state")
        disk.pack()
        Seal(disk.export_of()).run(disk.ctx)
        disk.new_process()
    whole = archive + update
    damaged = whole[:-40] + bytes(40)
    put(disk, disk.output, damaged)
    if beside == "a broken update":
        put(disk, next_of(disk.output), update[:50])
    disk.import_()
    assert disk.back.read_bytes() == before
    disk.new_process()
    with pytest.raises(Refused, match="belong to no whole generation"):
        disk.export()
    disk.new_process()
    assert b"".join(file.read_bytes() for file in volumes_of(disk.output)) == damaged
    put(disk, disk.output, whole)
    disk.import_(generation=2)
    assert disk.back.read_bytes() == after


def test_power_lost_while_appending(disk: Any, updated: Any) -> None:
    """The file has its length already, some of its blocks were never written."""
    before, after, archive, update = updated()
    torn = bytearray(archive + update)
    for start in range(-(-len(archive) // 512) * 512, len(torn) - 512, 3 * 512):
        torn[start : start + 512] = bytes(512)
    put(disk, disk.output, bytes(torn[:-100]))
    disk.import_()
    assert disk.back.read_bytes() == before
    disk.new_process()
    assert finish_update(disk.output)
    disk.import_()
    assert disk.back.read_bytes() == after


def test_another_machines_end_is_never_cut_off_for_ours(disk: Any, updated: Any) -> None:
    """Both machines began with the same archive; the other one's generation has a bad sector at its end."""
    _, _, archive, update = updated()
    disk.change(0, noise(20_000, 77))
    for file in volumes_of(next_of(disk.output)):
        file.unlink()
    disk.export()
    theirs = b"".join(file.read_bytes() for file in volumes_of(disk.output))
    damaged = theirs[:-40] + bytes(40)
    put(disk, disk.output, damaged)
    put(disk, next_of(disk.output), update)
    with pytest.raises(Refused, match="belong to no whole generation"):
        disk.export()
    disk.new_process()
    assert b"".join(file.read_bytes() for file in volumes_of(disk.output)) == damaged != archive


def test_update_lost_while_it_was_appended(disk: Any, updated: Any) -> None:
    before, _, archive, update = updated()
    put(disk, disk.output, archive + update[: len(update) * 2 // 3])
    for file in volumes_of(next_of(disk.output)):
        file.unlink()
    disk.import_()
    assert disk.back.read_bytes() == before
    disk.new_process()
    with ArchiveReader(disk.output) as reader:
        assert reader.cut_off == len(update) * 2 // 3
    with pytest.raises(Refused, match="belong to no whole generation") as caught:
        disk.export()
    assert "another file" in caught.value.hint


def test_update_of_another_state_is_never_appended(disk: Any, updated: Any, tmp_path: Path) -> None:
    update = updated()[3]
    disk.export()
    disk.change(0, b"third state")
    disk.export()
    there = size_of(disk.output)
    put(disk, next_of(disk.output), update)
    disk.change(0, b"fourth state")
    with pytest.raises(Refused, match="belongs to another state"):
        disk.export()
    assert size_of(disk.output) == there


def test_one_archive_copied_to_two_sticks_and_updated_on_both(disk: Any, tmp_path: Path) -> None:
    disk.export()
    limit = disk.options.get("volume_size")
    copy = b"".join(file.read_bytes() for file in volumes_of(disk.output))
    disk.change(CHUNK, b"here")
    here = disk.export()
    first = b"".join(file.read_bytes() for file in volumes_of(disk.output))
    put(disk, disk.output, copy)
    disk.change(CHUNK, b"there")
    there = disk.export()
    assert here["archive_uuid"] == there["archive_uuid"] and here["root"] != there["root"]
    disk.import_()
    disk.assert_same()
    disk.new_process()
    put(disk, disk.output, first)
    disk.change(CHUNK, b"here")
    disk.import_()
    assert disk.back.read_bytes()[CHUNK : CHUNK + 4] == b"here"
    assert limit is None or len(volumes_of(disk.output)) > 1


def test_every_write_of_the_append_may_fail(disk: Any, updated: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after, archive, update = updated()
    original, failures = ArchiveFile.write, 0
    monkeypatch.setattr(commit, "_PIECE", 1 << 15)
    for at in range(1, 200):
        put(disk, disk.output, archive)
        put(disk, next_of(disk.output), update)
        calls = [0]

        def write(self: ArchiveFile, offset: int, parts: Any, at: int = at, calls: list[int] = calls) -> None:
            calls[0] += 1
            if calls[0] == at:
                original(self, offset, [b"".join(parts)[:100]])
                raise OSError(28, os.strerror(28))
            original(self, offset, parts)

        with monkeypatch.context() as patch:
            patch.setattr(ArchiveFile, "write", write)
            try:
                append_update(disk.output)
            except Failed as error:
                failures += 1
                assert "run the same command to finish" in error.hint
            else:
                break
        disk.import_()
        assert disk.back.read_bytes() in (before, after)
        disk.new_process()
        disk.export()
        disk.import_()
        assert disk.back.read_bytes() == after
        disk.new_process()
    assert failures == 5


def test_cut_off_end_is_found_only_where_the_directory_is_whole(disk: Any) -> None:
    disk.export()
    with ArchiveFile(disk.output) as file:
        size = file.size
        assert last_whole_directory(file).end == size
    with ArchiveFile(disk.output, writable=True, limit=disk.options.get("volume_size")) as file:
        file.write(size, [b"PK\5\6" + bytes(18) + noise(3000, 0)])
    with ArchiveReader(disk.output) as reader:
        assert reader.size == size and reader.cut_off == 3022
