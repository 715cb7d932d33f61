"""The folders of a disk in which installing writes: they have to lie on the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.steps.install.record import STATE

_FOLDERS: Final = (
    *(STATE, f"{STATE}/staging", "bin", "tools", "cache", "projects", "env"),
    *("env/node", "env/node/node_modules", "env/python", "env/python/bin", "env/go", "env/go/modules"),
)


def refuse_links(root: Path) -> None:
    """Refuse a disk whose folders for tools lead elsewhere: it may come from anybody, and we would write there."""
    for name in _FOLDERS:
        path = root / name
        if path.is_symlink():
            raise Refused(
                f"{path} is a link, to {path.readlink()}",
                state="nothing was written there",
                hint="what is installed has to lie on the disk itself: remove the link",
            )
