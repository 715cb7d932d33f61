import contextlib
import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from portunix_vdisk.steps.catalog import Catalog
from portunix_vdisk.steps.disk import DiskState
from portunix_vdisk.tests.support.records import disk


def sound(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


PRELUDE = """
import sys, time
from pathlib import Path
from uuid import UUID
from portunix_vdisk.platform.base import *
from portunix_vdisk.platform.errors import *
from portunix_vdisk.steps.catalog import Catalog
from portunix_vdisk.steps.disk import Disk, DiskState
path, worker = Path(sys.argv[1]), int(sys.argv[2])
def disk(number, name):
    return Disk(name, str(UUID(int=number)), Path(f"/disks/{number}"), ImageType.VHD, 1 << 30, FileSystemType.EXT4,
                DiskState.CREATING, "now", Partition(1, 2), Owner(0, 0))
print("here", flush=True)
sys.stdin.readline()
"""


def start(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(code), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def go(processes):
    """Wait until all are ready, then let them run at the same moment."""
    for process in processes:
        assert process.stdout.readline() == "here\n", process.stderr.read()
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()


def finish(processes):
    answers = []
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        answers.append(out.split())
    return answers


@pytest.mark.parametrize("attempt", range(4))
def test_processes_that_open_a_missing_catalog_at_once(path, attempt):
    code = "with Catalog.open(path, create=True) as c: c.declare(disk(worker, f'w{worker}'))"
    processes = [start(code, path, worker) for worker in range(6)]
    go(processes)
    finish(processes)
    with Catalog.open(path, create=False) as catalog:
        assert [known.name for known in catalog.all()] == [f"w{worker}" for worker in range(6)]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_processes_that_write_at_once(path):
    code = """
    with Catalog.open(path, create=True) as c:
        for n in range(30):
            mine = worker * 1000 + n
            c.declare(disk(mine, f"mine-{mine}"))
            try:
                c.declare(disk(worker * 1000 + 500 + n, f"contested-{n}"))
                print(n)
            except Refused as error:
                assert f"contested-{n}" in error.what
            c.set_partial(str(UUID(int=mine)), (worker, n))
            c.start_export(str(UUID(int=mine)), Path(f"/out/{mine}"))
            assert len(c.all()) >= n
            if n % 2:
                c.remove(str(UUID(int=mine)))
            else:
                c.mark_ready(str(UUID(int=mine)))
    """
    processes = [start(code, path, worker) for worker in range(4)]
    go(processes)
    won = [int(number) for answer in finish(processes) for number in answer]
    assert sorted(won) == list(range(30)), "each contested name has exactly one winner"
    with Catalog.open(path, create=False) as catalog:
        names = {known.name: known for known in catalog.all()}
    expected = {f"mine-{worker * 1000 + n}" for worker in range(4) for n in range(0, 30, 2)}
    assert set(names) == expected | {f"contested-{n}" for n in range(30)}
    assert all(names[name].state is DiskState.READY for name in expected)
    assert sound(path)


@pytest.mark.parametrize("seed", range(6))
def test_killed_while_writing(path, seed):
    """What was acknowledged is there after SIGKILL, and the database is sound; another writer is not disturbed."""
    code = """
    with Catalog.open(path, create=True) as c:
        for n in range(100000):
            number = worker * 1000000 + n
            c.declare(disk(number, f"d-{number}"))
            c.mark_ready(str(UUID(int=number)))
            print(number, flush=True)
    """
    draw = random.Random(seed)
    processes = [start(code, path, worker) for worker in (1, 2)]
    go(processes)
    acknowledged = []
    for process in processes:
        for _ in range(draw.randrange(1, 60)):
            acknowledged.append(int(process.stdout.readline()))
        time.sleep(draw.random() * 0.003)
        os.kill(process.pid, signal.SIGKILL)
        # Not communicate(): it would skip what readline() has read ahead.
        acknowledged += [int(line) for line in process.stdout if line.endswith("\n")]
        process.communicate()
    with Catalog.open(path, create=True) as catalog:
        states = {known.name: known.state for known in catalog.all()}
        catalog.declare(disk(7))
    assert {f"d-{number}" for number in acknowledged} <= set(states)
    assert all(states[f"d-{number}"] is DiskState.READY for number in acknowledged)
    assert len(states) - len(acknowledged) <= 2  # at most one unacknowledged disk a writer
    assert sound(path)


def test_threads_share_a_catalog(catalog):
    def work(worker):
        for n in range(20):
            number = worker * 100 + n
            catalog.declare(disk(number))
            catalog.mark_ready(disk(number).uuid)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(catalog.all()) == 80
    assert all(known.state is DiskState.READY for known in catalog.all())


def _in_child(catalog, answers):
    inherited = catalog._database._connection
    catalog.declare(disk(1))
    # SQLite forbids to use it, and even to close it.
    assert inherited is not catalog._database._connection
    assert inherited in catalog._database._inherited
    answers.put([known.name for known in catalog.all()])


def test_a_fork_gets_its_own_connection(catalog):
    catalog.declare(disk(0))
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=_in_child, args=(catalog, answers))
    child.start()
    assert answers.get(timeout=20) == ["disk-0", "disk-1"]
    child.join()
    catalog.declare(disk(2))
    assert [known.name for known in catalog.all()] == ["disk-0", "disk-1", "disk-2"]
