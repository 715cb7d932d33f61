"""Everything on a disk that follows from what is installed there: its record, the commands, the activation files."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Final

from portunix_vdisk.steps.install.activation import write_activation
from portunix_vdisk.steps.install.folders import refuse_links
from portunix_vdisk.steps.install.lock import write_lock
from portunix_vdisk.steps.install.made_from import read_made_from
from portunix_vdisk.steps.install.record import Installed, write_installed
from portunix_vdisk.steps.install.shims import refuse_foreign, write_shims

_NODE_MODULES: Final = PurePosixPath("env/node/node_modules")


def remember(root: Path, installed: Installed) -> None:
    """Make it what is installed on the disk at ``root``. Raises ``OSError``, ``Corrupt``, ``Refused``.

    The record is written first: a command that is missing is noticed and mended by the next run.
    """
    refuse_links(root)
    refuse_foreign(root, installed)
    made = read_made_from(root)
    write_installed(root, installed)
    write_lock(root, installed)
    write_shims(root, installed)
    write_activation(root, installed, made.configuration if made else {})
    _show_node_modules(root)


def _show_node_modules(root: Path) -> None:
    """Let every project on the disk find the disk's packages of npm: Node.js and bundlers look upwards for the folder.

    ``NODE_PATH`` is for Node.js alone. What a person has there stays as it is.
    """
    link = root / _NODE_MODULES.name
    if (root / _NODE_MODULES).is_dir() and not link.exists() and not link.is_symlink():
        link.symlink_to(_NODE_MODULES)
