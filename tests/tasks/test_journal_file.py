import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import closing

import pytest
from doit.dependency import DatabaseException, JSONCodec, SqliteDB
from doit.exceptions import InvalidCommand

from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.tasks.journal import JournalError
from portunix_vdisk.tests.support.journals import journal, succeed


@pytest.fixture
def path(tmp_path):
    return tmp_path / "home" / "vdisk" / "journal.db"


def sound(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_reading_leaves_no_trace(path, tmp_path):
    one = journal(path)
    assert one.get("a", "deps:") is None
    assert not one.in_("a")
    one.remove("a")
    one.remove_all()
    one.dump()
    assert list(tmp_path.iterdir()) == []


def test_the_folder_is_made_and_the_file_is_private(path):
    one = journal(path)
    succeed(one, "a")
    assert [stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()] == [0o600] * 3
    one.dump()
    assert [file.name for file in path.parent.iterdir()] == ["journal.db"]


def test_a_relative_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = journal("j.db")
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    succeed(one, "a")
    one.dump()
    assert (tmp_path / "j.db").exists()


def test_deleted_while_open_costs_time_only(path):
    one = journal(path)
    succeed(one, "a")
    for file in path.parent.iterdir():
        file.unlink()
    try:
        succeed(one, "b")
    except JournalError as error:
        assert "journal" in str(error)
    one.dump()
    again = journal(path)
    succeed(again, "c")
    assert journal(path).in_("c")


@pytest.mark.parametrize("content", [b"not a database", b"\xde\xad" * 8192, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_journal_says_that_only_time_is_lost(path, content):
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(DatabaseException) as caught:
        journal(path)
    assert isinstance(caught.value, InvalidCommand), "doit prints these without a traceback"
    assert "deleting the journal costs time, never data" in str(caught.value)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == content


def test_a_newer_journal(path):
    one = journal(path)
    succeed(one, "a")
    one.dump()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version=7")
    with pytest.raises(JournalError) as caught:
        journal(path)
    assert "newer version" in str(caught.value)
    assert isinstance(caught.value.error, Refused)


def test_doits_own_database_is_not_taken_over(path):
    path.parent.mkdir(parents=True)
    stock = SqliteDB(str(path), JSONCodec())
    stock.set("a", "deps:", [])
    stock.dump()
    before = path.read_bytes()
    with pytest.raises(JournalError) as caught:
        journal(path)
    assert "another program" in str(caught.value)
    assert path.read_bytes() == before


def test_a_value_that_is_no_json(path):
    one = journal(path)
    succeed(one, "a")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE facts SET value = x'7b'")
        connection.commit()
    with pytest.raises(JournalError) as caught:
        one.get("a", "_values_:")
    assert "damaged" in str(caught.value)


# several processes ---------------------------------------------------------------------------------------

WRITER = """
import sys
from doit.dependency import JSONCodec
from portunix_vdisk.tasks.journal import Journal
path, worker, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
print("here", flush=True)
sys.stdin.readline()
journal = Journal(path, JSONCodec())
for n in range(count):
    task = f"t:{worker}:{n}"
    journal.set(task, "_values_:", {"n": n, "pad": "x" * 500})
    journal.set(task, "checker:", "MD5Checker")
    journal.set(task, "deps:", ())
    print(n, flush=True)
    if n % 5 == 4:
        journal.remove(f"t:{worker}:{n - 1}")
journal.dump()
"""


def writers(path, workers, count):
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(worker), str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for worker in range(workers)
    ]
    for process in started:
        assert process.stdout.readline() == "here\n", process.stderr.read()
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()
    return started


@pytest.mark.parametrize("attempt", range(3))
def test_processes_on_different_tasks_at_once(path, attempt):
    for process in writers(path, 4, 50):
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    one = journal(path)
    for worker in range(4):
        for n in range(50):
            values = one.get(f"t:{worker}:{n}", "_values_:")
            assert (values and values["n"]) == (None if n % 5 == 3 else n)
    one.dump()
    assert sound(path)


@pytest.mark.parametrize("seed", range(6))
def test_killed_while_writing(path, seed):
    draw = random.Random(seed)
    acknowledged = []
    for worker, process in enumerate(writers(path, 2, 100_000)):
        for _ in range(draw.randrange(1, 100)):
            acknowledged.append((worker, int(process.stdout.readline())))
        time.sleep(draw.random() * 0.003)
        os.kill(process.pid, signal.SIGKILL)
        acknowledged += [(worker, int(line)) for line in process.stdout if line.endswith("\n")]
        process.communicate()
    one = journal(path)
    last = dict(acknowledged)
    for worker, n in acknowledged:
        if n % 5 == 3 and n >= last[worker] - 1:
            continue  # its removal may or may not have happened
        values = one.get(f"t:{worker}:{n}", "_values_:")
        assert (values and values["n"]) == (None if n % 5 == 3 else n)
        assert (one.get(f"t:{worker}:{n}", "deps:") is None) == (n % 5 == 3), "a record is whole or absent"
    succeed(one, "after")
    one.dump()
    assert sound(path)
