"""What all rows share: the tree, a disk that holds it, timed commands with cold or warm caches, runs by turns."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from portunix_vdisk.tests.bench.environment import Tree
from portunix_vdisk.tests.bench.figures import Samples
from portunix_vdisk.tests.bench.processes import Watch
from portunix_vdisk.tests.bench.workplace import Workplace

DISK, COPY = "bench-dev", "bench-copy"
SLOW = 20.0
"""Seconds: what takes longer in the first round is run once only, unless it is ours."""

Action = Callable[[], object]
Cache = Callable[[Path], None]


@dataclass(slots=True)
class Contestant:
    """One way to do a thing, and how long it took.

    Args:
        name: how the table calls it, in Markdown.
        act: what is timed.
        reads: what it reads, a file or a folder: brought into the kernel's cache before, or out of it.
        before: makes everything ready; not timed.
        once: run it in the first round only.
        peak: of our operations, the name under which their memory is noted.
    """

    name: str
    act: Action
    reads: Path
    before: Action = lambda: None
    once: bool = False
    peak: str = ""
    samples: Samples = field(default_factory=Samples)

    @property
    def done(self) -> bool:
        """Whether another round would take too long."""
        slow = not self.peak and bool(self.samples.synced) and self.samples.synced[0] > SLOW
        return bool(self.samples.wall) and (self.once or slow)


class Stage:
    """One run of the benchmark in one workplace.

    Args:
        place: where the commands run.
        tree: what is on the disk.
        runs: rounds of everything that isn't too slow for it.
    """

    def __init__(self, place: Workplace, tree: Tree, runs: int) -> None:
        self.place = place
        self.tree = tree
        self.runs = runs
        self.folder = place.folder
        self.mount_point = place.folder / "mnt"
        self.archive = place.folder / "bench.zip"
        self.packed = place.folder / "bench.tar.zst"
        self.mirror = place.folder / "mirror"
        """Where ``rsync`` keeps its copy, for bringing it up to date later."""
        self.peaks: dict[str, int] = {}
        """Largest memory of any worker by the name of the operation, in bytes."""
        self.image = Path()
        """The image of a disk that holds the tree and is not mounted, once it is filled."""
        self._copy = place.folder / "tree"

    def fill(self) -> None:
        """Make the disk that holds the tree, untimed, unless a row before left it."""
        if not self.image.name:
            say("filling a disk")
            self.place.quiet("portunix", "vdisk", "create", "--name", DISK, "--size", "20GB")
            self.mounted(lambda: self.place.quiet("portunix", "vdisk", *self.sync_words()))
            self.image = self.image_of(DISK)

    @property
    def copy(self) -> Path:
        """A copy of the tree on the host's filesystem that may be changed; made by whoever asks first."""
        self.ready(self._copy, self.shell(f"cp -a {quoted(self.tree.path)} {quoted(self._copy)}"))
        return self._copy

    @property
    def work(self) -> Path:
        """Where the tree is on the mounted disk."""
        return self.mount_point / "work"

    def sync_words(self) -> tuple[str, ...]:
        """The command that brings the tree onto the mounted disk."""
        return ("sync", "--source", str(self.tree.path), "--target", str(self.work))

    def ready(self, path: Path, make: Action) -> None:
        """Make what a row needs, untimed, unless a row before left it."""
        if not path.exists():
            say(f"making {path.name}")
            make()

    def image_of(self, disk: str) -> Path:
        """The image file of a disk."""
        return Path(self.place.ask("portunix", "vdisk", "info", disk)["disk"]["path"])

    def mounted(self, act: Action) -> None:
        """Do something, untimed, while the disk is mounted."""
        self.place.quiet("portunix", "vdisk", "mount", DISK, str(self.mount_point))
        try:
            act()
        finally:
            self.place.quiet("portunix", "vdisk", "unmount", str(self.mount_point))

    def vdisk(self, *words: str) -> Action:
        """An action that runs an operation."""
        return lambda: self.place.quiet("portunix", "vdisk", *words)

    def export(self, output: Path, disk: str = DISK) -> Action:
        """An action that exports the disk."""
        return self.vdisk("export", "--disk", disk, "--level", "3", "--output", str(output))

    def shell(self, line: str) -> Action:
        """An action that runs a shell's pipeline in the workplace."""
        return lambda: self.place.quiet("bash", "-o", "pipefail", "-c", line)

    def program(self, name: str, *words: str | Path) -> float:
        """Run a program of this folder that measures for itself and prints seconds."""
        path = Path(__file__).with_name(name)
        command = [sys.executable, path, *words]
        done = subprocess.run(command, env=self.place.environment, check=True, capture_output=True, text=True)
        return float(done.stdout)

    def time(self, samples: Samples, act: Action, *, moves_data: bool = False) -> None:
        """Run it once and note the seconds; with ``moves_data`` also those until all of it is on the disk."""
        os.sync()  # what came before must not slow this down
        began = time.perf_counter()
        act()
        wall = time.perf_counter() - began
        if moves_data:
            os.sync()
        samples.add(wall, time.perf_counter() - began if moves_data else None)

    def turn(self, one: Contestant, cache: Cache, what: str = "") -> None:
        """One round of one contestant, unless another one would take too long."""
        if one.done:
            return
        name = one.name.replace("\\|", "|")
        say(f"{what}: {name}, round {len(one.samples.wall) + 1} of {1 if one.once else self.runs}")
        one.before()
        cache(one.reads)
        watch = Watch(self.place.plugin_pid()) if one.peak else None
        with watch or nullcontext():
            self.time(one.samples, one.act, moves_data=True)
        if watch is not None:
            self.peaks[one.peak] = max(self.peaks.get(one.peak, 0), watch.memory)


def quoted(path: Path) -> str:
    """A path for a shell's line."""
    return shlex.quote(str(path))


def say(text: str) -> None:
    """What is going on, on standard error."""
    print(f"… {text}", file=sys.stderr, flush=True)


def warm(path: Path) -> None:
    """Bring a file, or all files below a folder, into the kernel's cache."""
    os.sync()
    names = (Path(folder, name) for folder, _, files in os.walk(path) for name in files) if path.is_dir() else [path]
    for name in names:
        if name.is_symlink() or not name.is_file():
            continue
        with name.open("rb", buffering=0) as file:
            while file.read(1 << 22):
                pass


def cold(path: Path) -> None:
    """Drop the kernel's caches of everything. Raises ``CalledProcessError`` without root or passwordless sudo."""
    del path
    os.sync()
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    subprocess.run([*prefix, "sh", "-c", "echo 3 > /proc/sys/vm/drop_caches"], check=True, stdin=subprocess.DEVNULL)
