"""For the tests of sync: a person who watches, a comparison by lstat alone, and short ways to make trees."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from portunix_vdisk.platform.base import Platform
from portunix_vdisk.steps.step import Context, Question
from portunix_vdisk.steps.sync.mirror import Mirror

T0 = 1_600_000_000_123_456_789


@dataclass
class Person:
    """Counts and keeps what a step says; wants to stop after ``patience`` safe points."""

    patience: int | None = None
    lines: list[str] = field(default_factory=list)
    reports: list[tuple[int, int]] = field(default_factory=list)
    asked: int = 0

    def progress(self, task: str, done: int, total: int, unit: str) -> None:
        self.reports.append((done, total))

    def log(self, level: str, text: str) -> None:
        self.lines.append(f"{level}: {text}")

    def ask(self, question: Question) -> str:
        raise AssertionError("sync asks nothing")

    def cancelled(self) -> bool:
        self.asked += 1
        return self.patience is not None and self.asked > self.patience


def sync(source: Path, target: Path, root: Path, person: Person | None = None, **options: bool) -> Mapping[str, Any]:
    """Run the step."""
    context = Context(cast(Platform, None), person or Person())
    result = Mirror(source, target, root, **options).run(context)
    assert isinstance(result, Mapping)
    return result


def write(path: Path, content: bytes | str, *, mtime_ns: int = T0, mode: int | None = None) -> Path:
    """A file with content and time; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    if mode is not None:
        path.chmod(mode)
    os.utime(path, ns=(mtime_ns, mtime_ns))
    return path


def raw(folder: Path, name: bytes) -> Path:
    """A path whose name is any bytes."""
    return folder / os.fsdecode(name)


def facts(top: Path, *, folder_times: bool = True) -> dict[bytes, tuple[object, ...]]:
    """Everything that a mirror keeps, by relative path; hard-link groups by their first name."""
    found: dict[bytes, tuple[object, ...]] = {}
    groups: dict[tuple[int, int], bytes] = {}
    base = os.fsencode(top)
    pending = [b""]
    while pending:
        relative = pending.pop(0)
        path = os.path.join(base, relative) if relative else base
        info = os.lstat(path)
        kind = stat.S_IFMT(info.st_mode)
        owner = (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode))
        if kind == stat.S_IFDIR:
            names = sorted(name for name in os.listdir(path) if relative or name != b".vdisk")
            pending[:0] = [os.path.join(relative, name) if relative else name for name in names]
            found[relative] = ("folder", owner, info.st_mtime_ns if folder_times else None)
        elif kind == stat.S_IFREG:
            with open(path, "rb") as file:
                digest = hashlib.sha256(file.read()).hexdigest()
            group = groups.setdefault((info.st_dev, info.st_ino), relative)
            found[relative] = ("file", owner, info.st_mtime_ns, info.st_size, digest, group)
        elif kind == stat.S_IFLNK:
            found[relative] = ("link", info.st_uid, info.st_gid, info.st_mtime_ns, os.readlink(path))
        else:
            found[relative] = ("special", kind)
    return found


def identities(top: Path) -> dict[bytes, tuple[int, ...]]:
    """What would change if anything were written: inode, change time and modification time of every name."""
    found = {}
    for place, folders, files in os.walk(os.fsencode(top)):
        for name in [b"", *folders, *files]:
            info = os.lstat(os.path.join(place, name))
            found[os.path.join(place, name)] = (info.st_ino, info.st_ctime_ns, info.st_mtime_ns, info.st_size)
    return found


def leftovers(top: Path) -> list[bytes]:
    """Temporary names below a folder."""
    return [
        os.path.join(place, name)
        for place, _, files in os.walk(os.fsencode(top))
        for name in files
        if b".vdisk-sync-" in name
    ]
