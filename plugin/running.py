"""Operations that run, and the workers that wait for the next one."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from logging import Logger

from portunix_vdisk.platform.errors import ExitCode
from portunix_vdisk.platform.home import Home
from portunix_vdisk.plugin.rpc import vdisk_pb2 as rpc
from portunix_vdisk.plugin.worker_process import WorkerProcess

_MANY = 1000
"""So many events may wait for a slow client; beyond that, progress is dropped."""


class RunningOperation:
    """One operation and its worker.

    A thread empties the worker's event pipe whether or not the client keeps up, so that a client that sleeps, or is
    gone, never holds up the work.
    """

    def __init__(self, name: str, worker: WorkerProcess, ended: Callable[[RunningOperation], None]) -> None:
        self.name = name
        self.worker = worker
        self.started = time.time()
        self.exit_code = int(ExitCode.FAILED)
        self._ended = ended
        self._events: queue.SimpleQueue[rpc.ServerMessage | None] = queue.SimpleQueue()

    def begin(self, request: rpc.ClientMessage) -> None:
        """Send the request and start listening."""
        self.worker.send(request.SerializeToString())
        threading.Thread(target=self._pump, name=f"worker {self.worker.pid}", daemon=True).start()

    def messages(self) -> Iterator[rpc.ServerMessage]:
        """What happens, up to and including the result."""
        while (message := self._events.get()) is not None:
            yield message

    def describe(self) -> rpc.RunningOperation:
        """For a person who asks what is going on."""
        return rpc.RunningOperation(operation=self.name, worker_pid=self.worker.pid, started=self.started)

    def _pump(self) -> None:
        result: rpc.Result | None = None
        try:
            for payload in self.worker.events():
                message = rpc.ServerMessage.FromString(payload)
                kind = message.WhichOneof("kind")
                if kind == "progress" and self._events.qsize() > _MANY:
                    continue
                if kind == "result":
                    result = message.result
                    break
                self._events.put(message)
        finally:
            if result is None:
                result = rpc.Result(
                    exit_code=ExitCode.FAILED,
                    error=rpc.Error(
                        what=f"the worker process {self.worker.end()}",
                        state="nothing is lost",
                        hint="run the same command to continue",
                    ),
                )
            self.exit_code = result.exit_code
            # The operation is over before the client hears of it: what it does next finds nothing running.
            self._ended(self)
            self._events.put(rpc.ServerMessage(result=result))
            self._events.put(None)
            self.worker.end()


class Workers:
    """Starts workers; one is always started in advance, so that an operation begins at once."""

    def __init__(self, command: Sequence[str], home: Home, *, once: bool) -> None:
        """``once``: there will be one operation only, so that none is started in its wake."""
        self._command = tuple(command)
        self._home = home
        self._once = once
        self._lock = threading.Lock()
        self._standby: WorkerProcess | None = WorkerProcess(self._command, home)

    def take(self) -> WorkerProcess:
        """A worker that is ready or nearly so. Raises ``OSError`` if none can be started."""
        with self._lock:
            worker, self._standby = self._standby, None
            if worker is not None and not worker.alive():
                worker.end()
                worker = None
            if worker is None:
                worker = WorkerProcess(self._command, self._home)
            if not self._once:
                try:
                    self._standby = WorkerProcess(self._command, self._home)
                except OSError:  # the next operation tries again, and tells
                    self._standby = None
            return worker

    def close(self) -> None:
        """End the worker that waits."""
        with self._lock:
            worker, self._standby, self._once = self._standby, None, True
        if worker is not None:
            worker.end()


class RunningOperations:
    """All operations that run in this plugin, and when the last one ended."""

    def __init__(self, workers: Workers, log: Logger) -> None:
        self.workers = workers
        self._log = log
        self._changed = threading.Condition()
        self._running: list[RunningOperation] = []
        self._stopping = False
        self.begun = 0
        self._idle_since = time.monotonic()

    def begin(self, request: rpc.ClientMessage) -> RunningOperation | None:
        """Start an operation; None when the plugin is about to end. Raises ``OSError`` if no worker can be started."""
        with self._changed:
            if self._stopping:
                return None
            operation = RunningOperation(request.request.operation, self.workers.take(), self._ended)
            self._running.append(operation)
            self.begun += 1
        self._log.info("%s begins in worker %d", operation.name, operation.worker.pid)
        operation.begin(request)
        return operation

    def describe(self) -> list[rpc.RunningOperation]:
        """All that run now."""
        with self._changed:
            return [operation.describe() for operation in self._running]

    def idle_seconds(self) -> float:
        """How long nothing has run; 0 while something runs."""
        with self._changed:
            return 0.0 if self._running else time.monotonic() - self._idle_since

    def refuse_more(self, *, only_if_idle: bool) -> bool:
        """Start nothing from now on; with ``only_if_idle`` only if nothing runs. True if so."""
        with self._changed:
            if not (only_if_idle and self._running):
                self._stopping = True
            return self._stopping

    def stop(self, seconds: float) -> bool:
        """Stop all at their next safe points and wait for that; False if ``seconds`` were not enough."""
        with self._changed:
            self._stopping = True
            running = list(self._running)
        for operation in running:
            operation.worker.let_go()
        with self._changed:
            return self._changed.wait_for(lambda: not self._running, seconds)

    def _ended(self, operation: RunningOperation) -> None:
        with self._changed:
            self._running.remove(operation)
            self._idle_since = time.monotonic()
            self._changed.notify_all()
        self._log.info("%s ends with exit code %d", operation.name, operation.exit_code)
