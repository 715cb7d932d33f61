from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from portunix_vdisk.platform.errors import BadUsage, Refused
from portunix_vdisk.platform.locks import OperationLock

HOLD = """
import os, subprocess, sys, time
from pathlib import Path
from portunix_vdisk.platform.locks import OperationLock
with OperationLock(Path(sys.argv[1]), "key", "export of my-dev") as lock:
    if sys.argv[2] == "child":
        subprocess.Popen(["sleep", "1"], pass_fds=[lock.descriptor], stdout=subprocess.DEVNULL)
    print("held", flush=True)
    if sys.argv[2] == "child":
        os._exit(1)
    sys.stdin.read()
"""


def holder(folder: Path, how: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def stop(process: subprocess.Popen[str]) -> None:
    process.communicate()


def test_another_process_is_named(tmp_path: Path) -> None:
    process = holder(tmp_path, "wait")
    began = time.monotonic()
    with pytest.raises(Refused, match=f"pid {process.pid}, export of my-dev, since ..:..:.."):
        OperationLock(tmp_path, "key", "mount", wait=0.2).__enter__()
    assert 0.2 <= time.monotonic() - began < 1.5
    with OperationLock(tmp_path, "other key", "mount", wait=0):
        pass
    stop(process)
    with OperationLock(tmp_path, "key", "mount", wait=0):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    process = holder(tmp_path, "wait")
    process.kill()
    stop(process)
    with OperationLock(tmp_path, "key", "mount", wait=0):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_inherited_lock_outlives_its_holder(tmp_path: Path) -> None:
    process = holder(tmp_path, "child")
    stop(process)
    with pytest.raises(Refused, match=f"pid {process.pid} .*has ended, but a child of it still runs"):
        OperationLock(tmp_path, "key", "mount", wait=0).__enter__()
    with OperationLock(tmp_path, "key", "mount", wait=10):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_lives_on_after_release_keeps_the_lock(tmp_path: Path) -> None:
    with OperationLock(tmp_path, "key", "first") as lock:
        child = subprocess.Popen(["sleep", "60"], pass_fds=[lock.descriptor])
    try:
        with pytest.raises(Refused):
            OperationLock(tmp_path, "key", "second", wait=0.05).__enter__()
    finally:
        child.kill()
        child.wait()
    with OperationLock(tmp_path, "key", "second", wait=0):
        pass
    assert list(tmp_path.iterdir()) == []


def test_waiting_is_enough(tmp_path: Path) -> None:
    process = holder(tmp_path, "wait")
    timer = threading.Timer(0.3, stop, [process])
    timer.start()
    with OperationLock(tmp_path, "key", "mount", wait=10):
        pass
    timer.join()


def test_never_two_at_once(tmp_path: Path) -> None:
    """Files are unlinked and made anew all the time; still only one is inside."""
    script = """
import os, sys
from pathlib import Path
from portunix_vdisk.platform.locks import OperationLock
folder = Path(sys.argv[1])
for _ in range(40):
    with OperationLock(folder / "locks", "key", "count", wait=60):
        try:
            os.close(os.open(folder / "inside", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            sys.exit("two at once")
        (folder / "inside").unlink()
"""
    crowd = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path)]) for _ in range(4)]
    assert [process.wait(120) for process in crowd] == [0] * 4
    assert list((tmp_path / "locks").iterdir()) == []


def test_the_same_process_twice(tmp_path: Path) -> None:
    with (
        OperationLock(tmp_path, "key", "first"),
        pytest.raises(Refused, match=f"pid {os.getpid()}, first"),
        OperationLock(tmp_path, "key", "second", wait=0),
    ):
        pass


@pytest.mark.parametrize("key", ["", "a/b", "..", ".hidden", "a\0"])
def test_bad_keys(tmp_path: Path, key: str) -> None:
    with pytest.raises(BadUsage):
        OperationLock(tmp_path, key, "mount")


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[]", b'{"pid": "x"}'])
def test_an_illegible_holder(tmp_path: Path, text: bytes) -> None:
    process = holder(tmp_path, "wait")
    (tmp_path / "key.lock").write_bytes(text)
    with pytest.raises(Refused, match="unknown holder"):
        OperationLock(tmp_path, "key", "mount", wait=0).__enter__()
    stop(process)
