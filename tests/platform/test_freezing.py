"""Holding a filesystem still: for a moment, and whoever is killed meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from portunix_vdisk.platform.commands import Commands
from portunix_vdisk.platform.errors import Failed, Refused
from portunix_vdisk.platform.linux import freezer, mounts, state
from portunix_vdisk.platform.linux.freezing import freezable, settle, thaw_left
from portunix_vdisk.tests.platform.disks import Disk


@pytest.fixture
def point(img_disk: Disk, tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "here"
    img_disk.attach()
    img_disk.mount(place)
    yield place
    img_disk.platform.detach(img_disk.image)


class Writer:
    """Writes small files all the time, and remembers how long it had to wait at most."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.longest, self.count = folder, 0.0, 0
        self._stop = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop:
            began = time.monotonic()
            (self.folder / f"w{self.count % 100}").write_bytes(b"x" * 5000)
            self.longest = max(self.longest, time.monotonic() - began)
            self.count += 1

    def moves(self) -> bool:
        """Whether it gets on within 5 s."""
        before, deadline = self.count, time.monotonic() + 5
        while self.count <= before + 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.count > before + 1

    def finish(self) -> None:
        self._stop = True
        self._thread.join(10)
        assert not self._thread.is_alive()


@pytest.fixture
def writer(point: Path) -> Iterator[Writer]:
    made = Writer(point)
    yield made
    made.finish()


def test_writers_wait_and_go_on(point: Path, tmp_path: Path, writer: Writer) -> None:
    settle(point)
    with freezable(Commands(), tmp_path, point, point.stat().st_dev) as frozen:
        frozen.freeze()
        time.sleep(0.05)
        before = writer.count
        time.sleep(0.2)
        assert writer.count == before
        waited = frozen.thaw()
    assert writer.moves()
    assert 0.25 < waited < freezer.LIMIT
    assert writer.longest < waited + 1
    assert not (tmp_path / "freezing").exists()


def test_it_thaws_by_itself_and_says_so(point: Path, tmp_path: Path, writer: Writer) -> None:
    with freezable(Commands(), tmp_path, point, point.stat().st_dev) as frozen:
        frozen.freeze()
        time.sleep(freezer.LIMIT + 0.3)
        assert writer.moves()
        with pytest.raises(Failed, match="too busy"):
            frozen.thaw()


def test_a_failure_thaws(point: Path, tmp_path: Path, writer: Writer) -> None:
    with pytest.raises(ZeroDivisionError), freezable(Commands(), tmp_path, point, point.stat().st_dev) as frozen:
        frozen.freeze()
        raise ZeroDivisionError
    assert writer.moves()


FREEZES = """
import os, sys, time
from pathlib import Path
from portunix_vdisk.platform.commands import Commands
from portunix_vdisk.platform.linux.freezing import freezable
point, folder = map(Path, sys.argv[1:])
with freezable(Commands(), folder, point, point.stat().st_dev) as frozen:
    frozen.freeze()
    print(frozen._watchdog.pid, flush=True)
    time.sleep(60)
"""


def frozen_by_another(point: Path, folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """A process group of its own that has frozen it, and the watchdog."""
    other = subprocess.Popen(
        [sys.executable, "-c", FREEZES, str(point), str(folder)], stdout=subprocess.PIPE, start_new_session=True
    )
    assert other.stdout is not None
    return other, int(other.stdout.readline())


def test_the_one_who_froze_is_killed(point: Path, tmp_path: Path, writer: Writer) -> None:
    other, _ = frozen_by_another(point, tmp_path)
    began = time.monotonic()
    os.killpg(other.pid, signal.SIGKILL)
    assert writer.moves()
    assert time.monotonic() - began < freezer.LIMIT / 2  # not the limit thawed it, but the end of the pipe
    other.wait()
    assert thaw_left(tmp_path, point) is False
    assert not (tmp_path / "freezing").exists()


@pytest.mark.full
def test_both_are_killed(point: Path, tmp_path: Path, writer: Writer) -> None:
    other, watchdog = frozen_by_another(point, tmp_path)
    os.killpg(other.pid, signal.SIGSTOP)
    os.kill(watchdog, signal.SIGKILL)
    os.killpg(other.pid, signal.SIGKILL)
    other.wait()
    time.sleep(0.1)
    before = writer.count
    time.sleep(freezer.LIMIT + 0.2)
    assert writer.count == before  # nobody is left who could
    assert thaw_left(tmp_path, point) is True
    assert writer.moves()


def test_the_watchdog_alone_is_killed(point: Path, tmp_path: Path, writer: Writer) -> None:
    with (
        pytest.raises(Failed, match="was killed"),
        freezable(Commands(), tmp_path, point, point.stat().st_dev) as frozen,
    ):
        frozen.freeze()
        os.kill(frozen._watchdog.pid, signal.SIGKILL)
        frozen.thaw()
    assert writer.moves()


def test_signals_that_end_others_do_not_reach_it(point: Path, tmp_path: Path) -> None:
    with freezable(Commands(), tmp_path, point, point.stat().st_dev) as frozen:
        frozen.freeze()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(frozen._watchdog.pid, number)
        status = Path(f"/proc/{frozen._watchdog.pid}/status").read_text()
        assert os.getpgid(frozen._watchdog.pid) != os.getpgid(0)
        frozen.thaw()
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    assert int(fields["VmLck"].split()[0]) > 1000  # kB: all of it


def test_what_cannot_be_frozen(point: Path, tmp_path: Path) -> None:
    tmpfs = tmp_path / "tmpfs"
    tmpfs.mkdir()
    mounts.mount("none", str(tmpfs), "proc", 0, "")
    try:
        with freezable(Commands(), tmp_path, tmpfs, tmpfs.stat().st_dev) as frozen, pytest.raises(Refused) as caught:
            frozen.freeze()
        assert "unmount the disk, export it" in caught.value.hint
    finally:
        mounts.unmount(tmpfs)
    with freezable(Commands(), tmp_path, point, point.stat().st_dev) as frozen:
        frozen.freeze()
        again = tmp_path / "again"
        again.mkdir()
        with (
            freezable(Commands(), again, point, point.stat().st_dev) as other,
            pytest.raises(Refused, match="frozen already"),
        ):
            other.freeze()
    with pytest.raises(Refused, match="mounted over"), freezable(Commands(), tmp_path, point, 5):
        pass


@pytest.mark.full
def test_unmounting_thaws_what_killed_processes_left(img_disk: Disk, point: Path, writer: Writer) -> None:
    folder = state.ROOT / state.key_of(img_disk.image.stat())
    other, watchdog = frozen_by_another(point, folder)
    os.killpg(other.pid, signal.SIGSTOP)
    os.kill(watchdog, signal.SIGKILL)
    os.killpg(other.pid, signal.SIGKILL)
    other.wait()
    with pytest.raises(Refused, match="in use"), point.joinpath("w1").open():
        img_disk.platform.unmount(img_disk.image)
    assert writer.moves()
