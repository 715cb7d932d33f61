"""Bringing one filesystem to stable storage while something else goes on."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable

_libc = ctypes.CDLL(None, use_errno=True)
_POLL_SECONDS = 0.05


def sync_filesystem(descriptor: int) -> None:
    """Return when everything written to the filesystem of an open file is on stable storage. Raises ``OSError``."""
    syncfs = getattr(_libc, "syncfs", None)
    if syncfs is None:
        os.sync()
    elif syncfs(descriptor) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


class Flush:
    """``syncfs`` in the background. The kernel cannot be stopped in it, but nobody has to wait for it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = os.dup(descriptor)
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="syncfs", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            sync_filesystem(self._descriptor)
        except OSError as error:
            self._error = error
        finally:
            os.close(self._descriptor)

    def wait(self, pause: Callable[[], None]) -> None:
        """Return when it is done. Raises ``OSError`` if it failed, and what ``pause`` raises."""
        while self._thread.is_alive():
            self._thread.join(_POLL_SECONDS)
            pause()
        if self._error is not None:
            raise self._error
