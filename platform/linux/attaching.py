"""Showing the partition of an image as a block device, and taking that away again.

Each verb looks at the facts first, clears away what a crash in the middle left, is idempotent, and holds the lock of
its image meanwhile.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from portunix_vdisk.platform.base import SECTOR, Attachment, AttachRequest, ImageType, Partition
from portunix_vdisk.platform.commands import Commands, display
from portunix_vdisk.platform.errors import BadUsage, Corrupt, Failed, NotFound, Refused
from portunix_vdisk.platform.linux import loop, state
from portunix_vdisk.platform.linux.cloning import remove_clone
from portunix_vdisk.platform.linux.containers import disk_size
from portunix_vdisk.platform.linux.facts import Facts, find, loops_on, observe
from portunix_vdisk.platform.linux.image_locks import refuse_if_open_elsewhere
from portunix_vdisk.platform.linux.mount_point import Caller, acting_as
from portunix_vdisk.platform.linux.served import connected, end_server
from portunix_vdisk.platform.linux.state import State
from portunix_vdisk.platform.linux.storage_daemon import StorageDaemon
from portunix_vdisk.platform.locks import OperationLock

_WAIT = 10.0
"""Seconds to wait for another process that attaches or detaches the same image."""


@dataclass(frozen=True, slots=True)
class Attaching:
    """Attaching, for one caller.

    Args:
        caller: for whom; decides which files may be opened and who owns mount points.
        commands: how programs are run.
        root: the state folder of the machine.
    """

    caller: Caller
    commands: Commands
    root: Path = state.ROOT

    # attaching ----------------------------------------------------------------------------------------

    def attach(self, request: AttachRequest) -> Attachment:
        """Show the partition as a block device; see :meth:`Platform.attach`."""
        image, type, partition, read_only = request.image, request.type, request.partition, request.read_only
        with self.opened(image, read_only=read_only) as descriptor:
            status = os.fstat(descriptor)
            key = state.key_of(status)
            with self.locked(key, f"attach {display(str(image))}"):
                # A container needs the daemon in any case, and so does what is encrypted.
                encrypted = bool(request.secret)
                live = request.live or not type.raw or encrypted
                owner = self.caller.owner.uid
                place = (partition.start, partition.length)
                wanted = State(str(image), type, *place, read_only, owner, live=live, encrypted=encrypted)
                if not self._already(key, wanted):
                    self._clear_replaced(image, key)
                    self._examine(descriptor, type, partition, read_only=read_only)
                    self._bring_up(descriptor, key, wanted, request.secret)
                return self.present(key)

    def attach_served(
        self, image: Path, socket_path: Path, partition: Partition, *, writable: bool = False, label: str = ""
    ) -> Attachment:
        """Show the partition of the disk that the server at this socket offers; see :meth:`Platform.attach_served`.

        ``writable``: it takes writes, and keeps them in the file ``image``; see :meth:`Platform.attach_overlay`.
        """
        with self.opened(image, read_only=True) as descriptor:
            key = state.key_of(os.fstat(descriptor))
            owner = self.caller.owner.uid
            kind = state.OVERLAY if writable else state.SERVED
            wanted = State(str(image), kind, partition.start, partition.length, not writable, owner, label=label)
            with self.locked(key, f"attach {display(str(image))}"):
                if not self._already(key, wanted):
                    self._clear_replaced(image, key)
                    with connected(socket_path, self.caller) as (connection, server):
                        wanted = replace(wanted, server_pid=server.pid, server_started=server.started)
                        self._bring_up(connection, key, wanted)
                return self.present(key)

    def _already(self, key: str, wanted: State) -> bool:
        """Whether it is attached just so. Clears away the remains of an attachment that nobody uses."""
        facts = observe(self.root, key)
        if facts is None:
            return False
        if facts.state is not None and facts.device and not facts.problem:
            if _what(facts.state) == _what(wanted):
                if wanted.live and facts.state.direct:
                    raise Refused(
                        f"the image is already attached as {facts.device}, and not with --live",
                        state="nothing was changed",
                        hint="unmount the disk, then mount it again with --live",
                    )
                return True
            raise Refused(
                f"the image is already attached {'read-only' if facts.state.read_only else 'for writing'}"
                f" as {facts.device}",
                state="nothing was changed",
                hint="unmount the disk first",
            )
        if facts.mounts:
            raise Refused(
                f"the disk is still mounted at {display(str(facts.mounts[-1].point))}: {facts.problem}",
                state="nothing was changed",
                hint="stop the programs that use it and unmount it; that also repairs it",
            )
        self.clear(facts)
        return False

    def _clear_replaced(self, image: Path, key: str) -> None:
        stale = find(self.root, image)
        if stale is None or stale.key == key:
            return
        if stale.mounts:
            raise Refused(
                f"{stale.problem}; the old one is still mounted at {display(str(stale.mounts[-1].point))}",
                state="nothing was changed",
                hint="unmount the disk first",
            )
        self.clear(stale)

    def _examine(self, descriptor: int, type: ImageType, partition: Partition, *, read_only: bool) -> None:
        status = os.fstat(descriptor)
        size = disk_size(descriptor, type)
        start, length = partition.start, partition.length
        if start < 0 or length <= 0 or start % SECTOR or length % SECTOR or start + length > size:
            raise Corrupt(
                f"the partition (bytes {start} to {start + length}) does not lie on the disk of {size} bytes",
                state="nothing was changed",
                hint="the image may be truncated; restore it from a copy or an export",
            )
        others = loops_on(status)
        if others:
            raise Refused(
                f"the image is already attached as {others[0].device}, but not by us",
                state="nothing was changed",
                hint=f"take it away with: sudo losetup -d {others[0].device}",
            )
        refuse_if_open_elsewhere(descriptor, writing=not read_only)

    def _bring_up(self, descriptor: int, key: str, wanted: State, secret: bytes = b"") -> None:
        folder = self.root / key
        with ExitStack() as undo:
            undo.callback(self._clear_key, key)
            # Written before anything exists, so that whatever a crash leaves is known to be ours.
            state.write(folder, wanted)
            offset, length, backing = wanted.start, wanted.length, descriptor
            if not wanted.direct:
                server = StorageDaemon(folder, self.commands)
                if wanted.type in (state.SERVED, state.OVERLAY):
                    daemon = server.start_served(descriptor, wanted.partition, read_only=wanted.read_only)
                else:
                    how = {"read_only": wanted.read_only}
                    daemon = server.start(descriptor, ImageType(wanted.type), wanted.partition, **how, secret=secret)
                wanted = replace(wanted, daemon_pid=daemon.pid, daemon_started=daemon.started)
                state.write(folder, wanted)
                mode = os.O_RDONLY if wanted.read_only else os.O_RDWR
                offset, backing = 0, os.open(server.export, mode | os.O_CLOEXEC | os.O_NOFOLLOW)
                undo.callback(os.close, backing)
                # What is encrypted has a header before its content.
                length = os.fstat(backing).st_size
            bound = loop.bind(backing, offset, length, read_only=wanted.read_only)
            if wanted.direct:
                # A loop device takes no lock: whoever took theirs after we looked could not know of it.
                refuse_if_open_elsewhere(descriptor, writing=not wanted.read_only)
            state.write(folder, replace(wanted, loop=bound.name))
            undo.pop_all()
            if backing != descriptor:
                os.close(backing)

    def _clear_key(self, key: str) -> None:
        facts = observe(self.root, key)
        if facts is not None:
            self.clear(facts)

    def forget_mount_point(self, folder: Path, note: State) -> State:
        """Remove the mount point if we made it, also one of a mount that was interrupted; returns the new note."""
        if not note.mount_point:
            return note
        if note.mount_point_made:
            # It may have got content meanwhile, or belong to somebody who does not let us: then it stays.
            with suppress(OSError), acting_as(self.caller):
                Path(note.mount_point).rmdir()
        without = replace(note, mount_point="", mount_point_made=False)
        state.write(folder, without)
        return without

    def clear(self, facts: Facts) -> None:
        """Take an unmounted attachment away: loop device, then daemon, then the notes."""
        for found in facts.loops:
            if not loop.release(found.name):
                raise Refused(
                    f"{found.device} is still in use by another program",
                    state="the disk is not mounted, but still attached",
                    hint="stop that program (sudo fuser -v " + found.device + "), then unmount again",
                )
        StorageDaemon(facts.folder, self.commands).stop()
        if facts.state is not None:
            end_server(facts.state)
            if facts.state.direct:
                remove_clone(self.caller, Path(facts.state.image))
            self.forget_mount_point(facts.folder, facts.state)
        state.remove(facts.folder)

    # who and what -------------------------------------------------------------------------------------

    @contextmanager
    def opened(self, image: Path, *, read_only: bool) -> Iterator[int]:
        """The image file, opened with the rights of the caller."""
        flags = os.O_RDONLY if read_only else os.O_RDWR
        if not image.is_absolute() or "\0" in str(image):
            raise BadUsage(f"the image file needs an absolute path, not {display(str(image))!r}")
        try:
            with acting_as(self.caller):
                descriptor = os.open(image, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound(f"there is no image file {display(str(image))}") from None
        except OSError as error:
            raise Refused(
                f"cannot open {display(str(image))}: {error.strerror}", state="nothing was changed"
            ) from error
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Refused(f"{display(str(image))} is not a regular file", state="nothing was changed")
            yield descriptor
        finally:
            os.close(descriptor)

    def allowed(self, image: Path) -> Facts | None:
        """The facts about an image, if the caller attached it or could have."""
        facts = find(self.root, image)
        if facts is None or facts.state is None or not self.caller.restricted:
            return facts
        if facts.state.owner != self.caller.owner.uid:
            with self.opened(Path(facts.state.image), read_only=facts.state.read_only) as descriptor:
                if state.key_of(os.fstat(descriptor)) != facts.key:
                    raise Refused("this disk was attached by another user", state="nothing was changed")
        return facts

    @contextmanager
    def held(self, image: Path, operation: str) -> Iterator[Facts | None]:
        facts = self.allowed(image)
        if facts is None:
            yield None
            return
        with self.locked(facts.key, f"{operation} {display(str(image))}"):
            yield observe(self.root, facts.key)

    @contextmanager
    def locked(self, key: str, operation: str) -> Iterator[None]:
        with OperationLock(self.root, key, operation, _WAIT):
            yield
        # Nobody's folder stays behind on a machine where nothing is attached.
        with suppress(OSError):
            self.root.rmdir()

    def present(self, key: str) -> Attachment:
        facts = observe(self.root, key)
        found = facts.attachment() if facts is not None else None
        if found is None or found.problem:
            raise Failed(f"the disk did not stay attached: {found.problem if found else 'its state is gone'}")
        return found


def _what(note: State) -> tuple[object, ...]:
    """What is shown, and how: two attachments that agree in it are the same to whoever uses them."""
    return note.type, note.partition, note.read_only, note.label, note.encrypted
