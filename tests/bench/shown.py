"""Rows about ways to show the disk in an image as a file: QEMU's FUSE export beside NBD and ``nbdfuse``.

The file gets a loop device and an ext4, as when a disk is mounted. Direct I/O is off in all of them: over QEMU's FUSE
export it corrupts data.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.tests.bench import figures, rivals
from portunix_vdisk.tests.bench.figures import Line, Samples
from portunix_vdisk.tests.bench.stage import Stage, say

_SIZE = 20_000_000_000
_MKFS = ("-q", "-F", "-m", "0", "-J", "size=64", "-i", "8192", "-G", "4096")
_LAZY = "lazy_itable_init=1,lazy_journal_init=1,nodiscard"
_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Way:
    """One way; ``nbd``: by NBD and nbdfuse. ``options`` are of QEMU's node for the file."""

    name: str
    nbd: bool
    options: str = ""


WAYS = (
    Way("QEMU's FUSE export", nbd=False),
    Way("NBD and nbdfuse", nbd=True),
    Way("FUSE export, `cache.direct=on,aio=native`", nbd=False, options=",cache.direct=on,aio=native"),
    Way("FUSE export, `aio=io_uring`", nbd=False, options=",aio=io_uring"),
)
"""The first is what is used; the others are measured beside it."""


def shown_rows(
    stage: Stage, large: Callable[[Path], str], small: Callable[[Path], str], warm: Callable[[], None]
) -> list[Line]:
    """Write the same to a QCOW2 in each way. Without root, or without nbdfuse, what needs it is left out."""
    if os.geteuid() != 0:
        say("ways to show an image are measured by root only")
        return []
    ways = [way for way in WAYS if rivals.has("nbdfuse") or not way.nbd]
    write, untar = ({way.name: Samples() for way in ways} for _ in range(2))
    for run in range(stage.runs):
        for way in ways:
            if not _works(stage, way):
                continue
            say(f"shown: {way.name}, round {run + 1} of {stage.runs}")
            warm()
            with _mounted(stage, way) as point:
                stage.time(write[way.name], stage.shell(large(point)), moves_data=True)
                stage.time(untar[way.name], stage.shell(small(point)), moves_data=True)
    ours, *others = (way.name for way in ways)
    return [
        figures.faster(f"{what}, QCOW2 by {ours}", samples[ours], f"by {other}", samples[other])
        for what, samples in (("write", write), ("untar", untar))
        for other in others
        if samples[other].wall
    ]


def _works(stage: Stage, way: Way) -> bool:
    """Whether this machine's QEMU and kernel know the options."""
    probe = stage.folder / "probe"
    probe.write_bytes(bytes(1 << 20))
    node = f"driver=file,node-name=probe,filename={probe}{way.options}"
    words = ["qemu-storage-daemon", "--blockdev", node, "--daemonize", "--pidfile", str(stage.folder / "probe.pid")]
    done = subprocess.run(words, check=False, capture_output=True, env=stage.place.environment)
    if done.returncode == 0:
        _end(stage.folder / "probe.pid")
    probe.unlink()
    return done.returncode == 0


@contextmanager
def _mounted(stage: Stage, way: Way) -> Iterator[Path]:
    """A new ext4 in a new QCOW2, shown in this way; everything is gone afterwards."""
    folder = stage.folder / "shown"
    folder.mkdir()
    image, pid, point = folder / "image.qcow2", folder / "pid", folder / "mnt"

    def run(*words: str | Path) -> str:
        done = subprocess.run(words, check=True, capture_output=True, text=True, env=stage.place.environment)
        return done.stdout.strip()

    with ExitStack() as undo:
        undo.callback(folder.rmdir)
        run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=64K", image, str(_SIZE))
        undo.callback(image.unlink)
        file = f"driver=file,node-name=file,filename={image},discard=unmap{way.options}"
        disk = "driver=qcow2,node-name=disk,file=file,discard=unmap"
        export, shown = _export(folder, nbd=way.nbd)
        if not way.nbd:
            shown.touch()
            undo.callback(shown.unlink)
        words = ("--blockdev", file, "--blockdev", disk, *export, "--daemonize", "--pidfile", pid)
        run("qemu-storage-daemon", *words)
        undo.callback((folder / "nbd").unlink, missing_ok=True)
        undo.callback(_end, pid)
        if way.nbd:
            undo.enter_context(_nbdfuse(stage, folder, shown))
        loop = run("losetup", "--direct-io=off", "--find", "--show", shown)
        undo.callback(run, "losetup", "-d", loop)
        if Path(f"/sys/block/{Path(loop).name}/loop/dio").read_text().strip() != "0":
            raise RuntimeError(f"direct I/O is on for {loop}")
        run("mke2fs", "-t", "ext4", *_MKFS, "-E", _LAZY, loop)
        point.mkdir()
        undo.callback(point.rmdir)
        run("mount", "-o", "noinit_itable", loop, point)
        undo.callback(run, "umount", point)
        yield point


def _export(folder: Path, *, nbd: bool) -> tuple[tuple[str, ...], Path]:
    """Options of the storage daemon, and the file that will show the disk."""
    if not nbd:
        shown = folder / "shown"
        return ("--export", f"type=fuse,id=shown,node-name=disk,mountpoint={shown},writable=on"), shown
    server = f"addr.type=unix,addr.path={folder}/nbd"
    export = "type=nbd,id=shown,node-name=disk,name=disk,writable=on"
    return ("--nbd-server", server, "--export", export), folder / "fuse" / "disk"


@contextmanager
def _nbdfuse(stage: Stage, folder: Path, shown: Path) -> Iterator[None]:
    shown.parent.mkdir()
    pid = folder / "nbdfuse.pid"
    uri = f"nbd+unix:///disk?socket={folder}/nbd"
    with subprocess.Popen(["nbdfuse", "-P", pid, shown, uri], env=stage.place.environment) as process:
        try:
            _wait(pid.exists)
            yield
        finally:
            subprocess.run(["fusermount3", "-u", shown.parent], check=True)
            process.wait(_PATIENCE)
    pid.unlink()
    shown.parent.rmdir()


def _end(pid_file: Path) -> None:
    """End a daemon in order and wait until it has; it removes its own pid file."""
    os.kill(int(pid_file.read_text()), signal.SIGTERM)
    _wait(lambda: not pid_file.exists())


def _wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not until():
        if time.monotonic() > deadline:
            raise RuntimeError("a program of the benchmark neither starts nor ends")
        time.sleep(0.01)
