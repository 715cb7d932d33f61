"""The record of what was synced: damaged, foreign, newer, in use, moved."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path

import pytest

from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.steps.sync.record import State, SyncRecord
from portunix_vdisk.tests.support.syncing import T0, Person, facts, identities, sync, write


@pytest.mark.parametrize("damage", ["garbage", "truncated", "schema", "empty", "symlink", "folder"])
def test_a_damaged_record_is_never_a_reason_to_overwrite(source: Path, target: Path, disk: Path, damage: str) -> None:
    for number in range(300):
        write(source / f"f{number}", f"{number}")
    sync(source, target, disk)
    write(source / "f1", "new in the source", mtime_ns=T0 + 1)
    record = disk / ".vdisk" / "sync.db"
    if damage == "garbage":
        record.write_bytes(os.urandom(40_000))
    elif damage == "truncated":
        os.truncate(record, record.stat().st_size // 2)
    elif damage == "schema":
        with sqlite3.connect(record) as connection:
            connection.execute("CREATE TRIGGER t AFTER INSERT ON synced BEGIN DELETE FROM synced; END")
        connection.close()
    elif damage == "empty":
        os.truncate(record, 0)
    else:
        record.unlink()
        if damage == "symlink":
            record.symlink_to(source / "f1")
        else:
            record.mkdir()
    person = Person()
    with pytest.raises(Refused, match="f1: never synced, and differs"):
        sync(source, target, disk, person)
    assert (target / "f1").read_text() == "1"
    if damage != "empty":
        assert any("damaged" in line and "never synced" in line for line in person.lines)
        assert os.path.lexists(disk / ".vdisk" / "sync.db.damaged")
    sync(source, target, disk, force=True)
    assert facts(target) == facts(source) and (source / "f1").read_text() == "new in the source"


def test_a_dry_run_leaves_a_damaged_record_where_it_is(source: Path, target: Path, disk: Path) -> None:
    write(source / "a", "1")
    sync(source, target, disk)
    (disk / ".vdisk" / "sync.db").write_bytes(b"garbage" * 1000)
    before = identities(disk)
    person = Person()
    sync(source, target, disk, person, dry_run=True)
    assert identities(disk) == before and any("damaged" in line for line in person.lines)


def test_a_record_of_a_newer_version_is_refused(source: Path, target: Path, disk: Path) -> None:
    write(source / "a", "1")
    sync(source, target, disk)
    connection = sqlite3.connect(disk / ".vdisk" / "sync.db")
    connection.execute("PRAGMA user_version=2")
    connection.close()
    with pytest.raises(Refused, match="newer version"):
        sync(source, target, disk)


def test_a_foreign_record_cannot_remove_files_of_its_choice(source: Path, target: Path, disk: Path) -> None:
    """The disk came from somebody else: its intentions name what they would like to have removed."""
    write(source / "a", "1")
    sync(source, target, disk)
    outside = write(disk.parent / "x.vdisk-sync-1", "precious")
    for name in ("precious", "precious.vdisk-sync-2"):
        write(disk / "plain" / name, "1")
    record = SyncRecord(disk / ".vdisk")
    record.intend(
        [
            State(b"plain", b"p", 0, 0, 0, None, b"precious"),
            State(b"plain", b"q", 0, 0, 0, None, b"../../x.vdisk-sync-1"),
            State(b"..", b"r", 0, 0, 0, None, b"x.vdisk-sync-1"),
            State(b"plain/../..", b"s", 0, 0, 0, None, b"x.vdisk-sync-1"),
            State(b"", b"t\0", 0, 0, 0, None, b"x.vdisk-sync-1\0"),
            State(b"/", b"u", 0, 0, 0, None, os.fsencode(outside)[1:]),
        ]
    )
    record.close()
    sync(source, target, disk)
    assert outside.exists() and (disk / "plain" / "precious").exists()
    record = SyncRecord(disk / ".vdisk")
    assert not record.has_intentions
    record.close()


def test_a_second_sync_to_the_same_disk_is_refused_meanwhile(source: Path, target: Path, disk: Path) -> None:
    write(source / "a", "1")
    sync(source, target, disk)
    folder = os.open(disk / ".vdisk", os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        with pytest.raises(Refused, match="another sync"):
            sync(source, target, disk)
        sync(source, target, disk, dry_run=True)
    finally:
        os.close(folder)


def test_the_folder_of_the_record_may_not_be_a_link(source: Path, target: Path, disk: Path, tmp_path: Path) -> None:
    write(source / "a", "1")
    (tmp_path / "elsewhere").mkdir()
    (disk / ".vdisk").symlink_to(tmp_path / "elsewhere")
    for dry_run in (False, True):
        with pytest.raises(Refused):
            sync(source, target, disk, dry_run=dry_run)
    assert os.listdir(tmp_path / "elsewhere") == []


def test_the_record_travels_with_the_disk(source: Path, target: Path, disk: Path) -> None:
    """Moved to another mount point, what we left is still known as ours."""
    write(source / "a", "1")
    sync(source, target, disk)
    moved = disk.rename(disk.with_name("moved"))
    write(source / "a", "22", mtime_ns=T0 + 1)
    assert sync(source, moved / "target", moved)["files_copied"] == 1
