"""A small client of the QEMU Machine Protocol over a connected socket.

Source: QEMU, docs/interop/qmp-spec.rst: lines of JSON; a greeting, then ``qmp_capabilities``, then commands with an
``id`` that comes back with the answer; events may come at any time and mean nothing to us. What the other side says is
checked like any input: a line that makes no sense breaks the connection off.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

from portunix_vdisk.platform.errors import Failed

Json = Mapping[str, object]

_LARGEST_LINE: Final = 4 << 20
_PATIENCE: Final = 30.0
"""Seconds for one answer: flushing a large image to a slow disk is the longest that a command does."""


class Declined(Failed):
    """The other side understood a command and answered that it cannot do it."""


class QmpClient:
    """One conversation with a monitor. Use as a context manager; it owns the connection.

    Args:
        connection: a connected stream socket.
        patience: seconds that one answer may take.

    Raises:
        Failed: the other side speaks no QMP, breaks off, or takes too long.
    """

    def __init__(self, connection: socket.socket, patience: float = _PATIENCE) -> None:
        self._socket = connection
        self._patience = patience
        self._number = 0
        self._ahead = b""
        try:
            if not isinstance(self._message(time.monotonic() + patience).get("QMP"), dict):
                raise Failed("the storage daemon's monitor does not speak QMP")
            self.execute("qmp_capabilities")
        except BaseException:
            connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def execute(self, command: str, arguments: Json | None = None) -> object:
        """Run a command; what it returned. Raises ``Declined``, ``Failed``."""
        self._number += 1
        request = {"execute": command, "arguments": arguments or {}, "id": self._number}
        deadline = time.monotonic() + self._patience
        try:
            self._socket.settimeout(self._patience)
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise Failed(f"the storage daemon has gone: {error.strerror or error}") from error
        while True:
            answer = self._message(deadline)
            if "event" in answer:
                continue
            if answer.get("id") != self._number:
                raise Failed("the storage daemon's monitor sent an answer that makes no sense")
            if "return" in answer:
                return answer["return"]
            failure = answer.get("error")
            why = failure.get("desc") if isinstance(failure, dict) else None
            raise Declined(f"the storage daemon cannot do {command}: {why}")

    def _message(self, deadline: float) -> Json:
        """The next line. Raises ``Failed``."""
        while b"\n" not in self._ahead:
            left = deadline - time.monotonic()
            try:
                if left <= 0:
                    raise TimeoutError
                self._socket.settimeout(left)
                part = self._socket.recv(1 << 16)
            except TimeoutError:
                raise Failed(f"the storage daemon has not answered within {self._patience:.0f} s") from None
            except OSError as error:
                raise Failed(f"the storage daemon has gone: {error.strerror or error}") from error
            if not part:
                raise Failed("the storage daemon has broken off")
            self._ahead += part
            if len(self._ahead) > _LARGEST_LINE:
                raise Failed("the storage daemon's monitor sent a line without end")
        line, _, self._ahead = self._ahead.partition(b"\n")
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise Failed("the storage daemon's monitor sent something that is no message")
        return found
