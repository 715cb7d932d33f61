"""The copy of a disk without its caches: right, or refused, and never a trace on the disk itself."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kinds import EACH, USUAL
from silent import Silent

from portunix_vdisk.platform.base import ImageType
from portunix_vdisk.platform.errors import Corrupt, Failed, Interrupted, Refused, VdiskError
from portunix_vdisk.platform.linux.machine import LinuxPlatform
from portunix_vdisk.steps.exclude import overlay, view
from portunix_vdisk.steps.exclude.overlay import release_image
from portunix_vdisk.steps.ext4 import Doubt
from portunix_vdisk.steps.step import Context
from portunix_vdisk.tests.support.excluding import PARTITION, Original, leave_out, make, mounted, original
from portunix_vdisk.tests.support.trees import grow

MARK = b"can be made again! "
MOMENTS = ("make_overlay", "mount", "detach", "map_overlay")


def planted(top: Path) -> None:
    grow(top / "grown", files=100)
    make(top, "r/Cargo.toml", "p/target/holiday.jpg", "p/__pycache__/x.pyc")
    (top / "r/target/debug").mkdir(parents=True)
    (top / "r/target/debug/app").write_bytes(MARK * 200_000)
    (top / "p/__pycache__/linked.pyc").hardlink_to(top / "p/target/holiday.jpg")


@pytest.fixture
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Original]:
    made = original(tmp_path, getattr(request, "param", ImageType.IMG), planted)
    before = made.print()
    yield made
    deadline = time.monotonic() + 5
    while (found := made.leftovers()) and time.monotonic() < deadline:
        time.sleep(0.05)  # a process whose parent was killed ends at once, but not before that
    for held in list(LinuxPlatform().attachments()):
        if str(held.image).startswith(str(tmp_path)):
            LinuxPlatform().detach(held.image)
    assert found == [] and made.print() == before


@pytest.mark.parametrize("disk", EACH, indirect=True)
def test_the_copy_is_sound_and_has_nothing_of_what_was_left_out(disk: Original, tmp_path: Path) -> None:
    cleaned, left = disk.copy()
    assert disk.leftovers() == []
    assert {name: one.files for name, one in left.by_rule.items()} == {"cargo": 1, "python-bytecode": 2}
    assert left.by_rule["cargo"].bytes >= len(MARK) * 200_000 and left.by_rule["python-bytecode"].bytes < 20_000
    content = disk.assert_copied(cleaned, tmp_path)
    assert MARK * 2 not in content and MARK * 2 in b"".join(disk.image.read_bytes().partition(MARK * 2))
    cleaned.close()


def test_where_free_blocks_cannot_be_told_trimming_removes_what_was_left_out(
    disk: Original, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def doubtful(*arguments: object) -> None:
        raise Doubt("free blocks are not understood")

    monkeypatch.setattr(view, "find_used", doubtful)
    cleaned, _ = disk.copy()
    content = disk.assert_copied(cleaned, tmp_path)
    assert content.count(MARK) < 200_000 // 10, "all but the edges of 64 KiB"
    cleaned.close()


def test_the_same_disk_has_two_copies_that_are_not_taken_for_each_other(disk: Original) -> None:
    one, other = disk.copy()[0], disk.copy()[0]
    assert one.identity != other.identity and one.identity.lasting == other.identity.lasting
    with closing(one.open()) as source:
        assert source.identity == one.identity
    one.close(), other.close()


def test_a_journal_that_waits_is_replayed_in_the_copy(disk: Original, tmp_path: Path) -> None:
    used, torn = tmp_path / "used.img", tmp_path / "torn.img"
    subprocess.run(["cp", disk.image, used], check=True)
    with mounted(used, tmp_path / "point") as point:
        make(point, "late", "late cache/__pycache__/x")
        subprocess.run(["sync", "-f", point], check=True)
        subprocess.run(["cp", "--sparse=always", used, torn], check=True)
        subprocess.run(["cp", "-a", point / "late", point / "late cache", disk.expected], check=True)
    leave_out(disk.expected)
    unclean = replace(disk, image=torn)
    before = unclean.print()
    cleaned, left = unclean.copy()
    assert left.by_rule["python-bytecode"].files == 3 and unclean.print() == before
    unclean.assert_copied(cleaned, tmp_path)
    cleaned.close()


@contextmanager
def small(folder: Path, size: int) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k,mode=755", "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize(
    "kilobytes", [260, 1000, *(pytest.param(size, marks=pytest.mark.full) for size in range(100, 1500, 50))]
)
def test_without_room_it_fails_or_is_right(disk: Original, tmp_path: Path, kilobytes: int) -> None:
    with small(tmp_path / "small", kilobytes) as place:
        tight = replace(disk, places=(place,))
        try:
            cleaned, _ = tight.copy()
        except VdiskError as error:
            assert isinstance(error, Failed) and "no room for temporary files" in error.what
        else:
            tight.assert_copied(cleaned, tmp_path)
            cleaned.close()
        assert tight.leftovers() == []


class Killed(LinuxPlatform):
    """Ends the process before or after its nth call of a method."""

    def __init__(self, method: str, after: bool) -> None:
        super().__init__()
        real: Callable[..., Any] = getattr(self, method)

        def call(*arguments: Any, **more: Any) -> Any:
            result = real(*arguments, **more) if after else None
            os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(self, method, call)


def killed(disk: Original, platform: Any = None, delay: float = -1) -> bool:
    """Make the copy in a process of its own, which is killed after so many seconds; whether it was killed."""
    child = os.fork()
    if child == 0:
        try:
            disk.copy(platform=platform)
            os._exit(0)
        finally:
            os._exit(1)
    if delay >= 0:
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize(
    "method", ["attach_overlay", "trim", *(pytest.param(name, marks=pytest.mark.full) for name in MOMENTS)]
)
def test_whatever_a_kill_leaves_the_next_run_takes_away(disk: Original, tmp_path: Path, method: str) -> None:
    before = disk.print()
    assert killed(disk, platform=Killed(method, after=True)) and disk.leftovers() and disk.print() == before
    cleaned, _ = disk.copy()
    disk.assert_copied(cleaned, tmp_path)
    cleaned.close()


@pytest.mark.full
@pytest.mark.parametrize("disk", USUAL, indirect=True)
def test_kills_at_any_moment(disk: Original, tmp_path: Path) -> None:
    """Some of them at the same disk one after the other, each finding what the ones before left."""
    before, dice, hits = disk.print(), random.Random(7), 0
    for number in range(60):
        hits += killed(disk, delay=dice.random() * 0.6)
        assert disk.print() == before
        if number % 3 == 0:
            cleaned, _ = disk.copy()
            disk.assert_copied(cleaned, tmp_path)
            cleaned.close()
    disk.copy()[0].close()
    assert hits > 10


def test_a_person_can_stop_it(disk: Original) -> None:
    with pytest.raises(Interrupted):
        disk.copy(Silent(patience=0, kill=False))
    assert disk.leftovers() == []


def test_somebody_who_looks_into_it_is_waited_for(disk: Original, monkeypatch: pytest.MonkeyPatch) -> None:
    class Watched(LinuxPlatform):
        def trim(self, image: Path) -> int:
            held.append(os.open(image.parent / "disk", os.O_RDONLY))
            return super().trim(image)

    held: list[int] = []
    monkeypatch.setattr(overlay, "_PATIENCE", 0.3)
    person = Silent()
    with pytest.raises(Refused, match="in use"):
        disk.copy(person, Watched())
    assert "could not be taken away; the next export does it" in person.lines[0]
    os.close(held[0])
    disk.copy()[0].close()


def test_the_first_place_with_room_is_taken_and_others_are_left_alone(disk: Original, tmp_path: Path) -> None:
    taken, missing = tmp_path / "taken", tmp_path / "missing"
    taken.mkdir()
    inner = taken / disk.subject.folder_name
    make(inner, "overlay", "mine")
    os.chown(inner, 65534, 65534)
    placed = replace(disk, places=(missing, taken, *disk.places))
    placed.copy()[0].close()
    assert sorted(path.name for path in inner.iterdir()) == ["mine", "overlay"]
    with pytest.raises(Refused, match="no folder for temporary files"):
        replace(disk, places=(missing, taken)).copy()
    subprocess.run(["rm", "-r", taken], check=True)


def damaged(disk: Original, path: Path, at: int, length: int) -> Original:
    path.write_bytes(disk.image.read_bytes())
    with path.open("r+b") as file:
        file.seek(PARTITION.start + at)
        file.write(bytes(length))
    return replace(disk, image=path)


def test_damage_is_told_and_nothing_is_left(disk: Original, tmp_path: Path) -> None:
    with pytest.raises(Corrupt) as caught:
        damaged(disk, tmp_path / "broken.img", 1024, 1024).copy()  # the superblock
    assert "was not changed" in caught.value.state and "without --exclude-cache" in caught.value.hint


def test_damaged_folders_stop_it(disk: Original, tmp_path: Path) -> None:
    dump = subprocess.run(
        ["debugfs", "-R", "blocks /r/target", f"{disk.image}?offset={PARTITION.start}"],
        capture_output=True,
        text=True,
        check=True,
    )
    block = int(dump.stdout.split()[0])
    broken = damaged(disk, tmp_path / "broken.img", block * 1024, 1024)
    before = broken.print()
    with pytest.raises((Failed, Corrupt)) as caught:
        broken.copy()
    assert "was not changed" in caught.value.state and broken.print() == before
    assert broken.leftovers() == []


def test_a_killed_export_hinders_nobody(disk: Original, tmp_path: Path) -> None:
    assert killed(disk, platform=Killed("trim", after=True)) and disk.leftovers()
    ctx = Context(LinuxPlatform(), Silent())
    (tmp_path / "another.img").touch()
    release_image(tmp_path / "another.img", ctx)
    release_image(tmp_path / "none.img", ctx)
    (folder,) = disk.places[0].iterdir()
    os.chown(folder, 65534, 65534)
    release_image(disk.image, ctx)
    assert folder.exists() and disk.leftovers(), "somebody else's"
    os.chown(folder, 0, 0)
    release_image(disk.image, ctx)
    assert disk.leftovers() == []
