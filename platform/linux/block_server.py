"""A private ``qemu-nbd`` that shows the guest-visible disk inside a container to this process alone.

The connection exists before the server does: we listen on a socket in a private folder, connect to it, remove the
folder, and hand the listening socket to qemu-nbd by the protocol of systemd's socket activation (``LISTEN_FDS``). So
there is no readiness to wait for and no file to leave behind. Without ``--persistent`` qemu-nbd ends with its only
client; and if we are killed before it has met us, the kernel ends it (``PR_SET_PDEATHSIG``). Killed even before it
could ask the kernel for that, it sees that its parent is another, and goes.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

from portunix_vdisk.platform.commands import Commands, display, ended
from portunix_vdisk.platform.errors import Failed, ToolFailed
from portunix_vdisk.platform.linux.storage_daemon import explained
from portunix_vdisk.platform.nbd import NbdClient

# Socket activation wants the socket as descriptor 3 and the server's own process id, which only it knows. The first
# argument is our process id: an orphan would serve nobody for ever.
_ACTIVATE = '[ "$PPID" = "$1" ] || exit 1; shift; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" 3<&0 0</dev/null'

_PATIENCE = 60.0
"""Seconds that the server has to end after its client has gone."""


@contextmanager
def block_server(
    commands: Commands, image: Path | str, *, read_only: bool, format: str = "raw", key: int | None = None
) -> Iterator[NbdClient]:
    """The disk inside the container (QEMU's name for it: ``format``) at ``image``, open for random access.

    An ``image`` that is text are QEMU's options for what is shown; ``key`` is the reading end of a pipe that holds a
    secret, which these options call ``key``.

    qemu-nbd passes no flush on (``cache=unsafe``): QEMU's VHD driver would sync the file for every 2 MiB block that it
    allocates, which halves the speed. The page cache is the same for everybody, so whoever writes syncs the image
    file; the driver keeps nothing back in memory.

    Raises:
        Refused: another program has the image open for writing.
        Corrupt: QEMU cannot make sense of the image.
        Missing: qemu-nbd is not installed.
    """
    program = commands.need("qemu-nbd")
    listener, connection = _connected()
    with tempfile.TemporaryFile() as words:
        kind = ["--image-opts"] if isinstance(image, str) else [f"--format={format}"]
        if key is not None:
            kind.append(f"--object=secret,id=key,file=/dev/fd/{key}")
        name = image if isinstance(image, str) else str(image.absolute())
        arguments = [program, *kind, "--cache=unsafe", "--discard=unmap", "--shared=1"]
        arguments += [*(["--read-only"] if read_only else []), "--", name]
        server = _Server(partial(_start, commands, arguments, listener, words, () if key is None else (key,)))
        try:
            client = NbdClient(connection)
        except Failed as error:
            status = server.finish()
            words.seek(0)
            text = display(words.read()[-4000:])
            raise explained(ToolFailed(("qemu-nbd", *map(display, arguments[1:])), status, text)) from error
        except BaseException:
            server.finish()
            raise
        try:
            yield client
        finally:
            client.close()
            status = server.finish()
        if status:
            words.seek(0)
            raise ToolFailed(("qemu-nbd", *map(display, arguments[1:])), status, display(words.read()[-4000:]))


def same_rights() -> tuple[str, str, str]:
    """Options of setpriv by which a child has our effective user for good.

    Under sudo our real user is still root, and a shell goes back to that; an image file is nothing for root to parse.
    """
    return f"--reuid={os.geteuid()}", f"--regid={os.getegid()}", "--keep-groups"


def _connected() -> tuple[socket.socket, socket.socket]:
    """A listening socket and the only connection that it will ever get."""
    folder = tempfile.mkdtemp(prefix="portunix-vdisk-")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        address = f"{folder}/nbd"
        listener.bind(address)
        listener.listen(1)
        connection.connect(address)
    except BaseException:
        listener.close()
        connection.close()
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return listener, connection


def _start(
    commands: Commands, arguments: list[str], listener: socket.socket, stderr: IO[bytes], inherited: tuple[int, ...]
) -> subprocess.Popen[bytes]:
    with listener:
        activated = ("sh", "-c", _ACTIVATE, "sh", str(os.getpid()), *arguments)
        return commands.start(
            "setpriv",
            "--pdeathsig=KILL",
            *same_rights(),
            *activated,
            stdin=listener.fileno(),
            stderr=stderr,
            pass_fds=inherited,
        )


class _Server:
    """The qemu-nbd process, with a thread of its own.

    The kernel's signal at the death of the parent is tied to the *thread* that started the child: a thread that does
    nothing else lives exactly as long as it should.
    """

    def __init__(self, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._failure: BaseException | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(start,), name="qemu-nbd", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            raise self._failure

    def _serve(self, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        try:
            self._process = start()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits for us
            self._failure = error
            self._started.set()
            return
        self._started.set()
        with ended(self._process):
            self._process.wait()

    def finish(self) -> int:
        """Wait until the server has ended, by force after a while; its exit status."""
        self._thread.join(_PATIENCE)
        assert self._process is not None
        if self._thread.is_alive():
            self._process.kill()
            self._thread.join()
        return self._process.wait()
