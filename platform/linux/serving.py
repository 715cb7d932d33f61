"""Starting the process that reads a disk out of a file of ours.

It offers the disk to one client, over a socket in a private folder that is gone again as soon as the client has met
it. It ends with that client, so a storage daemon that ends, in whatever way, takes it along.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from portunix_vdisk.platform.commands import Commands
from portunix_vdisk.platform.errors import ToolFailed
from portunix_vdisk.platform.reports import error_in


@contextmanager
def started(commands: Commands, server: Sequence[str], secret: bytes = b"") -> Iterator[Path]:
    """Start a server, which reads ``secret``, and give the socket at which it listens. If the context fails, it ends.

    Raises what the server reports, and ``Missing``.
    """
    folder = Path(tempfile.mkdtemp(prefix="portunix-archive-"))
    path = folder / "nbd"
    try:
        try:
            commands.launch(*server, str(path), input=secret)
        except ToolFailed as error:
            raise error_in(error.output) or error from error
        try:
            yield path
        except BaseException:
            _send_away(path)
            raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _send_away(path: Path) -> None:
    """A server that has had a client and lost it ends."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.fsencode(path))
