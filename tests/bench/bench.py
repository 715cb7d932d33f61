"""How fast it is beside what a person would use instead. ``doit bench`` runs this.

Every pair is measured in turn in one run on one tree, ours first, then the other, and again; medians count. "Done"
means for both of a pair that everything is on the disk: both times include a ``sync``. Nothing of this is a test:
figures that miss their target are printed as missed, and the exit code is 0 all the same.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from portunix_vdisk.tests.bench import environment, figures
from portunix_vdisk.tests.bench.figures import Row
from portunix_vdisk.tests.bench.overhead import Overhead, measure_export
from portunix_vdisk.tests.bench.processes import Watch
from portunix_vdisk.tests.bench.workplace import CommandFailed, Workplace, can_be_root, workplace

GROUPS = ("create", "mount", "unmount", "list", "sync", "export", "import", "memory", "doit")
DISK, COPY = "bench-dev", "bench-copy"
MEMORY = 300_000_000
"""Bytes that a worker may use at most."""
SHARE = 0.05
"""Part of an export that may go to anything but its steps."""


Action = Callable[[], object]
Prepare = Callable[[Path], None]


class Bench:
    """One run of the benchmark in one workplace."""

    def __init__(self, place: Workplace, tree: environment.Tree, runs: int) -> None:
        self.place = place
        self.tree = tree
        self.runs = runs
        self.peaks: dict[str, int] = {}
        self.overheads: list[Overhead] = []
        self.image = Path()
        self.archive = place.folder / "bench.zip"
        self.packed = place.folder / "bench.tar.zst"
        self.rows = {
            "create": [Row("create 20 GB", at_most=1.0)],
            "mount": [Row("mount", at_most=0.5)],
            "unmount": [Row("unmount", at_most=3.0)],
            "list": [Row("list, plugin running", at_most=0.3), Row("list, plugin not running", at_most=1.5)],
            "sync": [Row("sync, first", "cp -a"), Row("sync, nothing changed")],
            "export": [
                Row("export, warm", "tar \\| zstd -3 -T0", times_as_fast=1.0),
                Row("export, cold", "tar \\| zstd -3 -T0", times_as_fast=2.0),
            ],
            "import": [
                Row("import, warm", "zstd -d \\| tar x"),
                Row("import, cold", "zstd -d \\| tar x", times_as_fast=2.0),
            ],
        }

    def vdisk(self, *words: str) -> Action:
        """An action that runs an operation."""
        return lambda: self.place.quiet("portunix", "vdisk", *words)

    def shell(self, line: str) -> Action:
        """An action that runs a shell's pipeline in the workplace."""
        return lambda: self.place.quiet("bash", "-o", "pipefail", "-c", line)

    def time(self, samples: figures.Samples, act: Action, *, moves_data: bool = False) -> None:
        """Run it once and note the seconds; with ``moves_data`` until all of it is on the disk."""
        os.sync()
        began = time.perf_counter()
        act()
        if moves_data:
            os.sync()
        samples.seconds.append(time.perf_counter() - began)

    def move(self, row: Row, prepare: Prepare, ours: tuple[Path, Action], other: tuple[Path, Action]) -> None:
        """One run of a pair; each is what it reads, prepared untimed, and the action."""
        prepare(ours[0])
        with Watch(self.place.plugin_pid()) as watch:
            self.time(row.ours, ours[1], moves_data=True)
        name = row.name.partition(",")[0]
        self.peaks[name] = max(self.peaks.get(name, 0), watch.memory)
        prepare(other[0])
        self.time(row.other, other[1], moves_data=True)

    def disks(self) -> None:
        """Create, mount, sync, unmount, list; leaves one filled, unmounted disk."""
        mount, copy = str(self.place.folder / "mnt"), self.place.folder / "copy"
        sync = self.vdisk("sync", "--source", str(self.tree.path), "--target", f"{mount}/work")
        copy_tree = self.shell(f"cp -a {str(self.tree.path)!r} {copy.name}")
        first, second = self.rows["sync"]
        for run in range(self.runs):
            if run:
                self.place.quiet("portunix", "vdisk", "delete", DISK, "--yes")
            say(f"disks, run {run + 1} of {self.runs}")
            self.time(self.rows["create"][0].ours, self.vdisk("create", "--name", DISK, "--size", "20GB"))
            self.time(self.rows["mount"][0].ours, self.vdisk("mount", DISK, mount))
            self.move(first, warm, (self.tree.path, sync), (self.tree.path, copy_tree))
            self.time(second.ours, sync)
            shutil.rmtree(copy)
            self.time(self.rows["unmount"][0].ours, self.vdisk("unmount", mount))
            running, stopped = self.rows["list"]
            self.time(running.ours, self.vdisk("list"))
            self.place.quiet("portunix", "plugin", "stop", "vdisk")
            self.time(stopped.ours, self.vdisk("list"))
        self.image = Path(self.place.ask("portunix", "vdisk", "info", DISK)["disk"]["path"])

    def exports(self) -> None:
        """Export beside tar, warm and cold; leaves the archive and the packed tar."""
        pack = self.shell(f"tar -C {str(self.tree.path)!r} -cf - . | zstd -q -3 -T0 -o {self.packed.name}")
        export = self.vdisk("export", "--disk", DISK, "--output", self.archive.name)
        for row, prepare in zip(self.rows["export"], (warm, cold), strict=True):
            for run in range(self.runs):
                say(f"{row.name}, run {run + 1} of {self.runs}")
                self.archive.unlink(missing_ok=True)
                self.packed.unlink(missing_ok=True)
                self.move(row, prepare, (self.image, export), (self.tree.path, pack))

    def imports(self) -> None:
        """Import beside unpacking, warm and cold."""
        folder = self.place.folder / "unpacked"
        bring_in = self.vdisk("import", self.archive.name, "--name", COPY)
        unpack = self.shell(f"zstd -dcq {self.packed.name} | tar -C {folder.name} -xf -")
        for row, prepare in zip(self.rows["import"], (warm, cold), strict=True):
            for run in range(self.runs):
                say(f"{row.name}, run {run + 1} of {self.runs}")
                folder.mkdir()
                self.move(row, prepare, (self.archive, bring_in), (self.packed, unpack))
                self.place.quiet("portunix", "vdisk", "delete", COPY, "--yes")
                shutil.rmtree(folder)

    def own_cost(self) -> None:
        """How much of an export is not its steps' work."""
        for run in range(self.runs):
            say(f"doit's own cost, run {run + 1} of {self.runs}")
            output = self.place.folder / "cost.zip"
            warm(self.image)
            os.sync()
            self.overheads.append(measure_export(self.place.folder / "home", DISK, output))
            output.unlink()

    def report(self, groups: set[str]) -> str:
        """The table and what must be known to read it."""
        chosen = [row for group, rows in self.rows.items() if group in groups for row in rows]
        cells = [row.cells() for row in chosen if row.ours.seconds]
        if "memory" in groups:
            for name, peak in self.peaks.items():
                size = f"{peak / 1e6:.0f} MB"
                cells.append(
                    (f"peak memory of a worker, {name}", size, "", "", "under 300 MB", figures.verdict(peak < MEMORY))
                )
        if self.overheads:
            middle = sorted(self.overheads, key=lambda overhead: overhead.share)[len(self.overheads) // 2]
            what = f"{middle.share:.1%} of {middle.whole:.2f} s, {middle.tasks} tasks"
            cells.append(
                ("doit's own cost in an export", what, "", "", "under 5 %", figures.verdict(middle.share < SHARE))
            )
        lines = [
            figures.table(cells),
            "",
            f"Machine: {figures.machine(self.place.folder)}.",
            f"Tree: {self.tree.files:,} files, {self.tree.bytes / 1e9:.2f} GB, from registry packages"
            + (f"; archive {self.archive.stat().st_size:,} bytes" if self.archive.exists() else "")
            + (f", tar.zst {self.packed.stat().st_size:,} bytes" if self.packed.exists() else "")
            + ".",
            f"Medians of {self.runs} (smallest to largest). Times beside another way include a `sync` at the end, on",
            "both sides; cold means that the kernel's caches were dropped before.",
        ]
        return "\n".join(lines)


def say(text: str) -> None:
    """What is going on, on standard error."""
    print(f"… {text}", file=sys.stderr, flush=True)


def warm(path: Path) -> None:
    """Bring a file, or all files below a folder, into the kernel's cache."""
    os.sync()
    names = (Path(folder, name) for folder, _, files in os.walk(path) for name in files) if path.is_dir() else [path]
    for name in names:
        if name.is_symlink():
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


def main() -> int:
    """Measure what was asked for and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="how often each thing is measured (default: 3)")
    parser.add_argument("--rows", default=",".join(GROUPS), help=f"some of: {','.join(GROUPS)}")
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="where to work (default: /var/tmp)")
    parser.add_argument("--small", action="store_true", help="with a tenth of the environment")
    options = parser.parse_args()
    groups = set(options.rows.split(","))
    if unknown := groups - set(GROUPS):
        parser.error(f"no such rows: {', '.join(sorted(unknown))}")
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    if not can_be_root():
        print("Mounting needs root, and there is no passwordless sudo here.", file=sys.stderr)
        return 6
    try:
        tree = environment.ensure("small" if options.small else "full", say)
        with workplace(options.folder.resolve(), "bench") as place:
            bench = Bench(place, tree, options.runs)
            os.environ.clear()  # the measurement of doit's cost is a client of its own
            os.environ.update(place.environment)
            bench.disks()
            if groups & {"export", "import", "memory"}:
                bench.exports()
            if groups & {"import", "memory"}:
                bench.imports()
            if "doit" in groups:
                bench.own_cost()
            text = bench.report(groups)
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    except (CommandFailed, subprocess.CalledProcessError, RuntimeError, OSError) as error:
        print(f"\nThe benchmark failed: {error}", file=sys.stderr)
        return 1
    print(text)
    if options.output:
        options.output.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
