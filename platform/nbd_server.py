"""A small server of the Network Block Device protocol: one read-only disk, made of a function that reads.

Source: "The NBD protocol", https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md (fixed newstyle
negotiation, simple replies). Everything a client says is checked: what makes no sense is refused where the protocol
has a way to say so, and otherwise ends that client's connection and no other.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from portunix_vdisk.platform import nbd_protocol as nbd

_NEGOTIATION = 10.0
"""Seconds that a client has for each of its messages before the transmission begins."""
_LARGEST_OPTION = 1 << 14
_MOST_OPTIONS = 64
_MOST_CLIENTS = 16
_FLAGS = nbd.HAS_FLAGS | nbd.READ_ONLY | nbd.SEND_FLUSH | nbd.CAN_MULTI_CONN
_PREFERRED = 1 << 17
_ERRORS_TOLD = 1000

Read = Callable[[int, int], bytes]
"""Offset and length, always inside the disk, to exactly so many bytes. Whatever it raises, the client gets ``EIO``."""


class _HungUp(Exception):
    """The client has gone, or is to go."""


class NbdServer:
    """Serves one disk to whoever connects, a thread for each.

    Args:
        listener: a listening stream socket; the server owns it from here on.
        size: bytes of the disk.
        read: called from several threads at once.
        name: name of the export; the empty name always means it too.
        log: is told of errors, each wording once; never raises.
    """

    def __init__(
        self,
        listener: socket.socket,
        size: int,
        read: Read,
        name: bytes = b"",
        log: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._listener = listener
        self._size = size
        self._read = read
        self._name = name
        self._log = log
        self._told: set[str] = set()
        self._guard = threading.Lock()
        self._clients: dict[socket.socket, threading.Thread] = {}
        self._stopping = False
        self._woken, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def run(self, patience: float | None = None) -> None:
        """Serve until :meth:`stop`; with ``patience`` also until the last client has gone, or none came in so long.

        Afterwards no connection and no thread is left.
        """
        until = None if patience is None else time.monotonic() + patience
        served = False
        try:
            while not self._stopping:
                with self._guard:
                    idle = not self._clients
                if patience is not None and idle and (served or (until is not None and time.monotonic() > until)):
                    return
                wait = None if until is None or not idle else max(0.0, until - time.monotonic()) + 0.01
                ready, _, _ = select.select([self._listener.fileno(), self._woken], [], [], wait)
                if self._woken in ready:
                    os.read(self._woken, 4096)
                if self._listener.fileno() in ready:
                    served = self._accept() or served
        finally:
            self._close()

    def stop(self) -> None:
        """End :meth:`run` soon; may be called from a signal handler or another thread."""
        self._stopping = True
        self._notify()

    def _notify(self) -> None:
        with suppress(BlockingIOError, OSError):
            os.write(self._wake, b".")

    def _accept(self) -> bool:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:  # it gave up again, or we have no descriptors: neither concerns those we serve
            self._tell(f"cannot accept a client: {error.strerror}")
            time.sleep(0.05)
            return False
        with self._guard:
            if len(self._clients) >= _MOST_CLIENTS:
                connection.close()
                return False
            thread = threading.Thread(target=self._serve, args=(connection,), name="nbd client", daemon=True)
            self._clients[connection] = thread
        thread.start()
        return True

    def _close(self) -> None:
        self._listener.close()
        with self._guard:
            left = dict(self._clients)
        for connection, thread in left.items():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join()
        with self._guard:
            os.close(self._woken)
            os.close(self._wake)
            self._wake = -1

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(_NEGOTIATION)
                self._negotiate(connection)
                connection.settimeout(None)
                while True:
                    self._answer(connection)
        except (_HungUp, OSError):
            pass  # clients come and go as they like
        except Exception as error:  # noqa: BLE001 - a bug met by one client must not take the disk from the others
            self._tell(f"a client was given up: {error!r}")
        finally:
            with self._guard:
                del self._clients[connection]
                self._notify()

    def _tell(self, text: str) -> None:
        with self._guard:
            if text in self._told or len(self._told) >= _ERRORS_TOLD:
                return
            self._told.add(text)
        self._log(text)

    # negotiation --------------------------------------------------------------------------------------

    def _negotiate(self, connection: socket.socket) -> None:
        """Talk until the client has chosen the export. Raises ``_HungUp``."""
        offered = nbd.FLAG_FIXED_NEWSTYLE | nbd.FLAG_NO_ZEROES
        connection.sendall(nbd.INIT_MAGIC + nbd.OPTION_MAGIC + struct.pack(">H", offered))
        (flags,) = struct.unpack(">I", _receive(connection, 4))
        if flags & ~offered:
            raise _HungUp
        for _ in range(_MOST_OPTIONS):
            magic, option, length = nbd.OPTION.unpack(_receive(connection, nbd.OPTION.size))
            if magic != nbd.OPTION_MAGIC or length > _LARGEST_OPTION:
                raise _HungUp
            payload = _receive(connection, length)
            if option == nbd.OPT_EXPORT_NAME:
                if not self._known(payload):
                    raise _HungUp  # this oldest option has no way to say no
                rest = b"" if flags & nbd.FLAG_NO_ZEROES else bytes(124)
                connection.sendall(struct.pack(">QH", self._size, _FLAGS) + rest)
                return
            if self._option(connection, option, payload):
                return
        raise _HungUp

    def _option(self, connection: socket.socket, option: int, payload: bytes) -> bool:
        """Answer one option; True if the transmission begins with it."""

        def reply(kind: int, data: bytes = b"") -> None:
            connection.sendall(nbd.OPTION_REPLY.pack(nbd.OPTION_REPLY_MAGIC, option, kind, len(data)) + data)

        if option == nbd.OPT_ABORT:
            reply(nbd.REP_ACK)
            raise _HungUp
        if option == nbd.OPT_LIST and not payload:
            reply(nbd.REP_SERVER, struct.pack(">I", len(self._name)) + self._name)
            reply(nbd.REP_ACK)
        elif option in (nbd.OPT_INFO, nbd.OPT_GO):
            wish = _wish(payload)
            if wish is None:
                reply(nbd.REP_ERR_INVALID, b"the option makes no sense")
            elif not self._known(wish[0]):
                reply(nbd.REP_ERR_UNKNOWN, b"there is no such export")
            else:
                reply(nbd.REP_INFO, struct.pack(">HQH", nbd.INFO_EXPORT, self._size, _FLAGS))
                if nbd.INFO_BLOCK_SIZE in wish[1]:
                    sizes = struct.pack(">HIII", nbd.INFO_BLOCK_SIZE, 1, _PREFERRED, nbd.MAXIMUM_REQUEST)
                    reply(nbd.REP_INFO, sizes)
                reply(nbd.REP_ACK)
                return option == nbd.OPT_GO
        else:
            reply(nbd.REP_ERR_INVALID if option == nbd.OPT_LIST else nbd.REP_ERR_UNSUP)
        return False

    def _known(self, name: bytes) -> bool:
        return name in (b"", self._name)

    # transmission -------------------------------------------------------------------------------------

    def _answer(self, connection: socket.socket) -> None:
        """Answer one request. Raises ``_HungUp``, ``OSError``."""
        request = _receive(connection, nbd.REQUEST.size)
        magic, flags, command, handle, offset, length = nbd.REQUEST.unpack(request)
        if magic != nbd.REQUEST_MAGIC or command == nbd.DISCONNECT:
            raise _HungUp
        data = b""
        if command == nbd.WRITE:
            # Its data follows in any case; a client that would send more than is allowed is out of step.
            if length > nbd.MAXIMUM_REQUEST:
                raise _HungUp
            _discard(connection, length)
        if command in (nbd.WRITE, nbd.TRIM, nbd.WRITE_ZEROES):
            error = nbd.EPERM
        elif flags or command not in (nbd.READ, nbd.FLUSH):
            error = nbd.EINVAL
        elif command == nbd.FLUSH:
            error = 0
        elif length > nbd.MAXIMUM_REQUEST or offset + length > self._size:
            error = nbd.EINVAL
        else:
            error, data = self._content(offset, length)
        _send(connection, nbd.REPLY.pack(nbd.REPLY_MAGIC, error, handle), data)

    def _content(self, offset: int, length: int) -> tuple[int, bytes]:
        try:
            data = self._read(offset, length)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets EIO and the log gets the rest
            self._tell(str(error) or repr(error))
            return nbd.EIO, b""
        if len(data) != length:
            self._tell(f"a read of {length} bytes at {offset} gave {len(data)}")
            return nbd.EIO, b""
        return 0, data


def _wish(payload: bytes) -> tuple[bytes, set[int]] | None:
    """Name and requested information of ``NBD_OPT_INFO`` and ``NBD_OPT_GO``; None if it makes no sense."""
    if len(payload) < 6:
        return None
    (length,) = struct.unpack_from(">I", payload)
    rest = payload[4 + length :]
    if len(rest) < 2 or len(rest) != 2 + 2 * int.from_bytes(rest[:2], "big"):
        return None
    return payload[4 : 4 + length], {number for (number,) in struct.iter_unpack(">H", rest[2:])}


def _receive(connection: socket.socket, length: int) -> bytes:
    parts = bytearray()
    while len(parts) < length:
        part = connection.recv(length - len(parts))
        if not part:
            raise _HungUp
        parts += part
    return bytes(parts)


def _discard(connection: socket.socket, length: int) -> None:
    while length:
        part = connection.recv(min(length, 1 << 16))
        if not part:
            raise _HungUp
        length -= len(part)


def _send(connection: socket.socket, header: bytes, data: bytes) -> None:
    if not data:
        connection.sendall(header)
        return
    sent = connection.sendmsg([header, data])
    if sent < len(header):
        connection.sendall(header[sent:])
        sent = len(header)
    if sent < len(header) + len(data):
        connection.sendall(memoryview(data)[sent - len(header) :])


def listen(path: Path) -> socket.socket:
    """A listening Unix socket that only this user can reach. Raises ``OSError``; ``ENAMETOOLONG`` beyond 107 bytes."""
    if len(os.fsencode(path)) > 107:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(path))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(os.fsencode(path))
        path.chmod(0o600)
        listener.listen(_MOST_CLIENTS)
    except BaseException:
        listener.close()
        raise
    return listener
