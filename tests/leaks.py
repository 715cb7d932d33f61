"""What a test run may leave behind on the machine, and whether it did."""

from __future__ import annotations

import gc
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

DAEMONS = frozenset(
    {"qemu-storage-daemon", "qemu-nbd", "nbdfuse", "fuse2fs", "portunix-vdisk-plugin", "portunix-vdisk-attach"}
)
"""Names of programs that our commands start and that may outlive them."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What of ours, or of the kernel's on our behalf, there is: each thing by a name that stays the same."""

    loops: frozenset[str] = field(default_factory=frozenset)
    mounts: frozenset[str] = field(default_factory=frozenset)
    processes: frozenset[str] = field(default_factory=frozenset)
    files: frozenset[str] = field(default_factory=frozenset)
    descriptors: frozenset[str] = field(default_factory=frozenset)

    def changes(self, later: Machine) -> list[str]:
        """What is more or less in ``later``, a line each."""
        found = []
        for kind in ("loops", "mounts", "processes", "files", "descriptors"):
            before, after = getattr(self, kind), getattr(later, kind)
            found += [f"{kind}: left behind: {name}" for name in sorted(after - before)]
            if kind not in ("processes", "descriptors"):  # what was open or ran before may well end by itself
                found += [f"{kind}: gone: {name}" for name in sorted(before - after)]
        return found


def look() -> Machine:
    """The machine as it is now."""
    return Machine(
        frozenset(_loops()),
        frozenset(_mounts()),
        frozenset(_processes()),
        frozenset(_files()),
        frozenset(_descriptors()),
    )


def look_at_this_process() -> Machine:
    """What this process alone has open."""
    return Machine(descriptors=frozenset(_descriptors()))


def settled(before: Machine, patience: float = 5.0) -> list[str]:
    """What differs from ``before``; processes that are just ending get ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while (changes := before.changes(look())) and time.monotonic() < deadline:
        time.sleep(0.1)
    return changes


def _loops() -> Iterator[str]:
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            target = backing.read_text(errors="backslashreplace").strip()
            yield f"{backing.parts[3]} on {target}"
        except OSError:
            continue


def _mounts() -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        left, _, right = line.partition(" - ")
        yield f"{left.split()[4]} ({right.split()[0]})"


def _processes() -> Iterator[str]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            began = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[19]
        except OSError:
            continue
        if any(Path(word).name in DAEMONS for word in words[:2]) or any(
            word.startswith(("portunix_vdisk.plugin", "portunix_vdisk.tasks.serve_archive")) for word in words
        ):
            yield f"{folder.name} (began at {began}): {' '.join(words).strip()[:200]}"


def _files() -> Iterator[str]:
    for folder in {Path(tempfile.gettempdir()), Path("/var/tmp")}:
        yield from (str(path) for path in folder.glob("*portunix*"))
    state = Path.home() / ".portunix"
    if state.exists():  # tests have a state folder of their own
        yield str(state)
    for top in (state / "vdisk/run", Path("/run/portunix-vdisk")):
        for folder, folders, files in os.walk(top):  # unlike rglob, it bears folders that vanish meanwhile
            yield from (str(Path(folder, name)) for name in (*folders, *files))


def _descriptors() -> Iterator[str]:
    """Files that this process itself has open, but for those that it has forgotten and not yet closed."""
    gc.collect()
    for link in Path("/proc/self/fd").iterdir():
        try:
            if stat.S_ISREG(link.stat().st_mode):
                yield f"{link.name} on {link.readlink()}"
        except OSError:
            continue
