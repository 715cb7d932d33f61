"""Changing a tree as work does: files are replaced by others of the same sort."""

from __future__ import annotations

import os
import random
import stat
import subprocess
from collections.abc import Iterable
from pathlib import Path


def regular_files(folder: Path) -> list[Path]:
    """All files below ``folder`` that have content, relative to it, in the same order on every filesystem."""
    found = []
    for name, _, files in os.walk(folder):
        for file in files:
            path = Path(name, file)
            status = path.lstat()  # one link is too long to be followed
            if stat.S_ISREG(status.st_mode) and status.st_size:
                found.append(path.relative_to(folder))
    return sorted(found, key=os.fsencode)


def some_files(folder: Path, part: float, seed: int) -> list[Path]:
    """``part`` of the files, at random over the tree; at least one. The same for the same tree and seed."""
    files = regular_files(folder)
    return sorted(random.Random(seed).sample(files, max(1, round(part * len(files)))), key=os.fsencode)


def one_project(folder: Path, part: float) -> list[Path]:
    """All files of the folder, at any depth, whose files together come closest to ``part`` of the bytes of the tree."""
    sizes: dict[Path, int] = {}
    files = regular_files(folder)
    for file in files:
        size = (folder / file).stat().st_size
        for parent in file.parents:
            sizes[parent] = sizes.get(parent, 0) + size
    wanted = part * sizes[Path()]
    chosen = min(sizes, key=lambda parent: (abs(sizes[parent] - wanted), os.fsencode(parent)))
    return [file for file in files if file.is_relative_to(chosen)]


def replace_files(folder: Path, files: Iterable[Path], seed: int) -> int:
    """Replace files as package managers do: new content, in new files that take the names; bytes that were written.

    The new content is the old one in a random cipher of single bytes: nothing of it is what it was, and it
    compresses about as well. The same for the same seed.
    """
    written = 0
    for file in files:
        path, table = folder / file, list(range(256))
        random.Random(f"{seed} {os.fsencode(file)!r}").shuffle(table)
        content = path.read_bytes().translate(bytes(table))
        fresh = path.with_name(".portunix-bench-fresh")
        fresh.write_bytes(content)
        fresh.chmod(path.stat().st_mode & 0o7777)
        fresh.rename(path)
        written += len(content)
    return written


def compressed_size(folder: Path, files: Iterable[Path]) -> int:
    """Bytes of ``tar | zstd -3`` of these files. Raises ``CalledProcessError``."""
    names = b"\0".join(map(os.fsencode, files))
    command = ["bash", "-o", "pipefail", "-c", "tar --null --no-recursion -T - -cf - | zstd -q -3 | wc -c"]
    done = subprocess.run(command, cwd=folder, input=names, capture_output=True, check=True)
    return int(done.stdout)
