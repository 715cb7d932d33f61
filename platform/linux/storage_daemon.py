"""The storage daemon: ``qemu-storage-daemon`` shows the partition inside a container format as a plain file.

It lives in its own session for as long as the image is attached, holds a ``flock`` on the state folder's ``lock`` and
is known by its command line, which names the file that only it exports.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from portunix_vdisk.platform.base import ImageType, Partition
from portunix_vdisk.platform.commands import Commands
from portunix_vdisk.platform.errors import Corrupt, Failed, Refused, ToolFailed, WrongPassword
from portunix_vdisk.platform.linux import mounts
from portunix_vdisk.platform.linux.containers import driver_of
from portunix_vdisk.platform.linux.opened_files import format_node, refuse_other_files
from portunix_vdisk.platform.linux.processes import ProcessIdentity, arguments_of, end, identify, running
from portunix_vdisk.platform.linux.secret_pipe import secret_pipe
from portunix_vdisk.platform.qmp import QmpClient

DISK, PARTITION, PLAIN = "disk", "partition", "plain"
"""Names of the daemon's block devices: what the guest would see, the part of it that is shown, and its plain content
if that is encrypted."""
PATIENCE = 60.0
"""Seconds that a daemon has to write out what it holds and end."""


class StorageDaemon:
    """The daemon of one attachment, whose files are in ``folder``; ``unmount`` takes what a dead one left."""

    def __init__(self, folder: Path, commands: Commands, unmount: Callable[[Path], None] = mounts.unmount) -> None:
        self.export = folder / "export"
        self.monitor = folder / "monitor" / "qmp"
        self._pid_file = folder / "pid"
        self._lock = folder / "lock"
        self._commands = commands
        self._unmount = unmount

    def start(
        self, image: int, type: ImageType, partition: Partition, *, read_only: bool, secret: bytes = b""
    ) -> ProcessIdentity:
        """Show ``partition`` of the image open at descriptor ``image`` as the file :attr:`export`.

        With a ``secret`` the partition is encrypted, and its plain content is shown.

        It takes commands at the socket :attr:`monitor`, in a folder for root alone.

        Raises:
            Refused: another program has the image open for writing.
            Refused: the image names another file, which the daemon opened, or would need.
            Corrupt: QEMU cannot make sense of the image.
            WrongPassword: the secret opens nothing.
            Missing: qemu-storage-daemon or FUSE is not installed.
        """
        mode = "on" if read_only else "off"
        common = f"read-only={mode},discard=unmap"
        # The image goes by descriptor: a path could mean another file by the time the daemon opens it.
        driver = driver_of(type)
        name = DISK if driver == "raw" else "file"
        disk = [f"--blockdev=driver=file,node-name={name},filename=/proc/self/fd/{image},locking=on,{common}"]
        if driver != "raw":
            disk.append(f"--blockdev={format_node(driver, DISK, name, read_only=read_only)}")
        self.monitor.parent.mkdir(mode=0o700, exist_ok=True)
        disk += [f"--chardev=socket,id=monitor,path={self.monitor},server=on,wait=off", "--monitor=chardev=monitor"]
        if not secret:
            found = self._start(disk, image, partition, common)
        else:
            with secret_pipe(secret) as key:
                found = self._start(disk, image, partition, common, key)
        try:
            with self.talk() as monitor:
                refuse_other_files(monitor, {name, DISK, PARTITION, *([PLAIN] if secret else [])})
        except BaseException:
            # Nobody but root could reach the export until now, and nobody was told of it.
            self.stop()
            raise
        return found

    def start_served(self, connection: int, partition: Partition, *, read_only: bool) -> ProcessIdentity:
        """Show ``partition`` of the disk behind an open connection to an NBD server.

        Raises ``Missing`` as :meth:`start` does, ``Failed`` where the server offers no such disk.
        """
        common = "read-only=on" if read_only else "read-only=off,discard=unmap"
        disk = [f"--blockdev=driver=nbd,node-name={DISK},server.type=fd,server.str={connection},{common}"]
        return self._start(disk, connection, partition, common)

    def _start(
        self, disk: Sequence[str], source: int, partition: Partition, common: str, key: int | None = None
    ) -> ProcessIdentity:
        """Run the daemon with these options, which make a block device called :data:`DISK`."""
        shown, unlocking, inherited = PARTITION, list[str](), [source]
        if key is not None:
            shown, inherited = PLAIN, [source, key]
            unlocking = [
                f"--object=secret,id=key,file=/dev/fd/{key}",
                f"--blockdev=driver=luks,node-name={PLAIN},file={PARTITION},key-secret=key,{common}",
            ]
        os.close(os.open(self.export, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._commands.launch(
                "qemu-storage-daemon",
                *disk,
                f"--blockdev=driver=raw,node-name={PARTITION},file={DISK},offset={partition.start},"
                f"size={partition.length},{common}",
                *unlocking,
                f"--export=type=fuse,id=export,node-name={shown},mountpoint={self.export},"
                f"writable={'off' if 'read-only=on' in common else 'on'},allow-other=off",
                f"--pidfile={self._pid_file}",
                "--daemonize",
                pass_fds=(*inherited, lock),
            )
        except BlockingIOError:
            raise Refused("another storage daemon already serves this image", state="nothing was changed") from None
        except ToolFailed as error:
            raise explained(error) from error
        finally:
            os.close(lock)
        found = self.find()
        if found is None:
            raise Failed("the storage daemon ended as soon as it had started", state="nothing is attached")
        return found

    def find(self) -> ProcessIdentity | None:
        """The running daemon, also if whoever started it was killed before writing down its id."""
        if not lock_is_held(self._lock):
            return None
        with suppress(OSError, ValueError):
            found = self._recognise(int(self._pid_file.read_text()))
            if found is not None:
                return found
        for pid in running():
            found = self._recognise(pid)
            if found is not None:
                return found
        return None

    def is_daemon(self, process: ProcessIdentity) -> bool:
        """Whether this process still runs and is the daemon of this attachment; needs no privilege."""
        return process.alive() and self._recognise(process.pid) == process

    def talk(self) -> QmpClient:
        """A conversation with the running daemon. Raises ``Failed``."""
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(PATIENCE)
            connection.connect(os.fsencode(self.monitor))
        except OSError as error:
            connection.close()
            raise Failed(f"cannot reach the storage daemon: {error.strerror or error}") from error
        return QmpClient(connection)

    def exported(self) -> bool:
        """Whether the export is mounted, by a living daemon or a dead one."""
        return any(entry.point == self.export for entry in mounts.mounted())

    def stop(self) -> bool:
        """End the daemon and clear its export away; True if there was one. Only after the loop device is gone.

        Raises ``Failed`` if it does not end: it is never killed the hard way, it may still be writing.
        """
        found = self.find()
        if found is not None and not end(found, PATIENCE):
            raise Failed(
                f"the storage daemon (pid {found.pid}) has not ended within {PATIENCE:.0f} s",
                state="it may still be writing to the image",
                hint="wait, then unmount again; do not move the image file",
            )
        # A daemon that was killed leaves its export behind as a dead mount.
        try:
            while self.exported():
                self._unmount(self.export)
        except OSError as error:
            raise Failed(
                f"the storage daemon's file {self.export} cannot be cleared away: {error.strerror}",
                state="the disk is not mounted any more",
                hint="stop the programs that use it, then unmount the disk again",
            ) from error
        return found is not None

    def _recognise(self, pid: int) -> ProcessIdentity | None:
        found = identify(pid)
        words = arguments_of(pid)
        wanted = b"mountpoint=" + os.fsencode(self.export) + b","
        ours = found is not None and bool(words) and words[0].endswith(b"/qemu-storage-daemon")
        return found if ours and any(wanted in word for word in words[1:]) else None


def lock_is_held(path: Path) -> bool:
    """Whether somebody holds the ``flock`` of this file."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def explained(error: ToolFailed) -> Failed | Refused | Corrupt:
    """What a failure of a QEMU program means, where its message tells."""
    text = error.output
    if "Invalid password, cannot unlock any keyslot" in text:
        return WrongPassword(
            "wrong password for the disk", state="nothing is attached, nothing was changed", hint="try again"
        )
    if "Volume is not in LUKS format" in text:
        return Corrupt("the disk is not encrypted, or its LUKS header is destroyed", state="nothing was changed")
    if "lock" in text and "Failed to get" in text:
        return Refused(
            "the image file is in use by another program (a virtual machine, qemu-img, or another mount of it)",
            state="nothing was changed",
            hint="stop that program, then run the same command again",
        )
    if any(sign in text for sign in ("truncated", "invalid", "Invalid", "too large", "corrupt", "checksum", "vpc:")):
        return Corrupt(f"the image is damaged: {text.splitlines()[-1]}", state="nothing was changed")
    return error
