"""What lies on a disk that was filled, to be compared."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from machine import Machine


def tree(root: Path) -> dict[str, object]:
    """Path, kind, mode, target of links and content of everything that is no cache and no log."""
    found: dict[str, object] = {}
    for folder, folders, names in os.walk(root):
        inner = Path(folder).relative_to(root)
        if inner == Path():
            folders[:] = [name for name in folders if name not in ("cache", "lost+found")]
        for name in [*folders, *names]:
            path = Path(folder) / name
            status = path.lstat()
            content = ""
            if path.is_symlink():
                content = os.readlink(path)
            elif path.is_file():
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(inner / name)] = (oct(status.st_mode), content)
    return found


def shown(machine: Machine, name: str) -> dict[str, object]:
    """What is on a disk."""
    machine.vdisk("mount", name, "look", "--read-only")
    try:
        return tree(machine.folder / "look")
    finally:
        machine.vdisk("unmount", name)
