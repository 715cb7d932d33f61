"""Export, kill everything half way, and prove afterwards how much of the work was not done again."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.tests.bench.processes import Process, kill_group
from portunix_vdisk.tests.bench.workplace import CommandFailed, Workplace

_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Killed:
    """An export that was killed: what its partial file held then, and who died."""

    partial: int
    """Bytes in the partial file."""
    inode: int
    pieces: tuple[bytes, ...]
    """SHA-256 of each whole MiB of it."""
    seconds: float
    status: int
    """Exit code of the command that lost its plugin."""
    processes: tuple[Process, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """An export that ended before the moment came; its archive's size in bytes is known now."""

    size: int


def export_and_kill(place: Workplace, disk: str, output: Path, at: int) -> Killed | Finished:
    """Export ``disk`` and kill server, worker and their children together once the partial file has ``at`` bytes.

    Raises ``CommandFailed`` if the export fails by itself, ``RuntimeError`` if there is no worker to kill.
    """
    partial = output.with_name(output.name + ".partial")
    pid = place.plugin_pid()
    words = ("portunix", "vdisk", "export", "--disk", disk, "--output", output.name)
    began = time.perf_counter()
    with place.start(*words) as command:
        try:
            while _size(partial) < at:
                status = command.poll()
                if status == 0:
                    return Finished(output.stat().st_size)
                if status is not None:
                    raise CommandFailed(words, status)
                time.sleep(0.002)
            processes = kill_group(pid)
            seconds = time.perf_counter() - began
            status = command.wait(30)
        except BaseException:
            command.kill()
            raise
    if not any(process.name == "worker" for process in processes):
        raise RuntimeError(f"no worker among the killed processes: {', '.join(map(str, processes))}")
    if output.exists():
        return Finished(output.stat().st_size)
    found = partial.stat()
    return Killed(found.st_size, found.st_ino, tuple(_pieces(partial)), seconds, status, tuple(processes))


def reused(killed: Killed, archive: Path) -> int:
    """Bytes at the beginning of the finished archive that are those of the partial file, in the very same file.

    Counted in whole MiB; 0 if the archive is another file than the partial one was.
    """
    if archive.stat().st_ino != killed.inode:
        return 0
    same = 0
    for before, now in zip(killed.pieces, _pieces(archive), strict=False):
        if before != now:
            break
        same += _PIECE
    return same


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while len(piece := file.read(_PIECE)) == _PIECE:
            yield hashlib.sha256(piece).digest()
