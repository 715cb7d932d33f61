"""Trees of files for the tests, and an independent comparison of them."""

from __future__ import annotations

import hashlib
import os
import random
import stat
from pathlib import Path


def grow(folder: Path, files: int = 300, seed: int = 1, size: int = 6000) -> None:
    """A tree with small files, links, odd names and times; ``seed`` decides everything."""
    dice = random.Random(seed)
    for number in range(files):
        place = folder / f"d{dice.randrange(20)}" / f"e{dice.randrange(5)}"
        place.mkdir(parents=True, exist_ok=True)
        file = place / f"f{number}.txt"
        half = dice.randrange(size)
        file.write_bytes(dice.randbytes(half) + b"compressible " * (half // 13))
        file.chmod(dice.choice([0o644, 0o600, 0o755, 0o444]))
        os.utime(file, ns=(10**18, 10**18 + dice.randrange(10**15)))
    first = next(path for path in sorted(folder.rglob("f*.txt")))
    os.link(first, folder / "hard link")
    (folder / "soft link").symlink_to("d1/nowhere")
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9")).write_bytes(b"no UTF-8")
    (folder / "empty").mkdir()


def facts(folder: Path) -> dict[bytes, tuple[object, ...]]:
    """Everything that must survive, by relative path: type, mode, owner, time, content, links."""
    found: dict[bytes, tuple[object, ...]] = {}
    groups: dict[tuple[int, int], bytes] = {}
    root = os.fsencode(folder)
    for place, folders, files in os.walk(root):
        folders.sort()
        if place == root:
            folders[:] = [name for name in folders if name not in (b"lost+found", b".vdisk")]
        for name in sorted(folders + files):
            path = os.path.join(place, name)
            about = os.lstat(path)
            relative = os.path.relpath(path, root)
            content: object = None
            if stat.S_ISREG(about.st_mode):
                content = hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest()
            elif stat.S_ISLNK(about.st_mode):
                content = os.readlink(path)
            group = groups.setdefault((about.st_dev, about.st_ino), relative) if about.st_nlink > 1 else None
            when = None if stat.S_ISLNK(about.st_mode) else about.st_mtime_ns
            linked = None if stat.S_ISDIR(about.st_mode) else group
            found[relative] = (about.st_mode, about.st_uid, about.st_gid, when, content, linked)
    return found
