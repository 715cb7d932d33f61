"""Looking at a process group from outside: who is in it, what it writes, how much memory it takes; and killing it."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType


@dataclass(frozen=True, slots=True)
class Process:
    """A living process of a group; ``name`` tells people which one it is."""

    pid: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} {self.pid}"


def members(group: int) -> list[Process]:
    """Processes of a process group that are not yet dead (a zombie is dead)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, its_group = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[:3]
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if int(its_group) == group and state not in "ZX":
            found.append(Process(int(folder.name), _name(words)))
    return found


def _name(words: list[str]) -> str:
    for word in words:
        if word.startswith("portunix_vdisk.plugin."):
            return word.rpartition(".")[2]
    names = [Path(word).name for word in words if word and not word.startswith("-")]
    return "server" if "portunix-vdisk-plugin" in names else (names or ["process"])[0]


def kill_group(pid: int) -> list[Process]:
    """SIGKILL the whole process group of ``pid`` at one moment and wait until nobody of it lives; who was in it.

    Raises ``RuntimeError`` if that group is our own, or if somebody survives.
    """
    group = os.getpgid(pid)
    if group == os.getpgrp():
        raise RuntimeError("the plugin runs in the group of this very process")
    killed = members(group)
    os.killpg(group, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while left := members(group):
        if time.monotonic() > deadline:
            raise RuntimeError(f"still alive after SIGKILL: {', '.join(map(str, left))}")
        time.sleep(0.01)
    return killed


class Watch:
    """Watches the workers in a process group, from a thread, while the context lasts."""

    def __init__(self, pid: int, interval: float = 0.02) -> None:
        self._group = os.getpgid(pid)
        self._interval = interval
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._memory: dict[int, int] = {}
        self._written: dict[int, int] = {}
        self._baseline: dict[int, int] = {}

    def __enter__(self) -> Watch:
        self._look(self._baseline)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def memory(self) -> int:
        """Largest resident size in bytes that any worker had (``VmHWM`` of proc(5))."""
        return max(self._memory.values(), default=0)

    @property
    def written(self) -> int:
        """Bytes that workers sent to storage (``write_bytes`` of proc(5)), as far as the last look saw.

        The server is left out: the kernel adds the counts of an ended child to those of its parent.
        """
        return sum(count - self._baseline.get(pid, 0) for pid, count in self._written.items())

    def _poll(self) -> None:
        known: list[Process] = []
        next_listing = 0.0
        while not self._ended.wait(self._interval):
            if time.monotonic() >= next_listing:  # listing all of /proc costs some milliseconds
                known, next_listing = members(self._group), time.monotonic() + 0.2
            for process in known:
                self._read(process, self._written)

    def _look(self, written: dict[int, int]) -> None:
        for process in members(self._group):
            self._read(process, written)

    def _read(self, process: Process, written: dict[int, int]) -> None:
        folder = Path("/proc", str(process.pid))
        try:
            status, counters = (folder / "status").read_text(), (folder / "io").read_text()
        except OSError:  # it has ended
            return
        if process.name == "worker":
            written[process.pid] = _field(counters, "write_bytes:")
            self._memory[process.pid] = max(self._memory.get(process.pid, 0), _field(status, "VmHWM:") * 1024)


def _field(text: str, name: str) -> int:
    for line in text.splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    return 0
