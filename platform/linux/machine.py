"""The platform protocol on Linux."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from portunix_vdisk.platform.base import (
    Attachment,
    AttachRequest,
    BlockImage,
    FileSystemType,
    ImageType,
    Owner,
    Partition,
    Snapshot,
    SnapshotReader,
)
from portunix_vdisk.platform.commands import Commands
from portunix_vdisk.platform.errors import Failed, NoRoot, Refused
from portunix_vdisk.platform.home import Home, calling_owner
from portunix_vdisk.platform.linux import (
    facts,
    luks,
    overlays,
    sizing,
    snapshot_reader,
    snapshots,
    state,
)
from portunix_vdisk.platform.linux.checking import check_filesystem
from portunix_vdisk.platform.linux.files import Images
from portunix_vdisk.platform.linux.giving import give_files, told_in
from portunix_vdisk.platform.linux.id_maps import id_map, why_not_shown
from portunix_vdisk.platform.linux.mount_point import Caller
from portunix_vdisk.platform.linux.mounting import Mounting
from portunix_vdisk.platform.linux.privilege import attachment_of, snapshot_of
from portunix_vdisk.platform.linux.repair import repair
from portunix_vdisk.platform.linux.rootless import Rootless
from portunix_vdisk.platform.linux.serving import started

_Result = TypeVar("_Result")


class LinuxPlatform(Images):
    """Linux: QEMU's tools for container formats, loop devices and the kernel's own filesystems.

    Args:
        ask: asks the person for sudo's password (prompt to password); None where nobody can be asked.
    """

    def __init__(self, ask: Callable[[str], str] | None = None) -> None:
        super().__init__(Commands(), ask)
        self.luks = luks.Headers(self._commands)
        self._root = Mounting(Caller(calling_owner(), restricted=False), self._commands)
        self.sizing = sizing.Sizes(self._commands, self._root, self.attachment, self._verb)
        person = Caller(calling_owner(), restricted=True)
        self._rootless = Rootless(person, self._commands, Home.of_caller().run / "rootless")

    def hold_in_children(self, descriptor: int) -> AbstractContextManager[None]:
        """See :class:`Platform`."""
        return self._commands.hold(descriptor)

    # encryption ---------------------------------------------------------------------------------------

    def open_encrypted(
        self, path: Path, type: ImageType, partition: Partition, secret: bytes, *, writable: bool
    ) -> AbstractContextManager[BlockImage]:
        """See :class:`Platform`."""
        if writable:
            self._refuse_attached(path)
        return luks.open_encrypted(self._commands, path, type, partition, secret, writable=writable)

    # mounting -----------------------------------------------------------------------------------------

    def attachments(self) -> Iterator[Attachment]:
        """See :class:`Platform`."""
        for found in (*facts.observe_all(state.ROOT), *facts.observe_all(self._rootless.root)):
            if (attached := found.attachment()) is not None:
                yield attached

    def attachment(self, image: Path) -> Attachment | None:
        """See :class:`Platform`; an image that was replaced or deleted meanwhile is found by its recorded name."""
        found = facts.find(state.ROOT, image) or facts.find(self._rootless.root, image)
        return None if found is None else found.attachment()

    def attach(self, request: AttachRequest) -> Attachment:
        """See :class:`Platform`."""
        request = replace(request, image=request.image.absolute())

        def by_programs() -> Attachment:
            return _reported(lambda: self._rootless.attach(request))

        if request.rootless or self._rootless.has(request.image):
            if request.fs is not None:
                self._rootless.need(request.fs)
            return by_programs()
        if os.geteuid() == 0:
            return _reported(lambda: self._root.attach(request))
        flags = {"--read-only": request.read_only, "--live": request.live, "--encrypted": bool(request.secret)}
        mode = [flag for flag, given in flags.items() if given]
        words = (f"--type={request.type}", *_place(request.partition), *mode)
        try:
            return attachment_of(self._verb("attach", request.image, *words, secret=request.secret))
        except NoRoot as error:
            if request.fs is None or request.live:
                raise
            self._rootless.need(request.fs, instead_of=error)
            return by_programs()

    def attach_served(
        self, image: Path, partition: Partition, server: Sequence[str], *, label: str = "", secret: bytes = b""
    ) -> Attachment:
        """See :class:`Platform`."""
        image = image.absolute()
        found = self.attachment(image)
        if found is not None and found.server_pid and not found.problem and found.label == label:
            return found
        with started(self._commands, server, secret) as socket:
            if os.geteuid() == 0:
                return _reported(lambda: self._root.attach_served(image, socket, partition, label=label))
            place = (f"--socket={socket}", f"--label={label}", *_place(partition))
            return attachment_of(self._verb("attach-served", image, *place))

    def attach_overlay(
        self, overlay: Path, image: Path, type: ImageType, partition: Partition, *, secret: bytes = b"", header: int = 0
    ) -> Attachment:
        """See :class:`Platform`."""
        overlay, inside = overlay.absolute(), partition if secret else None
        with overlays.served(self._commands, overlay, image.absolute(), type, inside, secret) as socket:
            if inside is not None:
                partition = Partition(0, inside.length - header)
            if os.geteuid() == 0:
                return _reported(lambda: self._root.attach_served(overlay, socket, partition, writable=True))
            words = (f"--socket={socket}", "--writable", *_place(partition))
            return attachment_of(self._verb("attach-served", overlay, *words))

    def mount(self, image: Path, fs: FileSystemType, mount_point: Path, *, owner: Owner | None = None) -> Attachment:
        """See :class:`Platform`."""
        image, mount_point = image.absolute(), mount_point.absolute()
        if self._rootless.has(image):
            held = _reported(lambda: self._rootless.mount(image, fs, mount_point))
        elif os.geteuid() == 0:
            held = _reported(lambda: self._root.mount(image, fs, mount_point, owner))
        else:
            words = [f"--fs={fs}", f"--mount-point={mount_point}"]
            if owner is not None and id_map(owner, calling_owner()) is not None:
                words.append(f"--disk-owner={owner.uid}:{owner.gid}")
            held = attachment_of(self._verb("mount", image, *words))
        return held if owner is None else replace(held, not_yours=why_not_shown(held, fs, owner, calling_owner()))

    def give_files(self, image: Path, former: Owner, told: Callable[[int], None]) -> int:
        """See :class:`Platform`."""
        image = image.absolute()
        if self._rootless.has(image):
            raise Refused("giving files to another user needs root", hint="mount it with root or sudo")
        if os.geteuid() == 0:
            return _reported(lambda: give_files(self._root, image, former, told))
        words = ("chown", f"--image={image}", f"--disk-owner={former.uid}:{former.gid}")
        return int(str(self._privilege.attach_program(*words, told=lambda line: told_in(line, told))["given"]))

    def unmount(self, image: Path) -> None:
        """See :class:`Platform`."""
        image = image.absolute()
        if self._rootless.has(image):
            _reported(lambda: self._rootless.unmount(image))
        elif os.geteuid() == 0:
            _reported(lambda: self._root.unmount(image))
        elif (found := self.attachment(image)) is not None and (found.mount_point is not None or found.problem):
            self._verb("unmount", image)

    def detach(self, image: Path) -> None:
        """See :class:`Platform`."""
        image = image.absolute()
        if self._rootless.has(image):
            _reported(lambda: self._rootless.detach(image))
        elif os.geteuid() == 0:
            _reported(lambda: self._root.detach(image))
        elif facts.find(state.ROOT, image) is not None:
            self._verb("detach", image)

    def trim(self, image: Path) -> int:
        """See :class:`Platform`."""
        image = image.absolute()
        if self._rootless.has(image):
            return 0
        if os.geteuid() == 0:
            return _reported(lambda: self._root.trim(image))
        given = self._verb("trim", image)["bytes"]
        return given if isinstance(given, int) else 0

    def take_snapshot(self, image: Path, rooms: Sequence[Path]) -> Snapshot:
        """See :class:`Platform`."""
        image, rooms = image.absolute(), [room.absolute() for room in rooms]
        if self._rootless.has(image):
            self._rootless.refuse_snapshot()
        if os.geteuid() == 0:
            return _reported(lambda: snapshots.take_snapshot(self._root, image, rooms))
        return snapshot_of(self._verb("snapshot", image, *(f"--room={room}" for room in rooms)))

    def open_snapshot(self, snapshot: Snapshot) -> AbstractContextManager[SnapshotReader]:
        """See :class:`Platform`."""
        return snapshot_reader.opened(snapshot)

    def drop_snapshot(self, image: Path) -> None:
        """See :class:`Platform`."""
        image = image.absolute()
        if os.geteuid() == 0:
            _reported(lambda: snapshots.drop_snapshot(self._root, image))
        elif facts.find(state.ROOT, image) is not None:
            self._verb("drop-snapshot", image)

    def check_filesystem(
        self, image: Path, type: ImageType, partition: Partition, fs: FileSystemType, *, secret: bytes
    ) -> list[str]:
        """See :class:`Platform`."""
        image = image.absolute()
        if os.geteuid() == 0:
            return _reported(lambda: check_filesystem(self._root, image, type, partition, fs, secret))
        words = (f"--type={type}", *_place(partition), f"--fs={fs}", *_encrypted(secret))
        lines = self._verb("check", image, *words, secret=secret)["lines"]
        return [str(line) for line in lines] if isinstance(lines, list) else []

    def repair(
        self, image: Path, type: ImageType, partition: Partition, fs: FileSystemType, *, secret: bytes | None = b""
    ) -> list[str]:
        """See :class:`Platform`."""
        image = image.absolute()
        if self._rootless.has(image):
            return _reported(lambda: repair(self._rootless, image, type, partition, fs, secret))
        if os.geteuid() == 0:
            return _reported(lambda: repair(self._root, image, type, partition, fs, secret))
        mode = ["--locked"] if secret is None else _encrypted(secret)
        words = (f"--type={type}", *_place(partition), f"--fs={fs}", *mode)
        lines = self._verb("repair", image, *words, secret=secret or b"")["lines"]
        return [str(line) for line in lines] if isinstance(lines, list) else []

    def _verb(self, verb: str, image: Path, *options: str, secret: bytes = b"") -> dict[str, object]:
        return self._privilege.attach_program(verb, f"--image={image}", *options, secret=secret)


def _reported(act: Callable[[], _Result]) -> _Result:
    try:
        return act()
    except OSError as error:
        raise Failed(f"attaching or mounting failed: {error.strerror or error}: {error.filename or ''}") from error


def _place(partition: Partition) -> tuple[str, str]:
    return f"--start={partition.start}", f"--length={partition.length}"


def _encrypted(secret: bytes) -> list[str]:
    return ["--encrypted"] if secret else []
