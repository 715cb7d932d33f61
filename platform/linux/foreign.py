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


# Not --fork: its parent takes any word of the child for a failure, and QEMU's driver for UDIF complains on Debian
# that it lacks modules. The file with the process id is written when the server is ready.
_SERVE = """qemu-nbd --read-only --shared=1 --pid-file="$2.pid" --socket="$2" -- "$1" 2> "$2.said" > /dev/null &
trap 'kill $!; exit 1' TERM
until [ -s "$2.pid" ]; do
    kill -0 $! 2> /dev/null || { cat "$2.said" >&2; exit 1; }
    sleep 0.02
done"""


def server_of(path: Path, type: ForeignType) -> tuple[str, ...]:
    """A command that serves the disk inside to one client and ends with it; see :meth:`Platform.foreign_server`."""
    options = {"driver": _DRIVERS.get(type, str(type)), "file": {"driver": "file", "filename": str(path.absolute())}}
    # Not the parent that its description may name.
    alone = {"backing": None} if type is ForeignType.VMDK else {}
    return ("setpriv", *same_rights(), "sh", "-c", _SERVE, "sh", "json:" + json.dumps(options | alone))


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
