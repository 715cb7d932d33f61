"""How many bytes the processes of one process group write, by ``/proc/PID/io``."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path


def members(group: int) -> list[int]:
    """Processes of a process group."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if os.getpgid(int(folder.name)) == group:
                    found.append(int(folder.name))
            except ProcessLookupError:
                continue
    return found


class WriteWatch:
    """While the context lasts, samples ``write_bytes`` and peak memory of each process of a group."""

    def __init__(self, group: int) -> None:
        self.group = group
        self.first: dict[int, int] = {}
        self.last: dict[int, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def written(self) -> int:
        """Bytes that all of them together sent to the storage layer.

        A parent's figure takes over that of a child when the child is waited for, so the leader has the sum at the end.
        """
        return max(last - self.first.get(pid, 0) for pid, last in self.last.items())

    def __enter__(self) -> WriteWatch:
        for pid in members(self.group):
            self.first[pid] = self._bytes(pid)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            busiest = max((pid for pid in self.last if pid != self.group), key=lambda pid: self.last[pid], default=0)
            if not Path(f"/proc/{busiest}").exists():
                break
            time.sleep(0.02)
        self.last[self.group] = self._bytes(self.group)
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.is_set():
            for pid in members(self.group):
                value = self._bytes(pid)
                if value:
                    self.last[pid] = value
            time.sleep(0.005)

    def _bytes(self, pid: int) -> int:
        try:
            for line in Path(f"/proc/{pid}/io").read_text().splitlines():
                if line.startswith("write_bytes:"):
                    return int(line.split()[1])
        except OSError:
            pass
        return 0
