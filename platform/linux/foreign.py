"""Reading images of kinds that we never write: always one driver and one file, never what the image itself names."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from portunix_vdisk.platform import qcow2
from portunix_vdisk.platform.base import BlockImage, ForeignType, ImageType
from portunix_vdisk.platform.commands import Commands, display
from portunix_vdisk.platform.errors import Failed
from portunix_vdisk.platform.linux.block_server import block_server, same_rights
from portunix_vdisk.platform.linux.containers import driver_of
from portunix_vdisk.platform.linux.images import ServedImage

_DRIVERS = {ForeignType.UDIF: "dmg", ForeignType.LAYERED: "qcow2"}
"""What QEMU calls otherwise."""


@contextmanager
def open_foreign(
    commands: Commands, path: Path, type: ForeignType, below: Sequence[tuple[Path, ImageType]] = ()
) -> Iterator[BlockImage]:
    """Open the disk inside; see :meth:`Platform.open_foreign`."""
    options = f"driver={_DRIVERS.get(type, type)},read-only=on,{_file(path)}"
    if type is ForeignType.VMDK:
        # Empty: not the parent that its description may name.
        options += ",backing="
    if type is ForeignType.LAYERED:
        options += _below(path, below)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Failed(f"cannot open {display(str(path))}: {error.strerror}", state="nothing was changed") from error
    try:
        with block_server(commands, options, read_only=True) as client:
            yield ServedImage(client, descriptor, path)
    finally:
        os.close(descriptor)


def server_of(path: Path, type: ForeignType) -> tuple[str, ...]:
    """A command that serves the disk inside to one client and ends with it; see :meth:`Platform.foreign_server`."""
    # The parent of a --fork takes any word of its child for a failure, so there must not even be a warning.
    options = {"driver": _DRIVERS.get(type, str(type)), "file": {"driver": "file", "filename": str(path.absolute())}}
    # Not the parent that its description may name.
    alone = {"backing": None} if type is ForeignType.VMDK else {}
    name = "json:" + json.dumps(options | alone)
    return ("setpriv", *same_rights(), "qemu-nbd", "--fork", "--read-only", "--shared=1", name, "--socket")


def _file(path: Path, prefix: str = "") -> str:
    name = str(path.absolute()).replace(",", ",,")
    return f"{prefix}file.driver=file,{prefix}file.filename={name}"


def _below(path: Path, below: Sequence[tuple[Path, ImageType]]) -> str:
    """QEMU's options for the files below a QCOW2, each with its kind. Raises ``Refused`` for data in other files."""
    options, prefix = "", ""
    for number, (layer, type) in enumerate([(path, ImageType.QCOW2), *below]):
        if number:
            prefix += "backing."
            options += f",{prefix}driver={driver_of(type)},{prefix}read-only=on,{_file(layer, prefix)}"
        if type is ImageType.QCOW2:
            with layer.open("rb") as file:
                qcow2.inspect(file.fileno(), alone=False)
    # The last one stands on nothing, whatever its header says by now.
    return options if below and below[-1][1] is not ImageType.QCOW2 else f"{options},{prefix}backing="
