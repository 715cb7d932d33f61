"""The process that reads a disk out of a file of ours: how root meets it, and how it is ended.

It runs with the rights of the person and opens the file itself; :mod:`portunix_vdisk.platform.linux.serving` starts it.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from portunix_vdisk.platform.errors import Failed, Refused
from portunix_vdisk.platform.linux.mount_point import Caller, acting_as
from portunix_vdisk.platform.linux.processes import ProcessIdentity, end, identify
from portunix_vdisk.platform.linux.state import State

_PATIENCE = 5.0
_CREDENTIALS = struct.Struct("3i")
"""``struct ucred`` of unix(7): pid, uid, gid."""


@contextmanager
def connected(path: Path, caller: Caller) -> Iterator[tuple[int, ProcessIdentity]]:
    """A connection to the server at a socket, and who that is. With root's rights, for the caller.

    A restricted caller's socket is opened with their rights and must be served by a process of theirs: that one is
    ended later on their word.

    Raises:
        Refused: there is no such socket, or another user's process listens at it.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            with acting_as(caller):
                connection.connect(os.fsencode(path))
        except (OSError, ValueError) as error:
            raise Refused(f"cannot reach the process that reads the archive: {error}", "nothing was changed") from error
        options = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(options)
        if caller.restricted and uid != caller.owner.uid:
            raise Refused("the socket belongs to another user's process", "nothing was changed")
        server = identify(pid)
        if server is None:
            raise Failed("the process that reads the archive has ended already", "nothing was changed")
        yield connection.fileno(), server


def end_server(note: State) -> None:
    """End the server of an attachment whose storage daemon has ended; it only reads, so it can be ended in any way."""
    server = ProcessIdentity(note.server_pid, note.server_started)
    if not note.server_pid or end(server, _PATIENCE):
        return
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(server.pid)
        try:
            if server.alive():
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)
