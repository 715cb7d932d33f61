"""Everything on a disk that follows from what is installed there: its record, the commands, the activation files."""

from __future__ import annotations

from pathlib import Path

from portunix_vdisk.steps.install.activation import write_activation
from portunix_vdisk.steps.install.made_from import read_made_from
from portunix_vdisk.steps.install.record import Installed, write_installed
from portunix_vdisk.steps.install.shims import write_shims


def remember(root: Path, installed: Installed) -> None:
    """Make it what is installed on the disk at ``root``. Raises ``OSError``, ``Corrupt``.

    The record is written first: a command that is missing is noticed and mended by the next run.
    """
    made = read_made_from(root)
    write_installed(root, installed)
    write_shims(root, installed)
    write_activation(root, installed, made.configuration if made else {})
