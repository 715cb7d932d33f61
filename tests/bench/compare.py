"""Compare two trees entry by entry; written without anything of the program that is being tested.

``python tests/bench/compare.py A B`` prints what differs and exits with 1 if anything does.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

_NOT_COMPARED = frozenset({"lost+found"})
"""Made by mkfs in the top folder of every ext4 filesystem."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Everything about one name that a faithful copy keeps."""

    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    """Bytes of a file; 0 for anything else."""
    mtime_ns: int
    target: str
    """Of a symbolic link, otherwise empty."""
    device: int
    """Device number of a block or character device, otherwise 0."""
    linked: tuple[str, ...]
    """All names below the top folder that are hard links of this file; empty for a file with one name."""
    digest: str
    """SHA-256 of a file's content, otherwise empty."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One property in which the trees differ."""

    name: str
    """Relative path; bytes that are not UTF-8 as surrogates."""
    what: str
    left: object
    right: object

    def __str__(self) -> str:
        name = os.fsencode(self.name).decode("utf-8", "backslashreplace")
        return f"{name!r}: {self.what}: {self.left!r} | {self.right!r}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """The outcome: entries by kind and bytes compared, and every difference."""

    kinds: Mapping[str, int]
    bytes: int
    linked: int
    """Names that are one of several hard links."""
    differences: tuple[Difference, ...]


def compare(left: Path, right: Path, *, tick: int = 1) -> Comparison:
    """Compare what is below two folders; the top folders themselves are not compared. Raises ``OSError``.

    ``tick``: nanoseconds to which one of them keeps times.
    """
    one, other = survey(left, tick), survey(right, tick)
    differences: list[Difference] = []
    for name in sorted(one.keys() | other.keys()):
        here, there = one.get(name), other.get(name)
        if here is None or there is None:
            differences.append(Difference(name, "exists", here is not None, there is not None))
            continue
        for field in fields(Entry):
            values = getattr(here, field.name), getattr(there, field.name)
            if values[0] != values[1]:
                differences.append(Difference(name, field.name, *values))
    kinds: dict[str, int] = {}
    for entry in one.values():
        kinds[entry.kind] = kinds.get(entry.kind, 0) + 1
    size = sum(entry.size for entry in one.values())
    return Comparison(kinds, size, sum(bool(entry.linked) for entry in one.values()), tuple(differences))


def survey(top: Path, tick: int = 1) -> dict[str, Entry]:
    """Every entry below ``top`` by its path relative to it. Raises ``OSError``."""
    found = {str(path.relative_to(top)): path.lstat() for path in _walk(top, _NOT_COMPARED)}
    by_inode: dict[tuple[int, int], list[str]] = {}
    for name, status in found.items():
        if stat.S_ISREG(status.st_mode):
            by_inode.setdefault((status.st_dev, status.st_ino), []).append(name)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # Each inode is read once, whatever number of names it has.
        read = pool.map(_digest, (top / names[0] for names in by_inode.values()))
        digests = dict(zip(by_inode, read, strict=True))
    entries: dict[str, Entry] = {}
    for name, status in found.items():
        inode = (status.st_dev, status.st_ino)
        names = by_inode.get(inode, [])
        is_link = stat.S_ISLNK(status.st_mode)
        is_device = stat.S_ISBLK(status.st_mode) or stat.S_ISCHR(status.st_mode)
        entries[name] = Entry(
            kind=_KINDS.get(stat.S_IFMT(status.st_mode), "unknown"),
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            size=status.st_size if names else 0,
            mtime_ns=status.st_mtime_ns // tick * tick,
            target=str((top / name).readlink()) if is_link else "",
            device=status.st_rdev if is_device else 0,
            linked=tuple(sorted(names)) if len(names) > 1 else (),
            digest=digests.get(inode, ""),
        )
    return entries


_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFLNK: "symbolic link",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFBLK: "block device",
    stat.S_IFCHR: "character device",
}


def _walk(folder: Path, skipped: frozenset[str] = frozenset()) -> Iterator[Path]:
    with os.scandir(folder) as listing:
        entries = [entry for entry in listing if entry.name not in skipped]
    for entry in entries:
        path = folder / entry.name
        yield path
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> int:
    """Compare the two folders named on the command line."""
    if len(sys.argv) != 3:
        print("usage: python tests/bench/compare.py FOLDER FOLDER", file=sys.stderr)
        return 2
    result = compare(Path(sys.argv[1]), Path(sys.argv[2]))
    print(report(result))
    return 1 if result.differences else 0


def report(result: Comparison, most: int = 20) -> str:
    """The outcome in a few lines; at most ``most`` differences are spelled out."""
    kinds = ", ".join(f"{count:,} {kind}{'s' if count != 1 else ''}" for kind, count in sorted(result.kinds.items()))
    lines = [f"compared {kinds}; {result.linked:,} names of hard-linked files; {result.bytes:,} bytes"]
    lines += [f"  {difference}" for difference in result.differences[:most]]
    if len(result.differences) > most:
        lines.append(f"  … and {len(result.differences) - most:,} more")
    lines.append(f"{len(result.differences):,} differences" if result.differences else "no difference")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
