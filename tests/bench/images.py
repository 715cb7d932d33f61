"""Rows about types of images: created, mounted, written to, each beside a loop device on raw bytes.

All disks are new in each round: what a filesystem or a container has to allocate is part of the work.
"""

from __future__ import annotations

import io
import os
import random
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from portunix_vdisk.tests.bench import figures
from portunix_vdisk.tests.bench.figures import Line, Samples
from portunix_vdisk.tests.bench.shown import shown_rows
from portunix_vdisk.tests.bench.stage import SLOW, Stage, quoted, say, warm
from portunix_vdisk.tests.bench.workplace import CommandFailed

DISK = "bench-cell"
FILE_SYSTEMS = ("ext4", "ntfs", "fat32", "exfat")
PLAIN = ("img", "vhd", "vhdx", "qcow2", "loop", "dmg")
ENCRYPTED = ("img", "vhd", "vhdx", "qcow2", "loop")
WORKING = ("img", "vhd", "vhdx", "qcow2")
"""What is written to; the first is a loop device on raw bytes, which all are measured against."""
LOCKED = ("img", "vhd", "qcow2")
"""What is mounted encrypted."""
ROOTLESS = "img without root"
FINALISTS = 2
"""Of all cells, those that were slowest the first time are created again, and the slowest of them counts."""
FILES, BYTES = 20_000, 256 << 20
_RIGHT, _WRONG_STATUS = "several unrelated words", 5


@dataclass(frozen=True, slots=True)
class Load:
    """What is written to each disk: a large file, and an archive of many small ones; both in the kernel's cache."""

    large: Path
    small: Path

    @classmethod
    def made(cls, folder: Path) -> Load:
        """The same bytes every time."""
        dice, load = random.Random(4), cls(folder / "large", folder / "small.tar")
        with load.large.open("wb") as file:
            for _ in range(BYTES >> 20):
                file.write(dice.randbytes(1 << 20))
        with tarfile.open(load.small, "w") as archive:
            for number in range(FILES):
                content = dice.randbytes(min(int(dice.expovariate(1 / 3000)), 60_000))
                member = tarfile.TarInfo(f"project-{number // 1000}/folder-{number // 50 % 20}/file-{number}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return load

    def warm(self) -> None:
        """Bring both into the kernel's cache."""
        for path in (self.large, self.small):
            warm(path)

    def write_large(self, point: Path) -> str:
        """A shell's line that writes the large file."""
        return f"dd if={quoted(self.large)} of={quoted(point)}/large bs=1M conv=fsync status=none"

    def write_small(self, point: Path) -> str:
        """A shell's line that unpacks the small files."""
        return f"mkdir {quoted(point)}/small && tar -C {quoted(point)}/small -xf {quoted(self.small)}"


def rows(stage: Stage) -> list[Line]:
    """Measure; leaves no disk."""
    password, wrong = stage.folder / "password", stage.folder / "wrong-password"
    password.write_text(_RIGHT + "\n")
    wrong.write_text(_RIGHT + "!\n")
    secret = ("--encrypted", "--password-file", str(password))
    lines = [
        _creation(stage, "plain", PLAIN, (), under=1),
        _creation(stage, "encrypted", ENCRYPTED, secret, under=3),
    ]
    load = Load.made(stage.folder)
    lines += _use(stage, load)
    lines += _locked(stage, secret, str(wrong))
    lines += shown_rows(stage, load.write_large, load.write_small, load.warm)
    for path in (load.large, load.small, password, wrong):
        path.unlink()
    return lines


def _creation(stage: Stage, kind: str, types: tuple[str, ...], options: tuple[str, ...], *, under: float) -> Line:
    cells = {(type, fs): Samples() for type in types for fs in FILE_SYSTEMS}

    def measure(cell: tuple[str, str]) -> None:
        words = ("--name", DISK, "--size", "20GB", "--type", cell[0], "--fs", cell[1], *options)
        stage.time(cells[cell], stage.vdisk("create", *words))
        _delete(stage)

    say(f"create of {len(cells)} cells, {kind}")
    for cell in cells:
        measure(cell)
    finalists = sorted(cells, key=lambda cell: cells[cell].median)[-FINALISTS:]
    for _ in range(stage.runs - 1):
        for cell in finalists:
            measure(cell)
    name, samples = slowest({" ".join(cell): cells[cell] for cell in finalists})
    return figures.seconds(f"create 20 GB {kind}, slowest of {len(cells)} cells ({name})", samples, under=under)


def _use(stage: Stage, load: Load) -> list[Line]:
    mount, unmount, write, untar = ({type: Samples() for type in (*WORKING, ROOTLESS)} for _ in range(4))
    for run in range(stage.runs):
        for type in (*WORKING, ROOTLESS):
            if type == ROOTLESS and run and untar[type].median > SLOW:
                continue
            say(f"use: {type}, round {run + 1} of {stage.runs}")
            rootless = ("--rootless",) if type == ROOTLESS else ()
            stage.vdisk("create", "--name", DISK, "--size", "20GB", "--type", type.split()[0])()
            load.warm()
            stage.time(mount[type], stage.vdisk("mount", DISK, str(stage.mount_point), *rootless))
            if not rootless:
                stage.time(write[type], stage.shell(load.write_large(stage.mount_point)), moves_data=True)
            stage.time(untar[type], stage.shell(load.write_small(stage.mount_point)), moves_data=True)
            stage.time(unmount[type], stage.vdisk("unmount", DISK))
            _delete(stage)
    raw, *containers = WORKING
    lines = []
    for what, samples in (("mount", mount), ("unmount", unmount)):
        name, found = slowest({type: samples[type] for type in WORKING})
        lines.append(figures.seconds(f"{what}, slowest of {len(WORKING)} types ({name})", found, under=0.5))
    beside = partial(_beside, raw)
    lines += [beside(f"write {BYTES >> 20} MiB, {type}", type, write, 0.6) for type in containers]
    lines += [beside(f"untar {FILES:,} small files, {type}", type, untar, 0.8) for type in containers]
    lines.append(beside(f"untar {FILES:,} small files, {ROOTLESS}", ROOTLESS, untar, 0.3))
    return lines


def _beside(raw: str, what: str, type: str, samples: Mapping[str, Samples], at_least: float) -> Line:
    return figures.faster(what, samples[type], "on a loop device", samples[raw], at_least=at_least)


def _locked(stage: Stage, secret: tuple[str, ...], wrong: str) -> list[Line]:
    mount, unmount, refused = ({type: Samples() for type in LOCKED} for _ in range(3))
    for run in range(stage.runs):
        for type in LOCKED:
            say(f"encrypted: {type}, round {run + 1} of {stage.runs}")
            stage.vdisk("create", "--name", DISK, "--size", "20GB", "--type", type, *secret)()
            words = ("mount", DISK, str(stage.mount_point), "--password-file")
            stage.time(refused[type], partial(_refused, stage, *words, wrong))
            stage.time(mount[type], stage.vdisk(*words, secret[-1]))
            stage.time(unmount[type], stage.vdisk("unmount", DISK))
            _delete(stage)
    lines = []
    limits = (("mount encrypted", mount, 2.0), ("unmount encrypted", unmount, 2.0), ("wrong password", refused, 3.0))
    for what, samples, under in limits:
        name, found = slowest(samples)
        lines.append(figures.seconds(f"{what}, slowest of {len(LOCKED)} types ({name})", found, under=under))
    return lines


def _refused(stage: Stage, *words: str) -> None:
    """Run what ends with the exit code of a wrong password. Raises ``RuntimeError`` if it is let in."""
    try:
        stage.place.quiet("portunix", "vdisk", *words)
    except CommandFailed as error:
        if error.status == _WRONG_STATUS:
            return
        raise
    raise RuntimeError("a wrong password opened a disk")


def slowest(samples: Mapping[str, Samples]) -> tuple[str, Samples]:
    """The one with the largest median, and its name."""
    name = max(samples, key=lambda each: samples[each].median)
    return name, samples[name]


def _delete(stage: Stage) -> None:
    stage.place.quiet("portunix", "vdisk", "delete", DISK, "--yes")
    os.sync()
