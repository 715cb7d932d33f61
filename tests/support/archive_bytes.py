"""The bytes of an archive, in one file or in volumes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from portunix_vdisk.steps.archive.storage import ArchiveFile, volumes_of


def content(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in volumes_of(path))


def copy(path: Path, to: Path) -> Path:
    """A copy of an archive under another name."""
    for file in volumes_of(path):
        shutil.copy(file, to.with_name(to.name + file.name.removeprefix(path.name)))
    return to


def write(disk: Any, offset: int, data: bytes) -> None:
    """Overwrite a part of the archive of a test's disk."""
    with ArchiveFile(disk.output, writable=True, limit=disk.options.get("volume_size")) as file:
        file.write(offset, (data,))
