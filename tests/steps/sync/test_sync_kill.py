"""A sync that is killed: files are whole, the next run finishes it and sees no conflicts."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from portunix_vdisk.tests.support.syncing import T0, facts, identities, leftovers, sync, write

RUN = """
import os, sys, time
from pathlib import Path
from portunix_vdisk.steps.sync import apply
from portunix_vdisk.tests.support.syncing import sync
apply.BATCH_FILES = 50
apply.INTENDED_AT_ONCE = 200
rename = os.rename
def slowly(*arguments, **options):  # so that there is a middle to be hit
    time.sleep(0.001)
    rename(*arguments, **options)
os.rename = slowly
print("go", flush=True)
sync(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), delete=True)
"""


def start(source: Path, target: Path, disk: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", RUN, str(source), str(target), str(disk)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"go\n"
    return process


def test_killed_at_ten_moments(source: Path, target: Path, disk: Path) -> None:
    dice = random.Random(7)
    for number in range(600):
        write(source / f"d{number % 30}" / f"f{number}", dice.randbytes(dice.randrange(3000)), mtime_ns=T0 + number)
    os.link(source / "d1" / "f1", source / "linked")
    (source / "link").symlink_to("d1")

    sync(source, target, disk)
    assert facts(target) == facts(source)

    torn = 0
    for turn in range(10):
        for number in dice.sample(range(600), 200):  # new content, so that old and new states are both about
            content = dice.randbytes(dice.randrange(3000))
            write(source / f"d{number % 30}" / f"f{number}", content, mtime_ns=T0 + 10_000 * (turn + 1) + number)
        former, wanted = facts(target), facts(source)
        process = start(source, target, disk)
        time.sleep(0.04 * (turn + 1))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close() if process.stdout else None
        found = {path: fact for path, fact in facts(target).items() if b".vdisk-sync-" not in path}
        for path, fact in found.items():  # each file is whole: the old one or the new one
            if fact[0] == "file":
                assert fact[2:5] in (former[path][2:5], wanted[path][2:5])
        torn += sum(found[path] != former.get(path) for path in found) > 0 and found != wanted
        if turn % 2:
            assert sync(source, target, disk, dry_run=True, delete=True)["conflicts"] == []
        assert sync(source, target, disk, delete=True)["conflicts"] == []
        assert facts(target) == wanted and not leftovers(disk)
        before = identities(disk)
        sync(source, target, disk, delete=True)
        assert identities(disk) == before
    assert torn >= 2, "hardly any kill hit the middle of a run"


@pytest.mark.parametrize("moment", range(14))
def test_killed_at_every_kind_of_call(
    source: Path, target: Path, disk: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """Stops for good in the n-th call that writes: nothing after it happens, no clean-up either."""
    write(source / "a", "old a")
    write(source / "b", "old b")
    sync(source, target, disk)
    write(source / "a", "new a!", mtime_ns=T0 + 1)
    (source / "b").unlink()
    os.link(source / "a", source / "b")
    write(source / "folder" / "c", "c")
    (source / "link").symlink_to("a")
    former, wanted = facts(target), facts(source)
    pid = os.fork()
    if pid == 0:
        calls = 0

        def dying(real: object) -> object:
            def call(*arguments: object, **options: object) -> object:
                nonlocal calls
                calls += 1
                if calls > moment:
                    os._exit(9)
                return real(*arguments, **options)  # type: ignore[operator]

            return call

        for name in ("mkdir", "write", "rename", "link", "symlink", "chmod", "utime", "unlink"):
            setattr(os, name, dying(getattr(os, name)))
        try:
            sync(source, target, disk)
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    for path, fact in facts(target).items():
        if b".vdisk-sync-" not in path and fact[0] == "file":
            assert fact[4] in (former.get(path, (None,) * 5)[4], wanted[path][4])
    sync(source, target, disk)
    assert facts(target) == wanted and not leftovers(disk)
    assert os.waitstatus_to_exitcode(status) in (0, 9)
