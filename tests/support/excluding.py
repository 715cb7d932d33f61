"""Leaving files out, in plain folders and on real disks."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from blocks import check_filesystem
from kinds import FORMAT
from silent import Silent
from trees import facts

from portunix_vdisk.platform.base import FileIdentity, FileSystemType, ImageType, Partition
from portunix_vdisk.platform.linux.machine import LinuxPlatform
from portunix_vdisk.platform.linux.processes import arguments_of, running
from portunix_vdisk.steps.durable import identity_of
from portunix_vdisk.steps.exclude.overlay import Cleaned, Subject, clean_copy
from portunix_vdisk.steps.exclude.remove import LeftOut, Remover
from portunix_vdisk.steps.exclude.rules import Rule, Rules
from portunix_vdisk.steps.step import Context
from portunix_vdisk.templates.excludes import read_excludes

SIZE = 96 << 20
PARTITION = Partition(1 << 20, SIZE - (2 << 20))
OURS = [
    Rule(one.name, one.patterns, one.beside, one.holds, one.lacks) for one in read_excludes(Path("/nonexistent")).rules
]


def make(top: Path, *paths: str) -> None:
    """Files below ``top``, with their own names as content; a folder where the path ends in a slash."""
    for path in paths:
        place = Path(os.fsdecode(os.fsencode(top))) / path
        if path.endswith("/"):
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(os.fsencode(path))


def tree(top: Path) -> set[str]:
    """Everything below ``top``, folders with a slash at their end."""
    found = set()
    for place, folders, files in os.walk(top):
        inner = os.path.relpath(place, top)
        prefix = "" if inner == "." else f"{inner}/"
        found |= {f"{prefix}{name}" for name in files}
        for name in folders:
            found.add(f"{prefix}{name}" + ("" if os.path.islink(f"{place}/{name}") else "/"))
    return found


def leave_out(top: Path, rules: list[Rule] | None = None, keep: tuple[str, ...] = (), **more: Any) -> LeftOut:
    """Delete in a folder what the rules match: ours if none are given."""
    descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    try:
        ctx = Context(cast("Any", None), more.get("person") or Silent())
        return Remover(descriptor, Rules(OURS if rules is None else rules, keep), ctx).run()
    finally:
        os.close(descriptor)


@contextmanager
def mounted(raw: Path, point: Path, options: str = "") -> Iterator[Path]:
    """The partition of a raw disk, mounted by the kernel."""
    point.mkdir(exist_ok=True)
    where = f"{options}loop,offset={PARTITION.start},sizelimit={PARTITION.length}"
    subprocess.run(["mount", "-o", where, raw, point], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", point], check=True)


@dataclass(frozen=True)
class Original:
    """A disk image with a tree on it, and how the tree should look in a copy."""

    image: Path
    type: ImageType
    expected: Path
    places: tuple[Path, ...]

    @property
    def subject(self) -> Subject:
        return Subject(self.image, self.type, SIZE, PARTITION, FileSystemType.EXT4, self.places)

    def print(self) -> tuple[FileIdentity, str]:
        return identity_of(self.image), hashlib.sha256(self.image.read_bytes()).hexdigest()

    def copy(self, person: Silent | None = None, platform: Any = None) -> tuple[Cleaned, LeftOut]:
        ctx = Context(platform or LinuxPlatform(), person or Silent())
        return clean_copy(self.subject, Rules(OURS), "without:test", ctx)

    def assert_copied(self, cleaned: Cleaned, scratch: Path) -> bytes:
        """e2fsck finds nothing, and the kernel sees the expected tree; the bytes of the disk."""
        source = cleaned.open()
        content = bytearray(source.size)
        source.read_into(0, content)
        source.close()
        raw = scratch / "copy.raw"
        raw.write_bytes(content)
        check_filesystem(raw, PARTITION)
        with mounted(raw, scratch / "look", "ro,noload,") as point:
            assert facts(point) == facts(self.expected)
        raw.unlink()
        return bytes(content)

    def leftovers(self) -> list[str]:
        """What an export left behind in the places for temporary files and on the machine."""
        found = [str(path) for place in self.places for path in place.glob("portunix-vdisk-overlay-*")]
        name = self.subject.folder_name
        found += [f"process {pid}" for pid in running() if any(name.encode() in word for word in arguments_of(pid))]
        return found + [str(held) for held in LinuxPlatform().attachments() if held.image.parent.name == name]


def original(folder: Path, type: ImageType, grow_tree: Any) -> Original:
    """A disk with the tree that ``grow_tree`` makes, and beside it that tree without what the rules leave out."""
    source, expected, temporary = folder / "tree", folder / "expected", folder / "temporary"
    source.mkdir()
    temporary.mkdir()
    grow_tree(source)
    subprocess.run(["cp", "-a", source, expected], check=True)
    leave_out(expected)
    raw = folder / "disk.img"
    with raw.open("wb") as file:
        file.truncate(SIZE)
    command = ["mkfs.ext4", "-q", "-m", "0", "-J", "size=4", "-E", f"offset={PARTITION.start}"]
    size = f"{PARTITION.length // 1024}k"
    subprocess.run([*command, raw, size], check=True, stderr=subprocess.DEVNULL)
    with mounted(raw, folder / "point") as point:
        subprocess.run(["cp", "-a", f"{source}/.", point], check=True)
    image = raw
    if type is not ImageType.IMG:
        image = folder / f"disk.{type.extension}"
        LinuxPlatform().create_image(image, type, SIZE)
        command = ["qemu-img", "convert", "-n", "-f", "raw", "-O", FORMAT[type.extension], raw, image]
        subprocess.run(command, check=True)
        raw.unlink()
    return Original(image, type, expected, (temporary,))
