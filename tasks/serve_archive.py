"""The process behind a mounted archive; its arguments: ``ARCHIVE GENERATION LOG BASE … SOCKET``.

It makes itself a daemon, opens the archive with the rights of the person, and serves the disk in it over NBD to the one
client that comes to the socket: the storage daemon that root runs. It ends with that client, or if none comes. Keys of
encrypted archives come over its standard input.
Whoever started it waits until it listens; a failure before that is reported on the error output.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from portunix_vdisk.platform.errors import ExitCode, Failed, VdiskError
from portunix_vdisk.platform.home import Home
from portunix_vdisk.platform.memory import keep_memory_private
from portunix_vdisk.platform.nbd_server import NbdServer, listen
from portunix_vdisk.platform.reports import report_of
from portunix_vdisk.steps.archive.random_access import disk_of
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.tasks.unlocking import take_keys

_PATIENCE = 60.0
"""Seconds that the client has to come: root's password may have to be typed first."""
_LARGEST_LOG = 1 << 20
_REPORT = 1 << 16


def command_of(archive: Path, generation: int, bases: Sequence[Path], home: Home) -> tuple[str, ...]:
    """The command line that serves an archive; the socket's path is still to be added."""
    log = home.logs / "vdisk-archive-mounts.log"
    # -P: nothing in the working folder may shadow a module.
    words = (str(archive), str(generation), str(log), *map(str, bases))
    return (sys.executable, "-P", "-m", "portunix_vdisk.tasks.serve_archive", *words)


def main(arguments: Sequence[str]) -> int:
    """Start the daemon and wait until it listens; the exit code."""
    archive, generation, log, *bases, socket = arguments
    keep_memory_private()
    take_keys(sys.stdin.buffer.read())
    hear, tell = os.pipe()
    if os.fork() == 0:
        os.close(hear)
        task = (Path(archive), int(generation), tuple(map(Path, bases)))
        _daemon(task, Path(log), Path(socket), tell)
    os.close(tell)
    report = os.read(hear, _REPORT)  # it is written at once, and shorter than a pipe holds
    if report == b"ready":
        return ExitCode.DONE
    sys.stderr.buffer.write(report or report_of(Failed("the process that reads the archive died at once")).encode())
    return ExitCode.FAILED


def _daemon(task: tuple[Path, int, tuple[Path, ...]], log: Path, socket: Path, tell: int) -> NoReturn:
    waiting = True
    archive = task[0]

    def report(data: bytes) -> None:
        nonlocal waiting
        if waiting:
            waiting = False
            with suppress(OSError):  # whoever waited may be gone
                os.write(tell, data)
            os.close(tell)

    try:
        os.setsid()
        # Under sudo the real user is still root; what comes out of an archive is handled without any way back to it.
        os.setregid(os.getegid(), os.getegid())
        os.setreuid(os.geteuid(), os.geteuid())
        os.chdir("/")
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        _into_log(log)
        serve(*task, socket, lambda: report(b"ready"))
    except VdiskError as error:
        _note(archive, str(error))
        report(report_of(error).encode())
        os._exit(error.code)
    except BaseException as error:  # noqa: BLE001 - the last stop of this process
        _note(archive, repr(error))
        report(report_of(Failed(f"the archive cannot be served: {error}")).encode())
        os._exit(ExitCode.FAILED)
    os._exit(ExitCode.DONE)


def serve(archive: Path, generation: int, bases: Sequence[Path], socket: Path, ready: Callable[[], None]) -> None:
    """Serve until the client has gone. Raises what opening the archive raises; ``OSError`` for the socket."""
    with ArchiveReader(archive, generation, bases=bases) as reader, disk_of(reader) as disk:
        server = NbdServer(listen(socket), disk.size, disk.read, log=lambda text: _note(archive, text))
        signal.signal(signal.SIGTERM, lambda *_: server.stop())
        _note(archive, "served")
        ready()
        try:
            server.run(_PATIENCE)
        finally:
            # Whoever started us has removed it long ago, unless they were killed.
            with suppress(OSError):
                socket.unlink()
                socket.parent.rmdir()
    _note(archive, "not served any more")


def _into_log(log: Path) -> None:
    """Error output goes into the log, or nowhere if there cannot be one; the other two are nothing."""
    nothing = os.open(os.devnull, os.O_RDWR)
    try:
        if log.exists() and log.stat().st_size > _LARGEST_LOG:
            log.replace(log.with_name(log.name + ".1"))
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError:
        target = nothing
    for number, source in ((0, nothing), (1, nothing), (2, target)):
        os.dup2(source, number)


def _note(archive: Path, text: str) -> None:
    stamp = time.strftime("%Y-%m-%d %H:%M:%S")
    line = f"{stamp} {os.getpid()} {archive}: {text}\n"
    with suppress(OSError):  # a full disk must not end it
        os.write(2, os.fsencode(line.replace("\n", " ").rstrip() + "\n"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
