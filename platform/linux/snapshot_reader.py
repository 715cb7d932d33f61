"""Reading a snapshot: from the storage daemon that serves it, or from the file that shares blocks with the image."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from portunix_vdisk.platform.base import Snapshot, SnapshotReader
from portunix_vdisk.platform.commands import display
from portunix_vdisk.platform.errors import Failed
from portunix_vdisk.platform.linux.fleecing import EXPORT
from portunix_vdisk.platform.nbd import NbdClient

CLUSTER: Final = 1 << 16
"""What the daemon copies at once before it is overwritten. QEMU 7.2 answers a read that begins in such a cluster and
ends in one that was not overwritten with the new content of the first: so no request goes beyond one."""
_PATIENCE = 60.0


@contextmanager
def opened(snapshot: Snapshot) -> Iterator[SnapshotReader]:
    """Open a snapshot; see :meth:`Platform.open_snapshot`."""
    if snapshot.served:
        client = _connected(snapshot)
        try:
            yield _Served(client)
        finally:
            client.close()
        return
    try:
        descriptor = os.open(snapshot.place, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        # Nothing is left of it when we end, in whatever way.
        snapshot.place.unlink()
    except OSError as error:
        raise Failed(f"cannot open {display(str(snapshot.place))}: {error.strerror}") from error
    try:
        yield _Cloned(descriptor)
    finally:
        os.close(descriptor)


def _connected(snapshot: Snapshot) -> NbdClient:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(_PATIENCE)
        connection.connect(os.fsencode(snapshot.place))
    except OSError as error:
        connection.close()
        raise Failed(f"cannot reach the snapshot: {error.strerror or error}") from error
    client = NbdClient(connection, EXPORT.encode())
    if client.size < snapshot.size:
        client.close()
        raise Failed(f"the snapshot has {client.size} bytes instead of {snapshot.size}")
    return client


class _Served:
    def __init__(self, client: NbdClient) -> None:
        self._client = client

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """See :meth:`SnapshotReader.read_into`."""
        self._client.read_into(offset, buffer, CLUSTER)


class _Cloned:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """See :meth:`SnapshotReader.read_into`."""
        while buffer:
            try:
                count = os.preadv(self._descriptor, [buffer], offset)
            except OSError as error:
                raise Failed(f"cannot read the snapshot at byte {offset}: {error.strerror}") from error
            if not count:
                raise Failed(f"the snapshot ends at byte {offset}")
            offset, buffer = offset + count, buffer[count:]
