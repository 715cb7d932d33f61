"""Programs that are no tools of the host: heard line by line, and ended with all that they started."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from portunix_vdisk.platform.errors import ToolFailed, VdiskError
from portunix_vdisk.platform.linux.machine import LinuxPlatform

SH = Path("/bin/sh")


def run(script: str, folder: Path, told: object = None, **environment: str) -> list[str]:
    lines: list[str] = []
    LinuxPlatform().run_program(
        SH,
        ("-c", script),
        folder=folder,
        environment=environment,
        told=told or lines.append,  # type: ignore[arg-type]
    )
    return [line for line in lines if line]


def test_it_is_heard_and_finds_only_what_it_is_given(tmp_path: Path) -> None:
    script = "pwd; echo to errors >&2; echo \"$A-$HOME\"; printf 'one\\rtwo\\nno end'; cat"
    assert run(script, tmp_path, A="x y") == [str(tmp_path), "to errors", "x y-", "one", "two", "no end"]


def test_its_failure_has_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(ToolFailed) as caught:
        run("seq 100; echo too bad >&2; exit 3", tmp_path)
    assert caught.value.status == 3 and caught.value.output.splitlines()[-1] == "too bad"
    assert len(caught.value.output.splitlines()) < 50
    with pytest.raises(VdiskError):
        LinuxPlatform().run_program(tmp_path / "no", (), folder=tmp_path, environment={}, told=print)


def test_who_has_heard_enough_ends_it_and_its_children(tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    silent = 0

    def told(line: str) -> None:
        nonlocal silent
        silent += not line
        if silent > 1:
            raise Enough

    with pytest.raises(Enough):
        run("sleep 1000 & echo $! > child; wait", tmp_path, told)
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 5
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline, "it still runs"
        time.sleep(0.02)


def test_it_ends_with_us(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    us = os.fork()
    if us == 0:
        try:
            run(f"echo $$ > {mark}; exec sleep 1000", tmp_path)
        finally:
            os._exit(0)
    deadline = time.monotonic() + 10
    while not (mark.exists() and mark.read_text().strip()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child = Path(f"/proc/{mark.read_text().strip()}")
    os.kill(us, signal.SIGKILL)
    os.waitpid(us, 0)
    while child.exists() and child.joinpath("stat").read_text().split()[2] != "Z":
        assert time.monotonic() < deadline, "it goes on to write to the disk"
        time.sleep(0.02)
