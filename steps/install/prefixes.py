"""Folders on a disk that ``pip install --prefix`` filled: ``--prefix /mnt/thesis/python-env``.

pip leaves ``bin`` and ``lib/pythonX.Y/site-packages`` there and nothing that says so; Debian's pip makes it
``local/bin`` and ``local/lib/pythonX.Y/dist-packages``. Modules of such a folder are for that Python alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

OURS: Final = frozenset({"bin", "tools", "env", "cache", "projects", "lost+found"})
"""Folders on a disk's root with a purpose of their own."""
_LIBRARIES: Final = (
    ("lib", "site-packages"),
    ("lib64", "site-packages"),
    ("local/lib", "dist-packages"),
    ("local/lib64", "dist-packages"),
)
_PYTHON: Final = re.compile(r"python(\d+\.\d+)")
_MOST: Final = 32
"""Prefixes on one disk that are looked at: somebody else may have made a million."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """What a host's pip put on the disk for one Python; paths are seen from the disk's root."""

    folder: str
    programs: str
    """Where its commands are, which need not exist."""
    modules: str
    python: str
    """Which Python it is for: ``3.11``."""


def find_prefixes(root: Path) -> tuple[Prefix, ...]:
    """The prefixes among the folders of a disk's root, by name.

    Virtual environments and whole Pythons are none: their own ``python`` must not take the place of another one.
    Folders that cannot be read, or whose names no shell or PATH could hold, hold none.
    """
    found: list[Prefix] = []
    for folder in _folders(root):
        name = folder.name
        if name in OURS or name.startswith(".") or ":" in name or not name.isprintable():
            continue
        if (folder / "pyvenv.cfg").exists() or (folder / "bin" / "python3").exists():
            continue
        for library, last in _LIBRARIES:
            programs = f"{name}/{library.rpartition('/')[0]}/bin".replace("//", "/")
            for python in _folders(folder / library):
                known = _PYTHON.fullmatch(python.name)
                if known and (python / last).is_dir():
                    modules = f"{name}/{library}/{python.name}/{last}"
                    found.append(Prefix(name, programs, modules, known[1]))
        if len(found) >= _MOST:
            break
    return tuple(found[:_MOST])


def _folders(parent: Path) -> list[Path]:
    """Its folders by name; symbolic links are not followed, since they may lead off the disk."""
    try:
        return sorted(each for each in parent.iterdir() if each.is_dir() and not each.is_symlink())
    except OSError:
        return []
