"""Bringing to the medium what was written, while more is made: neither the processors nor the medium wait in turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

_AT_ONCE = 64 << 20
"""Bytes that are brought to the medium at a time, while the next ones are made."""
_POLL = 0.1


class WriteBack:
    """Calls ``act``, which returns when everything written is on the medium, in a thread of its own, now and then.

    Nothing is forgotten: an ``OSError`` of ``act`` is raised by the next :meth:`keep_up` or :meth:`wait`.
    """

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act
        self._thread = ThreadPoolExecutor(1)
        self._running: Future[None] | None = None
        self._unsynced = 0
        self._began = 0.0
        self._took = 0.0

    def wrote(self, length: int) -> None:
        """So many bytes more are to be brought to the medium."""
        self._unsynced += length

    def keep_up(self, poll: Callable[[], None]) -> float | None:
        """Wait until the medium is not far behind; ``poll`` is called meanwhile and may raise.

        So what is shown as done is on the medium but for some 128 MiB, and the last sync has little left to wait for.
        The result, now and then: the part of the time since the last one in which the medium was busy.
        """
        if self._unsynced < _AT_ONCE:
            return None
        busy = None
        if self._running is not None:
            while not wait([self._running], _POLL).done:
                poll()
            self.wait()
            busy = min(1.0, self._took / max(time.monotonic() - self._began, 1e-9))
        self._began = time.monotonic()
        self._unsynced = 0
        self._running = self._thread.submit(self._timed)
        return busy

    def wait(self) -> None:
        """Wait for what is under way. Raises ``OSError`` if it failed."""
        if self._running is not None:
            running, self._running = self._running, None
            running.result()

    def close(self) -> None:
        """Wait for what is under way, however it goes."""
        self._thread.shutdown(wait=True)

    def _timed(self) -> None:
        began = time.monotonic()
        self._act()
        self._took = time.monotonic() - began
