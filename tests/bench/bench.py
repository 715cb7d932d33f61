"""How fast it is beside what a person would use instead. ``doit bench`` runs this.

Everybody is measured by turns in one run on one tree, ours first, then the others, and again; medians count. Times in
which data is moved end when all of it is on the disk, on both sides. Nothing of this is a test: figures that miss their
target are printed as missed, and the exit code is 0 all the same.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from portunix_vdisk.tests.bench import (
    disks,
    environment,
    exports,
    figures,
    huge,
    images,
    imports,
    overhead,
    resume,
    rivals,
    second,
)
from portunix_vdisk.tests.bench.figures import Line
from portunix_vdisk.tests.bench.host import machine
from portunix_vdisk.tests.bench.stage import Stage, say
from portunix_vdisk.tests.bench.workplace import CommandFailed, can_be_root, workplace

ROWS: Mapping[str, Callable[[Stage], list[Line]]] = {
    "disks": disks.rows,
    "export": exports.rows,
    "import": imports.rows,
    "second": second.rows,
    "resume": resume.rows,
    "huge": huge.rows,
    "overhead": overhead.rows,
    "images": images.rows,
}
_UNFILLED = ("disks", "images")
"""Groups that need no disk with the tree on it."""
README = Path(__file__).resolve().parents[2] / "README.md"
BEGIN, END = "<!-- begin: doit bench -->\n", "<!-- end: doit bench -->\n"


def measure(stage: Stage, groups: list[str]) -> list[Line]:
    """All lines of these groups, in the order of the table."""
    lines: list[Line] = []
    for name, rows in ROWS.items():
        if name in groups:
            began = time.monotonic()
            if name not in _UNFILLED:
                stage.fill()
            lines += rows(stage)
            say(f"{name}: {time.monotonic() - began:.0f} s in all")
    return lines + huge.peaks(stage)


def report(stage: Stage, lines: list[Line], minutes: float) -> str:
    """The table and what must be known to read it."""
    return "\n".join(
        [
            figures.table(lines),
            "",
            f"Machine: {machine(stage.folder)}.",
            f"Tree: {stage.tree.files:,} files, {stage.tree.bytes / 1e9:.2f} GB, from registry packages.",
            f"Medians of {stage.runs} (smallest to largest), once of what takes other programs more than 20 s. Times",
            "include a `sync` at the end; cold means that the kernel's caches were dropped before. It took"
            f" {minutes:.0f} minutes.",
        ]
    )


def rewrite_readme(text: str, readme: Path = README) -> None:
    """Put the table between the marks. Raises ``RuntimeError`` if they are not there once each, in order."""
    whole = readme.read_text(encoding="utf-8")
    before, begin, rest = whole.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after or END in after:
        raise RuntimeError(f"{readme} has no place for the table between {BEGIN.strip()} and {END.strip()}")
    fresh = readme.with_name(readme.name + ".partial")
    fresh.write_text(f"{before}{begin}{text}\n{end}{after}", encoding="utf-8")
    fresh.rename(readme)


def write_json(path: Path, stage: Stage, lines: list[Line]) -> None:
    """All figures with each round's seconds, for programs."""
    tree = {"files": stage.tree.files, "bytes": stage.tree.bytes}
    found = {
        "machine": machine(stage.folder),
        "tree": tree,
        "runs": stage.runs,
        "lines": [asdict(one) for one in lines],
    }
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def chosen(words: list[str] | None) -> argparse.Namespace:
    """The options; ends the program if they make no sense."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="how often each thing is measured (default: 3)")
    parser.add_argument("--rows", default=",".join(ROWS), help=f"some of: {','.join(ROWS)}")
    environment.add_option(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures to this file")
    parser.add_argument("--readme", action="store_true", help="also put the table into README.md")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="where to work (default: /var/tmp)")
    options = parser.parse_args(words)
    options.rows = options.rows.split(",")
    if unknown := set(options.rows) - set(ROWS):
        parser.error(f"no such rows: {', '.join(sorted(unknown))}")
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    if options.json is not None and not options.json.parent.is_dir():
        parser.error(f"there is no folder {options.json.parent}")
    return options


def main(words: list[str] | None = None) -> int:
    """Measure what was asked for and write the table."""
    options = chosen(words)
    if not can_be_root():
        print("Mounting needs root, and there is no passwordless sudo here.", file=sys.stderr)
        return 6
    began = time.monotonic()
    try:
        tree = environment.ensure(options.tree, say)
        rivals.install()
        with workplace(options.folder.resolve(), "bench") as place:
            os.environ.clear()  # the measurement of doit's cost is a client of its own
            os.environ.update(place.environment)
            stage = Stage(place, tree, options.runs)
            lines = measure(stage, options.rows)
            text = report(stage, lines, (time.monotonic() - began) / 60)
            if options.json is not None:
                write_json(options.json, stage, lines)
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    except (CommandFailed, subprocess.CalledProcessError, RuntimeError, OSError) as error:
        print(f"\nThe benchmark failed: {error}", file=sys.stderr)
        return 1
    print(f"{text}\n\n{figures.summary(lines)}")
    if options.readme:
        rewrite_readme(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
