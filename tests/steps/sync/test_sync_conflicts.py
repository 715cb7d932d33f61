"""What is not ours in the target is neither overwritten nor deleted."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from portunix_vdisk.platform.errors import Failed, Refused
from portunix_vdisk.tests.support.syncing import T0, facts, identities, raw, sync, write


def refused(source: Path, target: Path, disk: Path, **options: bool) -> str:
    """The refusal; nothing at all was written."""
    before = identities(disk)
    with pytest.raises(Refused) as caught:
        sync(source, target, disk, **options)
    assert identities(disk) == before
    assert caught.value.code == 4
    return str(caught.value)


def test_a_file_changed_in_the_target_is_not_overwritten(source: Path, target: Path, disk: Path) -> None:
    write(source / "a", "1")
    write(source / "b", "1")
    sync(source, target, disk)
    write(target / "a", "mine", mtime_ns=T0 + 99)
    write(source / "b", "22", mtime_ns=T0 + 1)
    message = refused(source, target, disk)
    assert "a: changed since the last sync" in message and "--force" in message
    assert (target / "a").read_text() == "mine" and (target / "b").read_text() == "1"
    result = sync(source, target, disk, force=True)
    assert result["conflicts"] == ["a: changed since the last sync"]
    assert facts(target) == facts(source)
    assert sync(source, target, disk)["conflicts"] == []


def test_an_edit_that_keeps_the_size_is_seen(source: Path, target: Path, disk: Path) -> None:
    write(source / "a", "1")
    sync(source, target, disk)
    write(target / "a", "2", mtime_ns=T0 + 99)
    for mtime_ns in (T0, T0 + 1):  # whether or not the source has changed, too
        write(source / "a", "3" if mtime_ns != T0 else "1", mtime_ns=mtime_ns)
        assert "a: changed since the last sync" in refused(source, target, disk)


def test_a_file_that_was_never_synced_and_differs_is_not_overwritten(source: Path, target: Path, disk: Path) -> None:
    for name in ("shorter", "other"):
        write(source / name, "12345")
    write(target / "shorter", "1")
    write(target / "other", "54321", mtime_ns=T0 + 5)
    message = refused(source, target, disk)
    assert "2 paths" in message and "shorter: never synced, and differs" in message
    sync(source, target, disk, force=True)
    assert facts(target) == facts(source)


def test_a_file_that_was_never_synced_but_is_the_same_is_adopted(source: Path, target: Path, disk: Path) -> None:
    write(source / "quick", "12345")
    write(source / "content", "12345")
    write(target / "quick", "12345")
    write(target / "content", "12345", mtime_ns=T0 + 5)
    inodes = {name: (target / name).stat().st_ino for name in ("quick", "content")}
    result = sync(source, target, disk)
    assert result["files_copied"] == 0
    assert {name: (target / name).stat().st_ino for name in inodes} == inodes
    assert facts(target) == facts(source)
    for name in inodes:  # adopted means: from now on it is ours
        write(source / name, "new", mtime_ns=T0 + 7)
    assert sync(source, target, disk)["files_copied"] == 2


def test_many_conflicts_are_counted_and_twenty_are_named(source: Path, target: Path, disk: Path) -> None:
    for number in range(30):
        write(source / f"f{number:02}", "1")
        write(target / f"f{number:02}", "other")
    message = refused(source, target, disk)
    assert message.startswith("30 paths") and message.count("never synced") == 20 and "and 10 more" in message


KINDS = ("file", "folder", "symlink")


def make(path: Path, kind: str, text: str) -> None:
    if kind == "file":
        write(path, text)
    elif kind == "folder":
        write(path / "inner" / "x", text)
    else:
        path.symlink_to(text)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


@pytest.mark.parametrize(("before", "after"), [(a, b) for a in KINDS for b in KINDS if a != b])
def test_a_change_of_type(source: Path, target: Path, disk: Path, before: str, after: str) -> None:
    make(source / "x", before, "1")
    sync(source, target, disk)
    remove(source / "x")
    make(source / "x", after, "2")
    sync(source, target, disk)
    assert facts(target) == facts(source)


@pytest.mark.parametrize(("before", "after"), [(a, b) for a in KINDS for b in KINDS if a != b])
def test_a_change_of_type_over_something_that_is_not_ours(
    source: Path, target: Path, disk: Path, before: str, after: str
) -> None:
    target.mkdir(parents=True)
    make(target / "x", before, "theirs")
    make(source / "x", after, "ours")
    assert "1 path" in refused(source, target, disk)
    sync(source, target, disk, force=True)
    assert facts(target) == facts(source)


def test_a_folder_with_something_new_in_it_does_not_give_way_to_a_file(source: Path, target: Path, disk: Path) -> None:
    make(source / "x", "folder", "1")
    sync(source, target, disk)
    write(target / "x" / "inner" / "mine", "precious")
    remove(source / "x")
    make(source / "x", "file", "2")
    assert "x/inner/mine: never synced" in refused(source, target, disk)


def test_a_symlink_changed_in_the_target(source: Path, target: Path, disk: Path) -> None:
    (source / "link").symlink_to("one")
    sync(source, target, disk)
    (target / "link").unlink()
    (target / "link").symlink_to("mine")
    assert "link: changed" in refused(source, target, disk)


def test_without_delete_extra_files_stay(source: Path, target: Path, disk: Path) -> None:
    write(source / "a", "1")
    write(source / "gone", "1")
    sync(source, target, disk)
    (source / "gone").unlink()
    write(target / "mine", "1")
    assert sync(source, target, disk)["deleted"] == 0
    assert sorted(os.listdir(target)) == ["a", "gone", "mine"]


def test_delete_removes_what_was_synced_and_is_gone(source: Path, target: Path, disk: Path) -> None:
    write(source / "a", "1")
    write(source / "sub" / "deep" / "gone", "1")
    (source / "sub" / "link").symlink_to("x")
    sync(source, target, disk)
    shutil.rmtree(source / "sub")
    assert sync(source, target, disk, delete=True)["deleted"] == 4
    assert facts(target) == facts(source)


@pytest.mark.parametrize("mine", ["mine", "sub/mine", "folder/mine", "sub"])
def test_delete_spares_what_is_not_ours(source: Path, target: Path, disk: Path, mine: str) -> None:
    write(source / "a", "1")
    write(source / "sub" / "gone", "1")
    sync(source, target, disk)
    shutil.rmtree(source / "sub")
    if mine == "sub":
        write(target / "sub" / "gone", "changed", mtime_ns=T0 + 5)
    else:
        write(target / mine, "precious")
    message = refused(source, target, disk, delete=True)
    assert "1 path" in message
    sync(source, target, disk, delete=True, force=True)
    assert facts(target) == facts(source)


def test_nothing_is_deleted_where_the_source_cannot_be_read(
    source: Path, target: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(source / "sub" / "a", "1")
    write(source / "b", "1")
    sync(source, target, disk)
    real = os.scandir

    def broken(place: int) -> object:
        if os.path.samestat(os.fstat(place), os.stat(source / "sub")):
            raise OSError(5, "Input/output error")
        return real(place)

    monkeypatch.setattr(os, "scandir", broken)
    write(source / "c", "1")
    with pytest.raises(Failed, match="sub: input/output error"):
        sync(source, target, disk, delete=True)
    assert (target / "sub" / "a").exists() and (target / "c").exists()


def test_dry_run_tells_and_writes_nothing(source: Path, target: Path, disk: Path) -> None:
    write(source / "a", "1")
    write(source / "gone", "1")
    sync(source, target, disk)
    (source / "gone").unlink()
    write(source / "sub" / "new", "22")
    write(target / "a", "mine", mtime_ns=T0 + 9)
    before = identities(disk)
    result = sync(source, target, disk, delete=True, dry_run=True)
    assert identities(disk) == before
    assert result["dry_run"] is True and result["conflicts"] == ["a: changed since the last sync"]
    assert {(item["action"], item["path"]) for item in result["planned"]} == {
        ("delete", "gone"),
        ("make folder", "sub"),
        ("copy", "sub/new"),
    }
    assert result["planned_count"] == 3 and result["bytes_copied"] == 2


def test_dry_run_of_a_first_sync_makes_nothing(source: Path, target: Path, disk: Path) -> None:
    for number in range(1200):
        write(raw(source, b"f%d\xe9" % number), "1")
    result = sync(source, target, disk, dry_run=True)
    assert os.listdir(disk) == []
    assert len(result["planned"]) == 1000 and result["planned_count"] == 1200
    assert result["planned"][0]["path"] == "f0\\xe9"
