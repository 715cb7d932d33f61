"""Which program this is: core and plugin must be the same one."""

from __future__ import annotations

import os
from pathlib import Path

VERSION = "0.1.0"
"""As in ``pyproject.toml``; a constant, because reading it from the installed metadata costs 40 ms a command."""

PACKAGE = Path(__file__).resolve().parent.parent


def build() -> str:
    """Tells builds of one version apart: where the code lies and when it was last changed."""
    newest = max(_newest(str(PACKAGE / part)) for part in ("platform", "plugin", "steps", "tasks", "templates"))
    return f"{VERSION} {PACKAGE.as_posix().encode('utf-8', 'backslashreplace').decode()} {newest}"


def _newest(folder: str) -> int:
    """Modification time of the youngest Python file below a folder, in nanoseconds."""
    newest = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name != "__pycache__":
                        newest = max(newest, _newest(entry.path))
                elif entry.name.endswith(".py"):
                    newest = max(newest, entry.stat().st_mtime_ns)
            except OSError:  # vanished meanwhile
                continue
    return newest
