"""Reading images of kinds that we never write: always one driver and one file, never what the image itself names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from portunix_vdisk.platform.base import BlockImage, ForeignType
from portunix_vdisk.platform.commands import Commands, display
from portunix_vdisk.platform.errors import Failed
from portunix_vdisk.platform.linux.block_server import block_server
from portunix_vdisk.platform.linux.images import ServedImage

_DRIVERS = {ForeignType.UDIF: "dmg"}
"""What QEMU calls otherwise."""


@contextmanager
def open_foreign(commands: Commands, path: Path, type: ForeignType) -> Iterator[BlockImage]:
    """Open the disk inside; see :meth:`Platform.open_foreign`."""
    name = str(path.absolute()).replace(",", ",,")
    options = f"driver={_DRIVERS.get(type, type)},read-only=on,file.driver=file,file.filename={name}"
    if type is ForeignType.VMDK:
        # Empty: not the parent that its description may name.
        options += ",backing="
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Failed(f"cannot open {display(str(path))}: {error.strerror}", state="nothing was changed") from error
    try:
        with block_server(commands, options, read_only=True) as client:
            yield ServedImage(client, descriptor, path)
    finally:
        os.close(descriptor)
