"""Files that cannot be read, that change meanwhile, that appear meanwhile; and a person who stops."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from portunix_vdisk.platform.errors import Failed, Interrupted, Refused
from portunix_vdisk.steps.sync import pulse
from portunix_vdisk.tests.support.syncing import T0, Person, facts, leftovers, sync, write


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes an ordinary user for a while")
def test_unreadable_files_are_named_and_everything_else_is_done(top: Path) -> None:
    top.chmod(0o777)
    source = top / "source"
    write(source / "a", "1")
    write(source / "secret", "1", mode=0)
    write(source / "private" / "x", "1")
    (source / "private").chmod(0)
    disk = top / "disk"
    disk.mkdir()
    os.chown(disk, 65534, 65534)
    os.seteuid(65534)
    try:
        with pytest.raises(Failed) as caught:
            sync(source, disk / "t", disk)
    finally:
        os.seteuid(0)
    assert "2 paths could not be synced" in str(caught.value)
    assert "secret: cannot be read: permission denied" in str(caught.value)
    assert "private: permission denied" in str(caught.value)
    assert caught.value.code == 1 and (disk / "t" / "a").read_text() == "1" and not leftovers(disk)


def test_a_source_that_changes_once_is_copied_again(
    source: Path, target: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    growing(source / "log", monkeypatch, times=1)
    write(source / "a", "1")
    sync(source, target, disk)
    assert facts(target, folder_times=False) == facts(source, folder_times=False)
    assert not leftovers(disk)


def test_a_source_that_goes_on_changing_is_named(
    source: Path, target: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    growing(source / "log", monkeypatch, times=99)
    write(source / "a", "1")
    with pytest.raises(Failed, match="log: the source changed while it was copied"):
        sync(source, target, disk)
    assert sorted(os.listdir(target)) == ["a"]


def growing(log: Path, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """A file that grows each time it is read."""
    write(log, "line\n")
    inode = log.stat().st_ino
    real = os.read
    left = [times]

    def read(descriptor: int, count: int) -> bytes:
        data = real(descriptor, count)
        if os.fstat(descriptor).st_ino == inode and left[0]:
            left[0] -= 1
            with log.open("a") as file:
                file.write("more\n")
        return data

    monkeypatch.setattr(os, "read", read)


def test_a_file_that_vanishes_meanwhile_is_named(
    source: Path, target: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(source / "a", "1")
    write(source / "b", "1")
    real = os.mkdir

    def mkdir(*arguments: object, **options: object) -> None:
        (source / "b").unlink(missing_ok=True)
        real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "mkdir", mkdir)
    with pytest.raises(Failed, match="b: the source changed"):
        sync(source, target, disk)
    assert sorted(os.listdir(target)) == ["a"]


def test_what_appears_in_the_target_meanwhile_is_not_overwritten(
    source: Path, target: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(source / "a", "1")
    write(source / "b", "1")
    sync(source, target, disk)
    for name in ("a", "b", "c"):
        write(source / name, "22", mtime_ns=T0 + 1)
    real = os.rename

    def rename(old: str, new: str, **options: int) -> None:
        if new == "a":
            write(target / "b", "edited", mtime_ns=T0 + 50)
            write(target / "c", "appeared", mtime_ns=T0 + 50)
        real(old, new, **options)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(Failed, match="2 paths"):
        sync(source, target, disk)
    assert [(target / name).read_text() for name in "abc"] == ["22", "edited", "appeared"]
    assert not leftovers(disk)


def test_metadata_is_not_set_on_what_was_changed_meanwhile(
    source: Path, target: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(source / "a", "same")
    write(target / "a", "same", mtime_ns=T0 + 5)
    real = os.mkdir

    def mkdir(*arguments: object, **options: object) -> None:  # of .vdisk: the plan is made by then
        (target / "a").write_text("mine")
        os.utime(target / "a", ns=(T0, T0 + 6))
        real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "mkdir", mkdir)
    with pytest.raises(Failed, match=r"a: .*changed in the target meanwhile"):
        sync(source, target, disk)
    assert (target / "a").stat().st_mtime_ns == T0 + 6
    with pytest.raises(Refused, match="a: never synced, and differs"):
        sync(source, target, disk)


def test_a_stop_between_writing_and_naming_leaves_no_temporaries(
    source: Path, target: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Waiting(Person):
        def cancelled(self) -> bool:
            return bool(leftovers(disk))

    monkeypatch.setattr(pulse, "_INTERVAL_SECONDS", 0.0)
    for number in range(300):
        write(source / f"f{number}", "1")
    with pytest.raises(Interrupted):
        sync(source, target, disk, Waiting())
    assert os.listdir(target) == []
    sync(source, target, disk)
    assert facts(target) == facts(source)


def test_a_stop_at_any_moment_leaves_no_half_files_and_goes_on(source: Path, target: Path, disk: Path) -> None:
    for number in range(40):
        write(source / f"d{number % 4}" / f"f{number}", os.urandom(2000))
    write(source / "big", os.urandom(20 << 20))
    stopped = 0
    for patience in range(12):
        try:
            sync(source, target, disk, Person(patience))
        except Interrupted:
            stopped += 1
            assert not leftovers(disk)
    assert stopped >= 2
    sync(source, target, disk)
    assert facts(target) == facts(source)


def test_progress_counts_bytes_up_to_the_total(source: Path, target: Path, disk: Path) -> None:
    write(source / "big", os.urandom(8 << 20))
    person = Person()
    sync(source, target, disk, person)
    assert person.reports and all(0 <= done <= total == 8 << 20 for done, total in person.reports)
