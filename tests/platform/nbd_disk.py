"""A disk behind a running NBD server, with a range that cannot be read."""

from __future__ import annotations

import random
import socket
import threading
from pathlib import Path

from portunix_vdisk.platform.errors import Corrupt
from portunix_vdisk.platform.nbd import NbdClient
from portunix_vdisk.platform.nbd_server import NbdServer, listen

SIZE = (40 << 20) + 512
CONTENT = random.Random(5).randbytes(SIZE)
BAD = range(10 << 20, (10 << 20) + 4096)


def read(offset: int, length: int) -> bytes:
    assert 0 <= offset <= offset + length <= SIZE, "the server passes on what lies outside"
    if offset < BAD.stop and offset + length > BAD.start:
        raise Corrupt("chunk 2 is damaged")
    return CONTENT[offset : offset + length]


class Served:
    """A running server, its socket and what it logged."""

    def __init__(self, folder: Path, patience: float | None = None, reader=read) -> None:  # type: ignore[no-untyped-def]
        self.socket = folder / "nbd"
        self.log: list[str] = []
        self.server = NbdServer(listen(self.socket), SIZE, reader, b"disk", self.log.append)
        self.thread = threading.Thread(target=self.server.run, args=(patience,))
        self.thread.start()

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(5)
        connection.connect(str(self.socket))
        return connection

    def client(self, name: bytes = b"") -> NbdClient:
        connection = self.connect()
        connection.settimeout(None)
        return NbdClient(connection, name)
