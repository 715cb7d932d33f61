"""Watching and killing a process group."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from portunix_vdisk.tests.bench.processes import Watch, kill_group, members

WORKER = """
import os, sys, time
block = bytearray(os.urandom(1 << 20)) * 64
with open(sys.argv[2], "wb") as file:
    for _ in range(8):
        file.write(os.urandom(1 << 20))
    file.flush()
    os.fsync(file.fileno())
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def group(tmp_path: Path) -> subprocess.Popen[str]:
    """A process that leads a group and looks like a worker."""
    command = [sys.executable, "-c", WORKER, "portunix_vdisk.plugin.worker", str(tmp_path / "written")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def test_a_group_is_watched_and_killed(group: subprocess.Popen[str]) -> None:
    assert group.stdout is not None
    with group, Watch(group.pid) as watch:
        assert group.stdout.readline() == "ready\n"
        deadline = time.monotonic() + 5
        while watch.written < 8 << 20 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert [str(process) for process in members(group.pid)] == [f"worker {group.pid}"]
        assert [process.pid for process in kill_group(group.pid)] == [group.pid]
        assert members(group.pid) == []
    assert watch.memory >= 64 << 20
    assert watch.written >= 8 << 20


def test_our_own_group_is_not_killed() -> None:
    with pytest.raises(RuntimeError):
        kill_group(os.getpid())
