"""A development environment travels: create, mount, sync, unmount, export (killed half way, resumed), import, compare.

``python tests/bench/demo.py`` shows every command as a person would type it, with its output, and ends with a table.
Exit code 0: the imported disk holds exactly what the original tree holds. Everything it made is removed again.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.platform.errors import VdiskError
from portunix_vdisk.tests.bench import environment
from portunix_vdisk.tests.bench.compare import compare, report
from portunix_vdisk.tests.bench.killing import Finished, export_and_kill, reused
from portunix_vdisk.tests.bench.processes import Watch
from portunix_vdisk.tests.bench.workplace import CommandFailed, Workplace, can_be_root, can_be_rootless, workplace

DISK, COPY, ARCHIVE = "demo-dev", "demo-copy", "portable-dev.zip"
EXPECTED_RATIO = 0.25
"""Archive's size to the tree's, for the first guess of where half way is."""
_SECOND = 10**9
"""Nanoseconds to which fuse2fs keeps times (1.47.0; later ones exactly)."""
HALF_WAY = (0.30, 0.70)
"""Part of the finished archive that a killed export must have left, for the resume to prove something."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table; ``bytes`` is the size of the one file that it made."""

    what: str
    seconds: float
    bytes: int | None = None
    moves_data: bool = True


def main() -> int:
    """The whole demo; 1 if something differs, 6 if root is needed and not to be had, else the failed command's code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="where to work (default: /var/tmp)")
    environment.add_option(parser)
    try:
        rootless = not can_be_root() and can_be_rootless()
    except VdiskError as error:
        print(f"There is neither root nor passwordless sudo here, and {error.what}", file=sys.stderr)
        print(f"Nothing was done. {error.hint}; or run it as root: sudo python3 bootstrap.py demo", file=sys.stderr)
        return 6
    if rootless:
        print("There is neither root nor passwordless sudo here: programs of yours show the disks, which is slower.")
        parser.set_defaults(tree="small")
    options = parser.parse_args()
    if not options.folder.is_dir():
        parser.error(f"there is no folder {options.folder}")
    try:
        tree = environment.ensure(options.tree, lambda text: print(text, flush=True))
        free = shutil.disk_usage(options.folder).free
        if free < 6 * tree.bytes:
            needed = 6 * tree.bytes / 1e9
            print(f"{options.folder} has {free / 1e9:.1f} GB free, {needed:.1f} are needed", file=sys.stderr)
            print("Name another folder: python3 bootstrap.py demo --folder DIR", file=sys.stderr)
            return 1
        with workplace(options.folder.resolve(), "demo") as place:
            return travel(place, tree, rootless=rootless)
    except CommandFailed as error:
        print(f"\n{error}", file=sys.stderr)
        return error.status if error.status > 0 else 1
    except subprocess.CalledProcessError as error:
        print(f"\nThe demo failed: {error.cmd[0]} ended with status {error.returncode}, see above", file=sys.stderr)
    except (RuntimeError, OSError) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    return 1


def travel(place: Workplace, tree: environment.Tree, *, rootless: bool) -> int:
    """Everything between set-up and clean-up; ``rootless``: programs of the person will show the disks."""
    # Then a VHD would have a second program between the files and the image.
    kind = ("--type", "img") if rootless else ()
    print(f"A developer's environment: {tree.files:,} files, {tree.bytes:,} bytes in {tree.path}")
    print(f"Working in {place.folder}\n\n$ export PORTUNIX_HOME={place.environment['PORTUNIX_HOME']}")
    mount, copy_mount = str(place.folder / "mnt/dev"), str(place.folder / "mnt/copy")
    archive = place.folder / ARCHIVE
    rows: list[Row] = []

    def timed(what: str, act: Callable[[], object], *, moves_data: bool = True) -> None:
        os.sync()  # what came before must not slow this down
        began = time.perf_counter()
        act()
        if moves_data:
            os.sync()  # nor may this leave work to the next: "done" means on the disk
        rows.append(Row(what, time.perf_counter() - began, moves_data=moves_data))

    def vdisk(*words: str) -> Callable[[], object]:
        return lambda: place.show("portunix", "vdisk", *words)

    timed(
        "create, 20 GB",
        vdisk("create", "--name", DISK, "--size", "20GB", *kind),
        moves_data=False,
    )
    timed("mount", vdisk("mount", DISK, mount), moves_data=False)
    timed("sync", vdisk("sync", "--source", str(tree.path), "--target", f"{mount}/work"))
    timed("unmount", vdisk("unmount", mount), moves_data=False)

    resumed = export_with_a_kill(place, archive, tree, rows)
    size = archive.stat().st_size
    timed("import as another disk", vdisk("import", ARCHIVE, "--name", COPY))
    timed("mount it", vdisk("mount", COPY, copy_mount), moves_data=False)
    print(f"\nComparing {tree.path} with {copy_mount}/work, entry by entry …", flush=True)
    began = time.perf_counter()
    result = compare(tree.path, Path(copy_mount, "work"), tick=_SECOND if rootless else 1)
    print(report(result))
    rows.append(Row("compare", time.perf_counter() - began))
    vdisk("unmount", copy_mount)()
    vdisk("list")()
    rows += beside(place, tree)

    print(f"\n{table(rows, tree)}\n")
    print(f"size saved: {1 - size / tree.bytes:.1%} ({tree.bytes:,} bytes in files, {size:,} bytes in {ARCHIVE})")
    print(resumed)
    return 1 if result.differences else 0


def export_with_a_kill(place: Workplace, archive: Path, tree: environment.Tree, rows: list[Row]) -> str:
    """Export; kill everything half way; export again. What was reused, in words. Raises ``RuntimeError``.

    Half way is a guess until the archive's size is known: a guess that misses is repeated with the right number.
    """
    at = int(tree.bytes * EXPECTED_RATIO * 0.45)
    for _ in range(3):
        os.sync()
        killed = export_and_kill(place, DISK, archive, at)
        if isinstance(killed, Finished):
            print("\nIt was done before the moment came. Again, now that the size of the archive is known:")
            at = killed.size // 2
            archive.unlink()
            continue
        names = ", ".join(map(str, killed.processes))
        print(f"\n(killed with SIGKILL, all at one moment: {names}; the command ended with exit code {killed.status})")
        place.show("ls", "-l", archive.name + ".partial")
        with Watch(place.plugin_pid()) as watch:
            began = time.perf_counter()
            place.show("portunix", "vdisk", "export", "--disk", DISK, "--output", archive.name)
            os.sync()
            seconds = time.perf_counter() - began
        size, kept = archive.stat().st_size, reused(killed, archive)
        if HALF_WAY[0] <= killed.partial / size <= HALF_WAY[1]:
            rows.append(Row("export, until it was killed", killed.seconds, killed.partial))
            rows.append(Row("export, resumed", seconds, size))
            if kept < killed.partial * 0.9:
                raise RuntimeError(f"the resume used only {kept:,} of the {killed.partial:,} bytes that were there")
            return (
                f"reused on resume: {kept:,} of {killed.partial:,} bytes that the killed export had left\n"
                f"  ({kept / size:.0%} of the archive; the same file with the same content, compared by SHA-256);\n"
                f"  written by the resume: {watch.written:,} bytes"
            )
        print(f"\nThat was at {killed.partial / size:.0%}, not half way. Again, now that the size is known:")
        at = size // 2
        archive.unlink()
    raise RuntimeError("no export could be killed half way in three tries")


def beside(place: Workplace, tree: environment.Tree) -> list[Row]:
    """What a person would use instead, on the same tree, to the same filesystem."""
    rows = []
    packed = place.folder / "tree.tar.zst"
    copy = place.folder / "copy"
    copying = shlex.join(("cp", "-a", str(tree.path), copy.name))
    packing = f"tar -C {shlex.quote(str(tree.path))} -cf - . | zstd -q -3 -T0 -o {packed.name}"
    for what, line, made in (("cp -a", copying, None), ("tar | zstd -3 -T0", packing, packed)):
        os.sync()
        began = time.perf_counter()
        place.show("bash", "-o", "pipefail", "-c", line, line=line)
        os.sync()
        rows.append(Row(what, time.perf_counter() - began, made.stat().st_size if made else None))
    return rows


def table(rows: list[Row], tree: environment.Tree) -> str:
    """The figures, in columns. MB/s are those of the tree (for a killed and resumed export, of the two together)."""
    lines = [f"{'':30}{'files':>9}{'bytes':>16}{'seconds':>9}{'MB/s':>7}{'archive':>16}"]
    lines.append("-" * len(lines[0]))
    for row in rows:
        rate = f"{tree.bytes / row.seconds / 1e6:.0f}" if row.moves_data and not row.what.startswith("export,") else ""
        moved = (f"{tree.files:,}", f"{tree.bytes:,}") if row.moves_data else ("", "")
        made = f"{row.bytes:,}" if row.bytes is not None else ""
        lines.append(f"{row.what:30}{moved[0]:>9}{moved[1]:>16}{row.seconds:>9.2f}{rate:>7}{made:>16}")
    whole = sum(row.seconds for row in rows if row.what.startswith("export,"))
    lines.append(
        f"{'export, both parts':30}{tree.files:>9,}{tree.bytes:>16,}{whole:>9.2f}{tree.bytes / whole / 1e6:>7.0f}"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
