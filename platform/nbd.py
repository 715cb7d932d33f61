"""A small client of the Network Block Device protocol over a Unix socket.

Source: "The NBD protocol", https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md (fixed newstyle
negotiation with ``NBD_OPT_GO``, simple replies). Everything the server says is checked: a reply that makes no sense
closes the connection.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from portunix_vdisk.platform import nbd_protocol as protocol
from portunix_vdisk.platform.errors import Failed

_LARGEST_OPTION_REPLY = 1 << 16
_IN_FLIGHT = 64
"""Requests that are sent before the first answer is read: few enough that both sides' buffers hold them."""


@dataclass(frozen=True, slots=True)
class Export:
    """What the server offers: size in bytes, transmission flags, largest request in bytes."""

    size: int
    flags: int
    maximum: int

    @property
    def read_only(self) -> bool:
        """True where the server refuses writes."""
        return bool(self.flags & protocol.READ_ONLY)


class NbdClient:
    """One export, opened for random access; usable from several threads, which take turns request by request.

    Args:
        connection: a connected stream socket; the client owns it from here on.
        name: name of the export; the empty name is the server's default.

    Raises:
        Failed: the server speaks no NBD, has no such export, or reports an error.
    """

    def __init__(self, connection: socket.socket, name: bytes = b"") -> None:
        self._socket = connection
        self._turn = threading.Lock()
        self._handle = 0
        self._broken = False
        try:
            self.export = self._negotiate(name)
        except OSError as error:
            connection.close()
            raise Failed(f"the block server broke off the negotiation: {error.strerror or error}") from error
        except BaseException:
            connection.close()
            raise

    @property
    def size(self) -> int:
        """Size of the export in bytes."""
        return self.export.size

    # negotiation --------------------------------------------------------------------------------------

    def _negotiate(self, name: bytes) -> Export:
        if self._receive(16) != protocol.INIT_MAGIC + protocol.OPTION_MAGIC:
            raise Failed("the block server does not speak the newstyle NBD protocol")
        (server_flags,) = struct.unpack(">H", self._receive(2))
        if not server_flags & protocol.FLAG_FIXED_NEWSTYLE:
            raise Failed("the block server does not speak fixed newstyle NBD")
        self._socket.sendall(struct.pack(">I", protocol.FLAG_FIXED_NEWSTYLE | (server_flags & protocol.FLAG_NO_ZEROES)))
        wish = struct.pack(">I", len(name)) + name + struct.pack(">HH", 1, protocol.INFO_BLOCK_SIZE)
        self._socket.sendall(protocol.OPTION_MAGIC + struct.pack(">II", protocol.OPT_GO, len(wish)) + wish)
        size = flags = None
        maximum = protocol.MAXIMUM_REQUEST
        while True:
            magic, option, kind, length = protocol.OPTION_REPLY.unpack(self._receive(protocol.OPTION_REPLY.size))
            if magic != protocol.OPTION_REPLY_MAGIC or option != protocol.OPT_GO or length > _LARGEST_OPTION_REPLY:
                raise Failed("the block server sent a reply that makes no sense")
            payload = self._receive(length)
            if kind == protocol.REP_ACK:
                break
            if kind != protocol.REP_INFO:
                raise Failed(f"the block server refused the export: {payload.decode(errors='replace') or hex(kind)}")
            about = int.from_bytes(payload[:2], "big")
            if about == protocol.INFO_EXPORT and length == 12:
                size, flags = struct.unpack(">QH", payload[2:])
            elif about == protocol.INFO_BLOCK_SIZE and length == 14:
                maximum = min(maximum, max(1 << 16, int.from_bytes(payload[10:], "big")))
        if size is None or flags is None or not flags & protocol.HAS_FLAGS:
            raise Failed("the block server did not describe the export")
        return Export(size, flags, maximum)

    # transmission -------------------------------------------------------------------------------------

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes at ``offset``. Raises ``Failed``; ``ValueError`` outside the export."""
        self._inside(offset, length)
        parts = []
        for start in range(0, length, self.export.maximum):
            count = min(self.export.maximum, length - start)
            parts.append(self._request(protocol.READ, offset + start, count, wanted=count))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_into(self, offset: int, buffer: memoryview, unit: int) -> None:
        """Fill ``buffer`` with the bytes at ``offset``, by many requests at once of which none crosses a multiple of
        ``unit`` bytes. Raises ``Failed``; ``ValueError`` outside the export.
        """
        self._inside(offset, len(buffer))
        done = 0
        while done < len(buffer):
            pieces: list[tuple[int, memoryview]] = []
            while done < len(buffer) and len(pieces) < _IN_FLIGHT:
                count = min(unit - (offset + done) % unit, len(buffer) - done)
                pieces.append((offset + done, buffer[done : done + count]))
                done += count
            self._read_pieces(pieces)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Write ``data`` at ``offset``. Raises ``Failed``; ``ValueError`` outside the export."""
        view = memoryview(data).cast("B")
        self._inside(offset, len(view))
        self._writable()
        for start in range(0, len(view), self.export.maximum):
            piece = view[start : start + self.export.maximum]
            self._request(protocol.WRITE, offset + start, len(piece), out=piece)

    def zero(self, offset: int, length: int) -> None:
        """Make a range read as zeros; the server may leave a hole. Raises ``Failed``."""
        self._inside(offset, length)
        self._writable()
        for start in range(0, length, self.export.maximum):
            count = min(self.export.maximum, length - start)
            if self.export.flags & protocol.SEND_WRITE_ZEROES:
                self._request(protocol.WRITE_ZEROES, offset + start, count)
            else:
                self._request(protocol.WRITE, offset + start, count, out=memoryview(bytes(count)))

    def flush(self) -> None:
        """Return when the server says that everything written is on stable storage. Raises ``Failed``."""
        if self.export.flags & protocol.SEND_FLUSH:
            self._request(protocol.FLUSH, 0, 0)

    def close(self) -> None:
        """Say goodbye; does not flush. Never raises."""
        try:
            with self._turn:
                self._socket.sendall(protocol.REQUEST.pack(protocol.REQUEST_MAGIC, 0, protocol.DISCONNECT, 0, 0, 0))
        except OSError:
            pass  # the server has gone already: nothing is left to be told
        finally:
            self._socket.close()

    def _inside(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.export.size:
            raise ValueError(f"{length} bytes at {offset} are outside a disk of {self.export.size} bytes")

    def _writable(self) -> None:
        if self.export.read_only:
            raise Failed("the disk image is open for reading only")

    def _request(self, command: int, offset: int, length: int, out: memoryview | None = None, wanted: int = 0) -> bytes:
        with self._in_step():
            self._handle += 1
            self._send(protocol.REQUEST.pack(protocol.REQUEST_MAGIC, 0, command, self._handle, offset, length), out)
            magic, error, handle = protocol.REPLY.unpack(self._receive(protocol.REPLY.size))
            if magic != protocol.REPLY_MAGIC or handle != self._handle:
                raise Failed("the block server sent a reply that makes no sense")
            answer = b"" if error else self._receive(wanted)
        if error:
            raise Failed(f"the disk image reported an error: {os.strerror(_local_errno(error))}")
        return answer

    def _read_pieces(self, pieces: Sequence[tuple[int, memoryview]]) -> None:
        with self._in_step():
            wanted, requests = {}, bytearray()
            for offset, piece in pieces:
                self._handle += 1
                wanted[self._handle] = piece
                requests += protocol.REQUEST.pack(
                    protocol.REQUEST_MAGIC, 0, protocol.READ, self._handle, offset, len(piece)
                )
            failure = 0
            self._socket.sendall(requests)
            while wanted:
                magic, error, handle = protocol.REPLY.unpack(self._receive(protocol.REPLY.size))
                if magic != protocol.REPLY_MAGIC or handle not in wanted:
                    raise Failed("the block server sent a reply that makes no sense")
                piece = wanted.pop(handle)
                failure = failure or error
                if not error:
                    self._receive_into(piece)
        if failure:
            raise Failed(f"the disk image reported an error: {os.strerror(_local_errno(failure))}")

    @contextmanager
    def _in_step(self) -> Iterator[None]:
        """One thread's turn. What interrupts it between request and reply leaves the stream out of step for good."""
        with self._turn:
            if self._broken:
                raise Failed("the connection to the block server is broken")
            try:
                yield
            except OSError as failure:
                self._broken = True
                raise Failed(f"the block server has gone: {failure.strerror or failure}") from failure
            except BaseException:
                self._broken = True
                raise

    def _receive_into(self, view: memoryview) -> None:
        while view:
            count = self._socket.recv_into(view, len(view), socket.MSG_WAITALL)
            if not count:
                raise ConnectionResetError(errno.ECONNRESET, "connection closed")
            view = view[count:]

    def _send(self, header: bytes, out: memoryview | None) -> None:
        if out is None:
            self._socket.sendall(header)
            return
        sent = self._socket.sendmsg([header, out])
        if sent < len(header):
            self._socket.sendall(header[sent:])
            sent = len(header)
        self._socket.sendall(out[sent - len(header) :])

    def _receive(self, length: int) -> bytes:
        parts = []
        while length:
            # The kernel waits until all of it is there: one copy, straight into the result.
            part = self._socket.recv(length, socket.MSG_WAITALL)
            if not part:
                raise ConnectionResetError(errno.ECONNRESET, "connection closed")
            parts.append(part)
            length -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _local_errno(error: int) -> int:
    """NBD uses the numbers of Linux for the few errors that it knows."""
    known = {1: errno.EPERM, 5: errno.EIO, 12: errno.ENOMEM, 22: errno.EINVAL, 28: errno.ENOSPC, 75: errno.EOVERFLOW}
    return known.get(error, errno.EIO)
