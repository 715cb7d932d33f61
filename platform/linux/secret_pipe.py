"""Handing a secret to a program: through a pipe that is full and closed before the program starts.

So it is in no argument, environment or file, and nobody has to go on writing while the program runs.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from portunix_vdisk.platform.errors import BadUsage

_LOWEST = 64
"""Shells use the lowest descriptors for themselves."""


@contextmanager
def secret_pipe(secret: bytes) -> Iterator[int]:
    """A descriptor from which a child that inherits it reads ``secret``, once; as a file it is ``/dev/fd/N``.

    Raises ``BadUsage`` for a secret that does not fit into a pipe at once.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            os.set_blocking(writing, False)
            if os.write(writing, secret) != len(secret):
                raise BadUsage("the password is too long")
        except BlockingIOError:
            raise BadUsage("the password is too long") from None
        finally:
            os.close(writing)
        high = fcntl.fcntl(reading, fcntl.F_DUPFD_CLOEXEC, _LOWEST)
    finally:
        os.close(reading)
    try:
        yield high
    finally:
        os.close(high)
