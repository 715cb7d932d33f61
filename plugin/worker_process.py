"""The plugin's side of a worker process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence

from portunix_vdisk.platform.home import Home
from portunix_vdisk.plugin import framing
from portunix_vdisk.plugin.identity import child_environment, child_identity
from portunix_vdisk.plugin.logs import open_worker_log

WORKER = (sys.executable, "-P", "-m", "portunix_vdisk.plugin.worker")
"""Command of a worker. ``-P``: nothing in the working folder may shadow a module."""


class WorkerProcess:
    """A worker, started by exec and warming up; it runs the one operation that it is sent.

    It belongs to the plugin's session and process group. Raises ``OSError`` if it cannot be started.
    """

    def __init__(self, command: Sequence[str], home: Home) -> None:
        log = open_worker_log(home)
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                cwd="/",  # a working folder on a disk would keep it from being unmounted
                env={**child_environment(), "PORTUNIX_HOME": str(home.root)},
                **child_identity(),
            )
        finally:
            os.close(log)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._control = self._process.stdin
        self._events = self._process.stdout
        self._lock = threading.Lock()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def alive(self) -> bool:
        """False once it has ended."""
        return self._process.poll() is None

    def send(self, payload: bytes) -> None:
        """Send a control message; a worker that has ended shows at the end of :meth:`events`."""
        with self._lock, contextlib.suppress(OSError):
            if not self._control.closed:
                framing.write_message(self._control.fileno(), payload)

    def let_go(self) -> None:
        """Close the control pipe: the worker stops at its next safe point, or at once if it has nothing to do."""
        with self._lock:
            self._control.close()

    def events(self) -> Iterator[bytes]:
        """Everything it tells, until it closes the pipe or writes nonsense."""
        with contextlib.suppress(OSError, ValueError):
            while (payload := framing.read_message(self._events.fileno())) is not None:
                yield payload

    def end(self) -> str:
        """Wait for its end, release the pipes, and say in words how it ended."""
        self.let_go()
        self._events.close()  # before waiting: one that still writes must not wait for us
        status = self._process.wait()
        if status < 0:
            name = signal.Signals(-status).name if -status in signal.valid_signals() else "unknown"
            return f"ended with signal {-status} ({name})" if -status != signal.SIGKILL else "ended with signal 9"
        return f"ended with status {status}"
