"""What is in a filesystem, as seen here and as a guest reports it, in the same words."""

from __future__ import annotations

import calendar
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from stat import S_ISDIR, S_ISLNK, S_ISREG

from trees import facts


@dataclass(frozen=True, slots=True)
class Fact:
    """One file, folder or link."""

    mode: int
    owner: tuple[int, int]
    mtime_ns: int | None
    """None where nobody can say: for links, and on filesystems that keep it otherwise."""
    content: object
    """SHA-256 of a file, target of a link."""
    linked: bytes | None
    """The first of its names, in the order of bytes, where a file has several."""

    @property
    def is_file(self) -> bool:
        return S_ISREG(self.mode)

    def without_owner_and_time(self) -> Fact:
        kind = self.mode & 0o170000
        return replace(self, mode=kind, owner=(0, 0), mtime_ns=None)


Facts = Mapping[bytes, Fact]
"""By path below the root of the filesystem."""


def seen_here(folder: Path) -> Facts:
    """What this machine sees."""
    found = facts(folder)
    first: dict[object, bytes] = {}
    for name in sorted(found):
        first.setdefault(found[name][-1], name)
    return {
        name: Fact(mode, (uid, gid), when, content, first[linked] if linked else None)  # type: ignore[arg-type]
        for name, (mode, uid, gid, when, content, linked) in found.items()
    }


def seen_there(report: Sequence[bytes]) -> Facts:
    """What a guest saw: the lines that ``visit`` of init.sh printed. Fails if it says that something went wrong."""
    assert not [line for line in report if line.startswith(b"-- failed")], report
    assert report[-1] == b"-- left", report
    content: dict[bytes, object] = {}
    for line in _part(report, b"content"):
        digest, _, name = line.partition(b"  ./")
        content[name] = digest.decode()
    for line in _part(report, b"links"):
        name, _, target = line.strip(b"'").partition(b"' -> '")
        content[name.removeprefix(b"./")] = target
    found: dict[bytes, Fact] = {}
    groups: dict[bytes, bytes] = {}
    lines = (line.split(b" ", 8) for line in _part(report, b"stat"))
    for mode, uid, gid, links, inode, date, clock, _, path in sorted(lines, key=lambda words: words[8]):
        name, kind = path.removeprefix(b"./"), int(mode, 16)
        group = groups.setdefault(inode, name) if int(links) > 1 and not S_ISDIR(kind) else None
        when = None if S_ISLNK(kind) else _nanoseconds(f"{date.decode()} {clock.decode()}")
        found[name] = Fact(kind, (int(uid), int(gid)), when, content.pop(name, None), group)
        assert S_ISREG(kind) <= (found[name].content is not None), name
    assert not content, "what has content but no name"
    return found


def _part(report: Sequence[bytes], title: bytes) -> list[bytes]:
    begin = report.index(b"-- " + title) + 1
    return list(takewhile(lambda line: not line.startswith(b"-- "), report[begin:]))


def _nanoseconds(text: str) -> int:
    date, _, fraction = text.partition(".")
    return calendar.timegm(time.strptime(date, "%Y-%m-%d %H:%M:%S")) * 10**9 + int(fraction)
