"""Overlays: a disk that may be written to, while the image below stays as it is.

An overlay is a qcow2 file without a name of a backing file in it: what lies below is said each time. It is served over
NBD by a ``qemu-nbd`` with the rights of the person, so that nothing in either file is parsed by root; the attach
program shows what it offers as a block device. qemu-nbd ends with its only client.

Source of the format: QEMU's ``docs/interop/qcow2.txt``.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from portunix_vdisk.platform.base import Extent, ImageType, OverlayMap, Partition
from portunix_vdisk.platform.commands import Commands, display
from portunix_vdisk.platform.errors import Corrupt, Failed, ToolFailed
from portunix_vdisk.platform.linux.block_server import same_rights
from portunix_vdisk.platform.linux.containers import driver_of
from portunix_vdisk.platform.linux.secret_pipe import secret_pipe
from portunix_vdisk.platform.linux.storage_daemon import explained

_HEADER = struct.Struct(">4sI64xQ")
"""Magic, version; at byte 72 the incompatible features: bit 0 says that the file was not closed in order."""
_MAGIC = b"QFI\xfb"
# Whoever lost us before asking for the signal would never get it.
_IF_WE_LIVE = '[ "$PPID" = "$1" ] && shift && exec "$@"'
_PATIENCE = 60.0
"""Seconds that the server has to get ready."""


def make_overlay(commands: Commands, overlay: Path, size: int) -> None:
    """Create an empty overlay; see :meth:`Platform.make_overlay`."""
    # Lazy reference counts bring the flag that tells whether the last writer got to its end.
    options = "lazy_refcounts=on,compat=1.1"
    try:
        commands.run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, overlay.absolute(), str(size))
    except ToolFailed as error:
        raise _no_room(overlay, error) or error from error


@contextmanager
def served(
    commands: Commands,
    overlay: Path,
    image: Path,
    type: ImageType,
    encrypted: Partition | None = None,
    secret: bytes = b"",
) -> Iterator[Path]:
    """Serve the disk of ``image`` with the changes of ``overlay`` to one client; gives the socket.

    ``encrypted``: serve the plain content of that partition of it instead, which ``secret`` opens.
    The server ends with its client, and with this process: nobody is left waiting for a client if we are killed.
    Raises ``Refused`` where another program writes to the image, ``Corrupt``, ``Missing``.
    """
    below = "file.file." if encrypted else ""
    disk = (
        f"{below}driver=qcow2,{below}file.driver=file,{below}file.filename={_quoted(overlay)},"
        f"{below}backing.driver={driver_of(type)},{below}backing.read-only=on,"
        f"{below}backing.file.driver=file,{below}backing.file.filename={_quoted(image)}"
    )
    if encrypted:
        place = f"file.offset={encrypted.start},file.size={encrypted.length}"
        disk = f"driver=luks,key-secret=key,file.driver=raw,{place},{disk}"
    folder = Path(tempfile.mkdtemp(prefix="portunix-vdisk-"))
    socket, ready = folder / "nbd", folder / "pid"
    # cache=unsafe: nothing of an overlay has to survive a power cut.
    options = ("--cache=unsafe", "--discard=unmap", "--shared=1", f"--socket={socket}", f"--pid-file={ready}")
    try:
        with secret_pipe(secret) if encrypted else nullcontext() as key:
            unlocking = () if key is None else (f"--object=secret,id=key,file=/dev/fd/{key}",)
            words = (commands.need("qemu-nbd"), *unlocking, *options, "--image-opts", disk)
            server = _Server(commands, words, () if key is None else (key,))
            try:
                server.wait_for(ready)
            except BaseException:
                server.stop()
                raise
        try:
            yield socket
        except BaseException:
            server.stop()
            raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Server:
    """A qemu-nbd that dies with us: the kernel's signal is tied to the thread that started it, so it has its own."""

    def __init__(self, commands: Commands, words: tuple[str, ...], inherited: tuple[int, ...]) -> None:
        self._commands = commands
        self._words = words
        self._inherited = inherited
        self._process: subprocess.Popen[bytes] | None = None
        self._failure: BaseException | None = None
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the thread
        self._said = ""
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="overlay", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            raise self._failure

    def _serve(self) -> None:
        with self._output as output:
            try:
                bound = ("setpriv", "--pdeathsig=KILL", *same_rights(), "sh", "-c", _IF_WE_LIVE, "sh", str(os.getpid()))
                self._process = self._commands.start(
                    *bound, *self._words, stdin=subprocess.DEVNULL, stderr=output, pass_fds=self._inherited
                )
            except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits for us
                self._failure = error
                return
            finally:
                self._started.set()
            self._process.wait()
            output.seek(0)
            self._said = display(output.read()[-4000:])

    def wait_for(self, ready: Path) -> None:
        """Wait until it has written this file. Raises what its failure means."""
        deadline = time.monotonic() + _PATIENCE
        while not ready.exists():
            if not self._thread.is_alive():
                assert self._process is not None
                raise explained(ToolFailed(tuple(map(display, self._words)), self._process.returncode, self._said))
            if time.monotonic() > deadline:
                raise Failed("qemu-nbd does not get ready to serve the overlay", state="the disk was not changed")
            time.sleep(0.005)

    def stop(self) -> None:
        """End it; it has had no client."""
        assert self._process is not None
        self._process.kill()
        self._thread.join()


def map_overlay(commands: Commands, overlay: Path) -> OverlayMap:
    """What an overlay holds; see :meth:`Platform.map_overlay`. Raises ``Failed``, ``Corrupt``."""
    with overlay.open("rb") as file:
        header = file.read(_HEADER.size)
        length = os.fstat(file.fileno()).st_size
    if len(header) < _HEADER.size or header[:4] != _MAGIC or _HEADER.unpack(header)[2]:
        raise Failed(
            f"the overlay {display(str(overlay))} was not closed in order",
            state="the disk was not changed",
            hint="run the same command again",
        )
    output = commands.run("qemu-img", "map", "--output=json", "-f", "qcow2", overlay.absolute())
    return parse_overlay_map(output.stdout, length)


def parse_overlay_map(text: bytes, length: int) -> OverlayMap:
    """The output of ``qemu-img map --output=json`` for an overlay of ``length`` bytes. Raises ``Corrupt``."""
    end = 0
    decided: list[tuple[int, int]] = []
    extents: list[Extent] = []
    try:
        for entry in json.loads(text):
            start, count = entry["start"], entry["length"]
            if start != end or count <= 0:
                raise ValueError(f"unexpected entry {entry}")
            end = start + count
            if not entry["present"]:
                continue
            if decided and decided[-1][1] == start:
                decided[-1] = decided[-1][0], end
            else:
                decided.append((start, end))
            if entry["zero"]:
                continue
            if not 0 <= entry["offset"] <= length - count:
                raise ValueError(f"data outside the file: {entry}")
            extents.append(Extent(start, count, entry["offset"]))
    except (ValueError, LookupError, TypeError) as error:
        raise Corrupt(f"the map of the overlay makes no sense: {error}") from error
    return OverlayMap(end, tuple(decided), tuple(extents))


def _quoted(path: Path) -> str:
    """A file name as a value in QEMU's comma-separated options."""
    return str(path).replace(",", ",,")


def _no_room(overlay: Path, error: ToolFailed) -> Failed | None:
    if "No space left" not in error.output:
        return None
    return Failed(f"no space left for the overlay {display(str(overlay))}", state="the disk was not changed")
