"""Media that archives are carried on: small filesystems in files, mounted for the length of a test."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def run(*command: str | Path) -> bytes:
    done = subprocess.run(command, check=False, capture_output=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


@contextmanager
def small_ext4(place: Path, size: int) -> Iterator[Path]:
    """The mount point of an ext4 filesystem that is full after ``size`` bytes, less what ext4 itself takes."""
    file, folder = place / "medium.ext4", place / "medium"
    with file.open("wb") as made:
        made.truncate(size)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-m", "0", file)
    folder.mkdir()
    run("mount", "-o", "loop", file, folder)
    try:
        yield folder
    finally:
        run("umount", folder)


@contextmanager
def fat(file: Path, folder: Path) -> Iterator[None]:
    """A FAT filesystem in a file, made by :func:`make_fat`, mounted at ``folder`` by FAT's driver in user space."""
    folder.mkdir(exist_ok=True)
    run("fusefat", "-s", "-o", "rw+", file, folder)  # its threads are not safe from one another
    try:
        yield
    finally:
        run("fusermount3", "-u", folder)
        deadline = time.monotonic() + 20  # the driver writes its last blocks after the filesystem is gone from view
        while _is_held(file) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not _is_held(file)


def make_fat(file: Path, size: int) -> None:
    """An empty FAT32."""
    with file.open("wb") as made:
        made.truncate(size)
    run("mformat", "-F", "-i", file, "::")


def _is_held(file: Path) -> bool:
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if link.readlink() == file:
                return True
        except OSError:
            continue
    return False
