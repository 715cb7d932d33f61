"""The plugin process: ``portunix-vdisk-plugin --socket PATH``.

It serves one Unix socket in a private folder, starts a worker process for each operation, and ends by itself: after a
time without work, on SIGTERM, or when its socket is no longer the one in the file system. Whatever ends it, workers
stop at a safe point first. Plugin, workers and their children are one session and one process group.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import queue
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from portunix_vdisk.platform.errors import ExitCode, Refused, VdiskError
from portunix_vdisk.platform.home import Home, act_as_caller, leave_disk
from portunix_vdisk.plugin import address
from portunix_vdisk.plugin.identity import as_real_user
from portunix_vdisk.plugin.logs import open_plugin_log
from portunix_vdisk.plugin.version import VERSION
from portunix_vdisk.plugin.worker_process import WORKER

if TYPE_CHECKING:
    from portunix_vdisk.plugin.running import RunningOperations

IDLE_SECONDS = 600.0
_SAFE_POINT_SECONDS = 60.0
_HANDOVER_SECONDS = 8.0

_abandoned: list[object] = []
"""A server whose socket file is another's now. gRPC removes that file by name when it closes a listener, even when the
object is merely collected; so it is kept, and the process ends without closing it."""


@dataclass(frozen=True, slots=True)
class Service:
    """What one plugin process serves, and until when. ``once``: it ends with its first operation."""

    home: Home
    socket: Path
    idle_seconds: float
    once: bool
    worker: Sequence[str]


def main(arguments: Sequence[str] | None = None, worker: Sequence[str] = WORKER) -> int:
    """Serve until there is a reason to end.

    Args:
        arguments: the command line without the program's name.
        worker: command of a worker process; tests pass their own.
    """
    parser = argparse.ArgumentParser("portunix-vdisk-plugin", description="The vdisk plugin of Portunix.")
    parser.add_argument("--socket", type=Path, required=True, help="Unix socket, in a folder of mode 0700")
    parser.add_argument("--idle-seconds", type=float, default=IDLE_SECONDS, help="end after so long without work")
    parser.add_argument("--once", action="store_true", help="end after the first operation")
    parser.add_argument("--version", action="version", version=f"portunix-vdisk-plugin {VERSION}")
    options = parser.parse_args(arguments)
    leave_disk()
    act_as_caller()
    home = Home.of_caller()
    try:
        home.make()
        _own_session()
        serve(Service(home, options.socket.absolute(), options.idle_seconds, options.once, worker))
    except (VdiskError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code if isinstance(error, VdiskError) else ExitCode.FAILED
    if _abandoned:
        os._exit(ExitCode.DONE)
    return ExitCode.DONE


def serve(service: Service) -> None:
    """Serve and clean up. Raises ``VdiskError`` if the socket cannot be ours, and ``OSError``."""
    if len(os.fsencode(service.socket)) > address.LONGEST:
        raise Refused(f"the socket's path is longer than {address.LONGEST} bytes: {service.socket}")
    os.chdir("/")  # a working folder on a disk would keep it from being unmounted
    with as_real_user():
        address.make_private(service.socket.parent)
    # Before there is anything to clean up: an early SIGTERM must find somebody who does.
    reasons: queue.SimpleQueue[str] = queue.SimpleQueue()
    signal.signal(signal.SIGTERM, lambda *_: reasons.put("SIGTERM"))
    with _alone(service):
        # The first worker imports its libraries while we import ours.
        from portunix_vdisk.plugin.running import RunningOperations, Workers

        workers = Workers(service.worker, service.home, once=service.once)
        try:
            log = open_plugin_log(service.home)
            running = RunningOperations(workers, log)
            log.info("version %s serves %s", VERSION, service.socket)
            log.info("ends: %s", _listen(service, running, reasons))
        finally:
            workers.close()


def _listen(service: Service, running: RunningOperations, reasons: queue.SimpleQueue[str]) -> str:
    """Open the socket, wait for a reason to end, end everything that runs; the reason."""
    import grpc

    from portunix_vdisk.plugin.rpc import vdisk_pb2_grpc
    from portunix_vdisk.plugin.service import MOST_OPERATIONS, VdiskService

    server = grpc.server(
        ThreadPoolExecutor(max_workers=2 * MOST_OPERATIONS),
        options=[("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)],
    )
    vdisk_pb2_grpc.add_VdiskServicer_to_server(  # type: ignore[no-untyped-call]
        VdiskService(service.home, running, reasons.put), server
    )
    with as_real_user():
        service.socket.unlink(missing_ok=True)  # left by a killed plugin: we hold the lock
        server.add_insecure_port(f"unix:{service.socket}")
        server.start()
        ours = _inode(service.socket)
    reason = _reason_to_end(service, running, reasons, ours)
    stopped = running.stop(_SAFE_POINT_SECONDS)
    if _inode(service.socket) == ours:
        server.stop(grace=2.0).wait()
        with as_real_user():
            service.socket.unlink(missing_ok=True)
    else:
        _abandoned.append(server)
        time.sleep(0.2)  # the last results still have to get to their clients
    return reason if stopped else f"{reason}; a worker has not reached a safe point yet and stops there"


def _reason_to_end(
    service: Service, running: RunningOperations, reasons: queue.SimpleQueue[str], ours: tuple[int, int] | None
) -> str:
    interval = 0.05 if service.once else max(0.05, min(1.0, service.idle_seconds / 4))
    while True:
        with contextlib.suppress(queue.Empty):
            return reasons.get(timeout=interval)
        if _inode(service.socket) != ours:
            return "the socket was removed or replaced"
        limit = service.idle_seconds
        if service.once:
            limit = 0.01 if running.begun else min(limit, 15.0)
        if running.idle_seconds() >= limit and running.refuse_more(only_if_idle=True):
            return "nothing to do"


def _inode(path: Path) -> tuple[int, int] | None:
    with as_real_user():
        try:
            found = path.lstat()
        except OSError:
            return None
    return found.st_dev, found.st_ino


def _own_session() -> None:
    """Leave the terminal's session, so that Ctrl-C there doesn't reach us; what remains of it is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with contextlib.suppress(PermissionError):  # leads a group already
        os.setsid()


@contextlib.contextmanager
def _alone(service: Service) -> Iterator[None]:
    """Hold the lock on the pid file, so that one plugin serves a socket; a plugin that is ending is waited for.

    Raises ``Refused`` if another one serves.
    """
    path = service.socket.with_suffix(".pid")
    deadline = time.monotonic() + _HANDOVER_SECONDS
    while True:
        with as_real_user():
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            if address.answers(service.socket) or time.monotonic() > deadline:
                raise Refused(f"another plugin serves {service.socket}") from None
            time.sleep(0.02)
            continue
        found = os.fstat(descriptor)
        if (found.st_dev, found.st_ino) == _inode(path):
            break
        os.close(descriptor)  # its last holder removed it between our two looks
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        with as_real_user():
            if _inode(path) == (found.st_dev, found.st_ino):
                path.unlink(missing_ok=True)
            if service.once or service.socket.parent == address.short_folder(service.home):
                with contextlib.suppress(OSError):  # a new plugin may be using it
                    service.socket.parent.rmdir()
        os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())
