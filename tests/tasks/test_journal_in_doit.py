import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from contextlib import closing

import pytest


def sound(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


class Project:
    """A folder with a dodo.py of six tasks that note each run in a file."""

    def __init__(self, folder, database):
        self.folder = folder
        self.database = database
        self.log = folder / "log"
        self.log.touch()
        self.dodo(
            """
            def act(name):
                with open("log", "a") as file:
                    file.write(name + "\\n")
                misbehave(name)
                return {"name": name}
            def misbehave(name):
                pass
            def task_t():
                for name in "abcdef":
                    yield {"name": name, "actions": [(act, [name])], "uptodate": [run_once], "verbosity": 2}
            """
        )

    def dodo(self, code, name="dodo.py"):
        config = {"backend": "portunix-vdisk", "dep_file": str(self.database)}
        head = f"import os, signal, time\nfrom doit.tools import run_once\nDOIT_CONFIG = {config!r}\n"
        (self.folder / name).write_text(head + textwrap.dedent(code))

    def misbehaving(self, code):
        text = (self.folder / "dodo.py").read_text()
        assert "    pass" in text
        (self.folder / "bad.py").write_text(text.replace("    pass", code))

    def start(self, *arguments):
        return subprocess.Popen(
            [sys.executable, "-m", "doit", *arguments],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def doit(self, *arguments):
        process = self.start(*arguments)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def ran(self):
        """The tasks that ran since the last call."""
        names = self.log.read_text().split()
        self.log.write_text("")
        return "".join(names)

    def status(self):
        code, out, err = self.doit("list", "--all", "--status")
        assert code == 0, err
        lines = [line.split() for line in out.splitlines()]
        return {name: state for state, name in lines if ":" in name}


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    return Project(folder, tmp_path / "home" / "journal.db")


def test_a_killed_doit_keeps_finished_tasks(project):
    project.misbehaving("    if name == 'd': os.kill(os.getpid(), signal.SIGKILL)")
    code, _, _ = project.doit("-f", "bad.py")
    assert code == -signal.SIGKILL
    assert project.ran() == "abcd"
    assert project.status() == {f"t:{name}": "U" if name in "abc" else "R" for name in "abcdef"}
    assert project.doit()[0] == 0
    assert project.ran() == "def"
    assert project.doit()[0] == 0
    assert project.ran() == ""
    assert sound(project.database)


def test_killed_from_outside_between_tasks(project):
    project.misbehaving("    time.sleep(0.05)")
    for _ in range(3):
        process = project.start("-f", "bad.py")
        before = len(project.log.read_text())
        while process.poll() is None and len(project.log.read_text()) < before + 4:
            time.sleep(0.002)
        process.kill()
        process.communicate()
    project.doit()
    runs = project.ran()
    assert set(runs) == set("abcdef")
    assert len(runs) <= 6 + 3  # only the task that each kill hit ran again
    assert set(project.status().values()) == {"U"}


def test_a_failing_task_does_not_lose_others(project):
    assert project.doit("t:c")[0] == 0
    project.misbehaving("    if name == 'd': raise RuntimeError('no')")
    assert project.doit("-f", "bad.py")[0] != 0
    assert project.ran() == "cabd"
    assert project.status() == {f"t:{name}": "U" if name in "abc" else "R" for name in "abcdef"}
    assert project.doit("-f", "bad.py", "--continue")[0] != 0
    assert project.ran() == "def"
    assert project.status() == {f"t:{name}": "R" if name == "d" else "U" for name in "abcdef"}
    assert project.doit()[0] == 0
    assert project.ran() == "d"


@pytest.mark.parametrize("parallel", [(), ("-n", "3", "-P", "thread"), ("-n", "3", "-P", "process")])
def test_every_way_to_run(project, parallel):
    code, _, err = project.doit("run", *parallel)
    assert code == 0, err
    assert sorted(project.ran()) == list("abcdef")
    assert set(project.status().values()) == {"U"}
    assert project.doit("run", *parallel)[0] == 0
    assert project.ran() == ""


def test_forget_ignore_and_clean(project):
    assert project.doit()[0] == 0
    assert project.doit("forget", "t:b")[0] == 0
    assert project.doit("ignore", "t:c")[0] == 0
    assert project.status() == {"t:a": "U", "t:b": "R", "t:c": "I", "t:d": "U", "t:e": "U", "t:f": "U"}
    assert project.doit("clean", "--forget", "t:d")[0] == 0
    assert project.status()["t:d"] == "R"
    assert project.doit("reset-dep")[0] == 0
    assert project.doit("forget", "--all")[0] == 0
    assert set(project.status().values()) == {"R"}


def test_two_runs_at_once_on_one_journal(project):
    for half, names in (("one.py", "abc"), ("two.py", "def")):
        project.misbehaving("    time.sleep(0.03)")
        text = (project.folder / "bad.py").read_text().replace('"abcdef"', repr(names))
        (project.folder / half).write_text(text)
    for _ in range(3):
        processes = [project.start("-f", half) for half in ("one.py", "two.py")]
        for process in processes:
            _, err = process.communicate(timeout=60)
            assert process.returncode == 0, err
        assert set(project.status().values()) == {"U"}
        assert project.doit("forget", "--all")[0] == 0
    assert sorted(project.ran()) == sorted("abcdef" * 3)


def test_list_on_a_missing_home(project, tmp_path):
    assert set(project.status().values()) == {"R"}
    assert project.doit("info", "t:a")[0] in (0, 1)
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("command", ["run", "list --all --status", "forget --all"])
@pytest.mark.parametrize("state", ["damaged", "newer", "foreign"])
def test_doit_says_in_a_sentence_what_is_wrong_with_the_journal(project, command, state):
    if state == "damaged":
        project.database.parent.mkdir()
        project.database.write_bytes(b"\xde\xad" * 4096)
    else:
        assert project.doit("t:a")[0] == 0
        with closing(sqlite3.connect(project.database)) as connection:
            connection.execute("PRAGMA user_version=7" if state == "newer" else "PRAGMA application_id=1")
    project.ran()
    code, _, err = project.doit(*command.split())
    assert code == 3
    assert err.startswith("ERROR: ")
    assert "Traceback" not in err
    assert {"damaged": "costs time, never data", "newer": "newer version", "foreign": "another program"}[state] in err
    assert project.ran() == ""


def test_a_journal_that_breaks_during_the_run(project):
    """The task that could not be recorded runs again; doit stops with a sentence."""
    project.misbehaving(
        "    if name == 'c':\n"
        "        import sqlite3\n"
        "        with sqlite3.connect(DOIT_CONFIG['dep_file']) as db: db.execute('DROP TABLE facts')"
    )
    code, _, err = project.doit("-f", "bad.py")
    assert code == 3
    assert "the journal of finished tasks" in err
    assert "Traceback" not in err
    assert project.ran() == "abc"
