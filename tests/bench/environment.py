"""A realistic developer's environment on this machine, built once from registry packages and kept in the cache.

``python tests/bench/environment.py`` prints where it is; ``--tree small`` makes a tenth of it, for quick system tests,
``--tree large`` one of some years, of about 300,000 files.
The cache is ``${XDG_CACHE_HOME:-~/.cache}/portunix-vdisk``; removing that folder costs only the next download.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from portunix_vdisk.tests.bench import packages, peculiarities, years

VERSION = 1
"""Raised when what is built changes, so that an older cache is not taken for the new one."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Tree:
    """The finished environment: its folder, entries other than folders, and the sum of their sizes in bytes."""

    path: Path
    files: int
    bytes: int
    seconds: float
    """What building it took, downloads included."""


Part = Callable[[Path, packages.Installer], None]

PARTS: Mapping[str, Part] = {
    "projects/webapi": packages.web_api,
    "projects/datascience": packages.data_science,
    "projects/storefront": packages.storefront,
    "projects/dashboard": packages.dashboard,
    "projects/portunix-vdisk": packages.this_checkout,
    "home": peculiarities.home,
}
"""Folder in the tree and what fills it."""

VARIANTS: Mapping[str, tuple[str, ...]] = {
    "full": tuple(PARTS),
    "large": (*PARTS, *years.parts()),
    "small": ("projects/webapi", "projects/portunix-vdisk", "home"),
}


def add_option(parser: argparse.ArgumentParser) -> None:
    """``--tree``: which of the variants."""
    text = "which environment: small is a tenth of full, from about 40 MB of downloads; large is four times full"
    parser.add_argument("--tree", choices=tuple(VARIANTS), default="full", help=text)


def cache_folder() -> Path:
    """Where environments are kept between runs; nothing is created."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "portunix-vdisk"


def ensure(variant: str = "full", say: Say = print) -> Tree:
    """The environment, built if it is not there yet; several processes may ask at once.

    Raises ``subprocess.CalledProcessError`` when a package client fails and ``OSError`` when the disk does.
    """
    name = f"environment-v{VERSION}" + ("" if variant == "full" else f"-{variant}")
    final = cache_folder() / name
    final.parent.mkdir(parents=True, exist_ok=True)
    with _alone(final.with_name(name + ".lock"), say):
        found = _finished(final)
        if found is not None:
            return found
        return _build(final, VARIANTS[variant], say)


def _finished(final: Path) -> Tree | None:
    try:
        manifest = json.loads((final / "manifest.json").read_text(encoding="utf-8"))
        tree = Tree(final / "tree", int(manifest["files"]), int(manifest["bytes"]), float(manifest["seconds"]))
    except (OSError, ValueError, KeyError):
        return None
    return tree if tree.path.is_dir() else None


def _build(final: Path, parts: tuple[str, ...], say: Say) -> Tree:
    partial = final.with_name(final.name + ".partial")
    for rest in (partial, final):
        if rest.exists():
            shutil.rmtree(rest)
    tree = partial / "tree"
    tree.mkdir(parents=True)
    say(f"Building a developer's environment in {final} (once; later runs use it as it is)")
    began = time.monotonic()
    installer = packages.Installer(partial / "tools", say)
    fill = {**PARTS, **years.parts()}
    for part in parts:
        started = time.monotonic()
        folder = tree / part
        folder.mkdir(parents=True)
        fill[part](folder, installer)
        say(f"  {part}: {time.monotonic() - started:.0f} s")
    if (tree / "projects/datascience").is_dir():
        linked = peculiarities.link_equal_files(tree / "projects/webapi", tree / "projects/datascience")
        say(f"  {linked} files that both Python environments have are hard links, as uv installs them")
    shutil.rmtree(installer.tools, ignore_errors=True)
    files, size = measure(tree)
    result = Tree(final / "tree", files, size, time.monotonic() - began)
    record = asdict(result) | {"path": "tree", "version": VERSION, "parts": parts, "python": sys.version}
    (partial / "manifest.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    os.sync()
    partial.rename(final)
    say(f"  {files:,} files, {size / 1e9:.2f} GB in {result.seconds:.0f} s")
    return result


def measure(folder: Path) -> tuple[int, int]:
    """Entries other than folders, and the sum of the sizes of the files among them (each hard link group once)."""
    files = size = 0
    seen: set[tuple[int, int]] = set()
    for entry in _entries(os.fsencode(folder)):
        files += 1
        stat = entry.stat(follow_symlinks=False)
        if entry.is_symlink() or (stat.st_dev, stat.st_ino) in seen:
            continue
        if stat.st_nlink > 1:
            seen.add((stat.st_dev, stat.st_ino))
        size += stat.st_size
    return files, size


def _entries(folder: bytes) -> Iterator[os.DirEntry[bytes]]:
    with os.scandir(folder) as listing:
        for entry in listing:
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(entry.path)
            else:
                yield entry


@contextmanager
def _alone(lock: Path, say: Say) -> Iterator[None]:
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Waiting for another process that builds the same environment")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Build if needed and print what and where."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_option(parser)
    try:
        tree = ensure(parser.parse_args().tree, lambda text: print(text, flush=True))
    except subprocess.CalledProcessError as error:
        print(f"{error.cmd[0]} failed with status {error.returncode}; what it said is above", file=sys.stderr)
        print("Nothing half-built is used; the same command starts again.", file=sys.stderr)
        return 1
    print(f"{tree.path}: {tree.files:,} files, {tree.bytes:,} bytes, built in {tree.seconds:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
