import contextlib
import errno
import os
import sqlite3
import stat
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from portunix_vdisk.platform.errors import Failed, Refused
from portunix_vdisk.steps import database
from portunix_vdisk.steps.catalog import Catalog
from portunix_vdisk.steps.catalog_schema import SCHEMA
from portunix_vdisk.tests.support.records import disk


def test_a_missing_catalog_is_empty_and_stays_missing(path, tmp_path):
    with Catalog.open(path, create=False) as catalog:
        assert catalog.all() == []
        assert catalog.get("x") is catalog.by_path(Path("/x")) is catalog.last_output("x") is None
        with pytest.raises(Failed):
            catalog.declare(disk())
        assert list(tmp_path.iterdir()) == []
        with Catalog.open(path, create=True) as maker:
            maker.declare(disk())
        assert catalog.all() == [disk()]  # and it is noticed when somebody makes it


def test_an_empty_file_as_a_kill_leaves_it(path):
    path.parent.mkdir(parents=True)
    path.touch()
    with Catalog.open(path, create=False) as catalog:
        assert catalog.all() == []
    with Catalog.open(path, create=True) as catalog:
        catalog.declare(disk())
        assert catalog.all() == [disk()]


def test_file_modes(catalog, path):
    catalog.declare(disk())
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_settings(catalog):
    with catalog._database.reading() as connection:
        for name, value in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 10_000)):
            assert connection.execute(f"PRAGMA {name}").fetchone()[0] == value
    catalog.close()
    catalog.close()


def write_pragma(path, text):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(text)
        connection.commit()


def test_a_newer_catalog_is_refused_and_not_touched(catalog, path):
    catalog.close()
    write_pragma(path, "PRAGMA user_version=99")
    before = path.read_bytes()
    for create in (True, False):
        with pytest.raises(Refused) as caught:
            Catalog.open(path, create)
        assert "newer version" in caught.value.what
        assert str(path) in caught.value.what
    assert path.read_bytes() == before


def test_another_programs_database_is_refused_and_not_touched(path):
    path.parent.mkdir(parents=True)
    write_pragma(path, "CREATE TABLE doit (task_id TEXT)")
    before = path.read_bytes()
    for create in (True, False):
        with pytest.raises(Refused) as caught:
            Catalog.open(path, create)
        assert "another program" in caught.value.what
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_an_older_catalog_is_migrated_with_its_content(catalog, path, monkeypatch):
    catalog.declare(disk())
    catalog.close()
    newer = replace(SCHEMA, migrations=(*SCHEMA.migrations, ("ALTER TABLE disks ADD COLUMN note TEXT",)))
    opened = database.Database(path, newer)
    with opened.reading() as connection:
        assert connection.execute("SELECT name, note FROM disks").fetchall() == [("disk-0", None)]
        assert connection.execute("PRAGMA user_version").fetchone() == (newer.version,)
    opened.close()
    with pytest.raises(Refused):
        Catalog.open(path, create=True)


def test_a_disk_of_the_first_version_is_not_encrypted(path):
    first = replace(SCHEMA, migrations=SCHEMA.migrations[:1])
    opened = database.Database(path, first)
    opened.make()
    with opened.transaction() as connection:
        words = "uuid, name, path, type, size, file_system, state, created_at, partition_start, partition_length"
        connection.execute(
            f"INSERT INTO disks ({words}, owner_uid, owner_gid) VALUES "
            "('u', 'old', x'2f6f', 'vhd', 9, 'ext4', 'ready', 'then', 1, 2, 3, 4)"
        )
    opened.close()
    with Catalog.open(path, create=True) as catalog:
        (old,) = catalog.all()
        assert (old.name, old.encrypted) == ("old", False)
        catalog.set_encrypted("u")
        assert catalog.get("old") == replace(old, encrypted=True)


def test_a_migration_that_fails_changes_nothing(catalog, path):
    catalog.declare(disk())
    catalog.close()
    newer = replace(SCHEMA, migrations=(*SCHEMA.migrations, ("DELETE FROM disks", "NONSENSE")))
    with pytest.raises(Failed):
        database.Database(path, newer)
    with Catalog.open(path, create=True) as again:
        assert again.all() == [disk()]


def damage(path, how):
    data = path.read_bytes()
    if how == "garbage":
        path.write_bytes(b"\xde\xad\xbe\xef" * 4096)
    elif how == "text":
        path.write_text("not a database\n")
    elif how == "cut":
        path.write_bytes(data[: len(data) // 2 + 100])
    elif how == "header":
        path.write_bytes(b"X" + data[1:])
    elif how == "pages":
        path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))


@pytest.mark.parametrize("how", ["garbage", "text", "cut", "header", "pages"])
def test_a_damaged_catalog_says_which_file_and_what_to_do(catalog, path, how):
    for number in range(30):
        catalog.declare(disk(number))
    catalog.close()
    damage(path, how)
    with pytest.raises(Failed) as caught, Catalog.open(path, create=True) as opened:
        opened.all()
    assert str(path) in caught.value.what
    assert "damaged" in caught.value.what
    assert "untouched" in caught.value.state
    assert "registered again" in caught.value.state
    assert "move" in caught.value.hint
    assert str(path) in caught.value.hint


def test_an_impossible_row_is_damage(catalog, path):
    catalog.declare(disk())
    catalog.close()
    for column, value in (
        ("type", "'floppy'"),
        ("state", "'odd'"),
        ("partial_inode", "'[1,2,3]'"),
        ("path", "x'2f00'"),
    ):
        write_pragma(path, f"UPDATE disks SET {column} = {value}")
        with Catalog.open(path, create=True) as again:
            if column == "path":
                assert again.all() != []
                continue
            with pytest.raises(Failed) as caught:
                again.all()
        assert "damaged" in caught.value.what
        write_pragma(path, "UPDATE disks SET type = 'vhd', state = 'creating', partial_inode = NULL")


def test_places_where_no_catalog_can_be(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for bad in (tmp_path / "file" / "catalog.db", tmp_path / "folder", Path("/proc/nowhere/catalog.db")):
        with pytest.raises(Failed) as caught:
            Catalog.open(bad, create=True)
        assert str(bad) in caught.value.what
    with Catalog.open(tmp_path / "file" / "catalog.db", create=False) as catalog:
        assert catalog.all() == []


def test_a_strange_folder_name(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9 ?mode=memory#x") / "catalog.db"
    with Catalog.open(path, create=True) as catalog:
        catalog.declare(disk())
    assert path.stat().st_size > 0
    path.write_bytes(b"x" * 4096)
    with pytest.raises(Failed) as caught:
        Catalog.open(path, create=True)
    str(caught.value).encode()


def test_a_full_disk(catalog, path):
    """SQLite's own limit on pages gives the same error as a full disk."""
    catalog.declare(disk())
    with catalog._database.reading() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages}")
    done = 1
    with pytest.raises(Failed) as caught:
        for number in range(1, 1000):
            catalog.declare(disk(number))
            done += 1
    assert "no space" in caught.value.what
    assert len(catalog.all()) == done
    with Catalog.open(path, create=True) as other:
        other.declare(disk(5000))


def test_locked_for_too_long(catalog, path, monkeypatch):
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    with Catalog.open(path, create=True) as impatient, catalog._database.transaction():
        assert impatient.all() == []  # readers never wait
        with pytest.raises(Refused) as caught:
            impatient.declare(disk())
        assert "locked" in caught.value.what


def test_the_switch_to_wal_waits_for_another_process(catalog, path):
    """SQLite itself doesn't wait there: two first openings at once would fail now and then."""
    catalog.close()
    write_pragma(path, "PRAGMA journal_mode=DELETE")
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.15, holder.rollback)
    release.start()
    with Catalog.open(path, create=True) as opened:
        opened.declare(disk())
    release.join()
    holder.close()


def test_a_migration_that_another_process_was_faster_with(catalog):
    catalog.declare(disk())
    with catalog._database.reading() as connection:
        connection.execute("PRAGMA user_version=99")  # a newer program, between our look and our lock
        catalog._database._migrate(connection)
        assert connection.execute("PRAGMA user_version").fetchone() == (99,)
    assert catalog.all() == [disk()]


def test_an_error_in_a_transaction_rolls_back(catalog):
    catalog.declare(disk())
    with pytest.raises(KeyboardInterrupt), catalog._database.transaction() as connection:
        connection.execute("DELETE FROM disks")
        raise KeyboardInterrupt
    assert catalog.all() == [disk()]


def test_os_errors_are_explained(path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(database.os, "open", refuse)
    with pytest.raises(Failed) as caught:
        Catalog.open(path, create=True)
    assert "No space left" in caught.value.what


def test_opening_is_quick(catalog, path):
    """Bound far above the usual 0.5 ms: it fails if opening starts to do work, not if the machine is busy."""
    catalog.declare(disk())
    times = []
    for _ in range(20):
        started = time.perf_counter()
        Catalog.open(path, create=True).close()
        times.append(time.perf_counter() - started)
    assert sorted(times)[5] < 0.05
