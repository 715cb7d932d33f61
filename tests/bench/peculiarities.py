"""What real home folders hold beside packages: odd names, links, modes, holes, times."""

from __future__ import annotations

import os
from pathlib import Path

from portunix_vdisk.tests.bench.packages import Installer

_NAMES = (
    "Übung 1.txt".encode(),
    "naïve café.md".encode(),
    "nai\u0308ve cafe\u0301.md".encode(),  # the same to a reader, other bytes (NFD)
    "日本語のメモ.txt".encode(),
    "emoji 🚀.txt".encode(),
    b"latin-1 caf\xe9.txt",  # not UTF-8
    b"line\nbreak.txt",
    b" leading and trailing space ",
    b"-rf",
    b"quote'\"$(x)`.txt",
    b"n" * 255,
)


def home(folder: Path, installer: Installer) -> None:
    """Fill ``folder`` with one of everything that a copy gets wrong easily."""
    del installer
    names = folder / "names"
    names.mkdir()
    for name in _NAMES:
        (names / os.fsdecode(name)).write_bytes(b"name: " + name + b"\n")
    for empty in ("empty/deep/deeper", "empty/.hidden"):
        (folder / empty).mkdir(parents=True)
    (folder / "empty/file").touch()
    _modes(folder / "modes")
    _links(folder / "links")
    _holes(folder / "holes.img")
    _times(folder / "times")
    owned = folder / "owned-by-another"
    owned.write_text("a file that belongs to somebody else\n", encoding="utf-8")
    if os.geteuid() == 0:
        os.chown(owned, 12345, 23456)


def _modes(folder: Path) -> None:
    folder.mkdir()
    for mode in (0o400, 0o444, 0o600, 0o640, 0o755, 0o777, 0o1644, 0o2755, 0o4755):
        file = folder / f"{mode:04o}"
        file.write_text(f"#!/bin/sh\necho {mode:04o}\n", encoding="utf-8")
        file.chmod(mode)
    for mode in (0o700, 0o755, 0o1777, 0o2775):
        inner = folder / f"folder-{mode:04o}"
        inner.mkdir()
        (inner / "file").write_text("inside\n", encoding="utf-8")
        inner.chmod(mode)


def _links(folder: Path) -> None:
    folder.mkdir()
    (folder / "original").write_text("shared by three names\n", encoding="utf-8")
    (folder / "second").hardlink_to(folder / "original")
    (folder / "third").hardlink_to(folder / "original")
    (folder / "to-file").symlink_to("original")
    (folder / "to-folder").symlink_to("../empty")
    (folder / "absolute").symlink_to("/usr/bin/env")
    (folder / "dangling").symlink_to("no such file")
    (folder / "circle").symlink_to("circle")
    (folder / "to-latin-1").symlink_to(os.fsdecode(b"caf\xe9"))
    (folder / "long").symlink_to("x" * 1000)


def _holes(file: Path) -> None:
    with file.open("wb") as image:
        image.truncate(64 << 20)
        for offset in (0, 10 << 20, (64 << 20) - 4096):
            image.seek(offset)
            image.write(os.urandom(4096))


def _times(folder: Path) -> None:
    folder.mkdir()
    for name, nanoseconds in {
        "old": 1,
        "precise": 1_234_567_890_123_456_789,
        "future": 4_000_000_000_000_000_001,
    }.items():
        file = folder / name
        file.write_text(name, encoding="utf-8")
        os.utime(file, ns=(nanoseconds, nanoseconds))


def link_equal_files(origin: Path, other: Path) -> int:
    """Make files below ``other`` hard links to equal ones at the same place below ``origin``; returns how many."""
    linked = 0
    for file in origin.rglob("*"):
        twin = other / file.relative_to(origin)
        if file.is_symlink() or not file.is_file() or twin.is_symlink() or not twin.is_file():
            continue
        if (
            file.stat().st_size
            and file.stat().st_mode == twin.stat().st_mode
            and file.read_bytes() == twin.read_bytes()
        ):
            twin.unlink()
            twin.hardlink_to(file)
            linked += 1
    return linked
