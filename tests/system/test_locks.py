"""Two commands at once."""

from __future__ import annotations

import os
import time

from machine import Machine


def fill(machine: Machine, name: str, size: int = 60_000_000) -> None:
    machine.vdisk("create", "--name", name, "--size", "1GB")
    machine.vdisk("mount", name, name)
    (machine.folder / name / "file").write_bytes(os.urandom(size))
    machine.vdisk("unmount", name)


def test_two_disks_at_once(machine: Machine) -> None:
    fill(machine, "one", 250_000_000)
    fill(machine, "two", 250_000_000)
    started = time.monotonic()
    for attempt in range(10):  # a busy machine may start the second when the first is done
        outputs = [f"{name}-{attempt}.zip" for name in ("one", "two")]
        commands = [machine.start("export", "--disk", name[:3], "--output", name) for name in outputs]
        overlapped = False
        while any(command.poll() is None for command in commands):
            overlapped = overlapped or all((machine.folder / f"{name}.partial").exists() for name in outputs)
            assert time.monotonic() - started < 120
            time.sleep(0.001)
        for command in commands:
            command.communicate()
        assert [command.returncode for command in commands] == [0, 0]
        if overlapped:
            return
    raise AssertionError("they never ran at the same time")


def test_the_same_disk_twice_names_the_holder(machine: Machine) -> None:
    fill(machine, "one", 200_000_000)
    first = machine.start("export", "--disk", "one", "--output", "a.zip")
    while not (machine.folder / "a.zip.partial").exists():
        time.sleep(0.001)
        assert first.poll() is None
    os.kill(first.pid, 19)  # SIGSTOP: the client sleeps, the worker goes on until its stream is full
    worker_busy = machine.doit("export:one", "output=b.zip", check=None)
    os.kill(first.pid, 18)
    first.communicate()
    assert first.returncode == 0
    if worker_busy.code != 0:
        assert "export:one" in worker_busy.err + worker_busy.out
        assert "pid" in worker_busy.err + worker_busy.out
