"""The machine as steps see it: one narrow protocol, implemented once per operating system."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from portunix_vdisk.platform.attachment import Attachment as Attachment
from portunix_vdisk.platform.attachment import AttachRequest as AttachRequest
from portunix_vdisk.platform.attachment import Partition as Partition
from portunix_vdisk.platform.kinds import FileSystemType as FileSystemType
from portunix_vdisk.platform.kinds import ForeignType as ForeignType
from portunix_vdisk.platform.kinds import ImageType as ImageType
from portunix_vdisk.platform.luks_headers import LuksHeaders
from portunix_vdisk.platform.sizing import Sizing
from portunix_vdisk.platform.snapshot_types import Snapshot as Snapshot
from portunix_vdisk.platform.snapshot_types import SnapshotReader as SnapshotReader

SECTOR = 512
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Extent:
    """A run of guest-visible bytes that has data: ``[start, start+length)`` lies in the image file at ``offset``."""

    start: int
    length: int
    offset: int


@dataclass(frozen=True, slots=True)
class ImageMap:
    """Size of the guest-visible disk in bytes and its data extents, ascending; everything else reads as zeros.

    ``snapshots``: how many former states QEMU keeps in the image, of which nothing else here tells.
    """

    size: int
    extents: tuple[Extent, ...]
    snapshots: int = 0


@dataclass(frozen=True, slots=True)
class OverlayMap:
    """What an overlay holds in place of its image.

    ``decided`` are start and end of all runs of guest-visible bytes that the image no longer counts for, ascending
    and apart; ``extents`` what of these has data, in the overlay's file. The rest of them reads as zeros.
    """

    size: int
    decided: tuple[tuple[int, int], ...]
    extents: tuple[Extent, ...]


@dataclass(frozen=True, slots=True)
class Owner:
    """A numeric user and group."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """What tells that a file is still the same, without reading it."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True, slots=True)
class HostTool:
    """A program or privilege of the host, for ``doctor``."""

    name: str
    purpose: str
    without: str
    found: str | None
    install: tuple[str, ...]
    """Command that installs it (``("apt-get", "install", "-y", "qemu-utils")``), empty if there is none."""


class BlockImage(Protocol):
    """The guest-visible disk inside an image file, opened for random access. Usable from several threads."""

    size: int

    def read(self, offset: int, length: int) -> bytes:
        """Bytes at a guest offset; holes read as zeros."""

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Write at a guest offset."""

    def zero(self, offset: int, length: int) -> None:
        """Make a range read as zeros, as a hole where the format can."""

    def flush(self) -> None:
        """Return when everything written is on stable storage."""


class Platform(Protocol):
    """What an operating system must be able to do for us.

    Every method raises ``VdiskError`` subclasses only: ``Missing`` for an absent tool or privilege,
    ``ToolFailed`` for a command that failed, ``Refused`` when the state of things forbids it.
    """

    def hold_in_children(self, descriptor: int) -> AbstractContextManager[None]:
        """While the context lasts, short-lived child processes inherit this descriptor (an operation lock)."""

    # images -------------------------------------------------------------------------------------------

    def create_image(self, path: Path, type: ImageType, size: int) -> None:
        """Create an empty image of ``size`` guest bytes at ``path``, replacing what is there."""

    def map_image(self, path: Path, type: ImageType) -> ImageMap:
        """Size and data extents of an image that nobody writes to."""

    def open_image(self, path: Path, type: ImageType, *, writable: bool) -> AbstractContextManager[BlockImage]:
        """Open the guest-visible disk; on leaving the context everything is flushed and released."""

    def open_foreign(
        self, path: Path, type: ForeignType, *, below: Sequence[tuple[Path, ImageType]] = ()
    ) -> AbstractContextManager[BlockImage]:
        """Open the disk inside an image that we never write.

        Nothing that it may name is opened, only this file, and the files ``below`` it, the next one first.
        """

    def foreign_server(self, path: Path, type: ForeignType) -> Sequence[str]:
        """What :meth:`attach_served` has to start to show the disk inside an image that we never write."""

    def peek(self, path: Path, type: ImageType, offset: int, length: int) -> bytes:
        """Bytes of the guest-visible disk, also of one that is in use: then of what does not change meanwhile."""

    def share_blocks(self, image: Path, copy: Path) -> bool:
        """Make ``copy``, a file of the same content that takes no room, where the host's filesystem can do that."""

    def check_image(self, path: Path, type: ImageType) -> None:
        """Check the container's own structures; raises ``Corrupt``."""

    def make_overlay(self, overlay: Path, size: int) -> None:
        """Create an overlay that changes nothing of a disk of ``size`` guest bytes, at a path where nothing is."""

    def map_overlay(self, overlay: Path) -> OverlayMap:
        """What a detached overlay holds. Raises ``Failed`` if it was not closed in order."""

    # filesystems --------------------------------------------------------------------------------------

    def make_filesystem(
        self, path: Path, fs: FileSystemType, *, label: str, uuid: str, owner: Owner, start: int = 0
    ) -> None:
        """Make a filesystem that fills the plain file at ``path``; its root folder belongs to ``owner``.

        ``start``: the byte of the disk at which it will begin, which some write down.
        """

    @property
    def sizing(self) -> Sizing:
        """Making images and filesystems larger or smaller."""

    # encryption ---------------------------------------------------------------------------------------

    @property
    def luks(self) -> LuksHeaders:
        """Headers of encrypted partitions, in plain files."""

    def open_encrypted(
        self, path: Path, type: ImageType, partition: Partition, secret: bytes, *, writable: bool
    ) -> AbstractContextManager[BlockImage]:
        """Open the plain content of an encrypted partition, otherwise as :meth:`open_image`; ``WrongPassword``."""

    # mounting -----------------------------------------------------------------------------------------

    def attachments(self) -> Iterator[Attachment]:
        """All images attached on this machine by us, looked up afresh; needs no privilege."""

    def attachment(self, image: Path) -> Attachment | None:
        """The attachment of this image file (by device and inode), or None; needs no privilege."""

    def attach(self, request: AttachRequest) -> Attachment:
        """Show the partition as a block device; attaching what is attached in the same way changes nothing.

        An image that is shown without root stays it in every verb. Raises ``WrongPassword``.
        """

    def attach_served(
        self, image: Path, partition: Partition, server: Sequence[str], *, label: str = "", secret: bytes = b""
    ) -> Attachment:
        """Show a partition of the disk that a server reads out of the file ``image`` as a block device, read-only.

        ``server`` is a command that makes itself a daemon and by then listens for NBD at the Unix socket whose path is
        its last argument, added here; it ends with its last client. Its failure is what the attach program reports:
        a JSON object on its error output. It reads ``secret`` from its standard input. A healthy attachment of this
        file under the same ``label`` (at most 64 printable ASCII characters) is kept, and no server is started.
        """

    def attach_overlay(
        self, overlay: Path, image: Path, type: ImageType, partition: Partition, *, secret: bytes = b"", header: int = 0
    ) -> Attachment:
        """Show the partition of an image as a block device that may be written to, while the image stays as it is.

        What is written goes into the file ``overlay``; from here on that is what is mounted, trimmed, unmounted and
        detached. Nobody else may write to the image meanwhile. Of an encrypted partition, which ``secret`` opens, the
        plain content behind ``header`` bytes is shown.
        """

    def mount(self, image: Path, fs: FileSystemType, mount_point: Path, *, owner: Owner | None = None) -> Attachment:
        """Mount an attached image; a missing mount point is created and remembered as ours.

        ``owner``: who owns the disk by the numbers on it. Where that is another than the caller, what is theirs is
        shown as the caller's, and stays theirs on the disk.
        """

    def give_files(self, image: Path, former: Owner, told: Callable[[int], None]) -> int:
        """Give all files of ``former`` on a mounted disk to the caller, on the disk itself; returns how many.

        ``told`` hears now and then how many were looked at, and may end the work by raising; a second run does the
        rest. Raises ``Refused`` for what is root's, ``Failed`` where some files could not be changed.
        """

    def unmount(self, image: Path) -> None:
        """Unmount, if mounted; ``Refused`` when busy. Removes a mount point that :meth:`mount` made."""

    def detach(self, image: Path) -> None:
        """Take the block device away in the safe order, wait until it is gone and the daemon has ended."""

    def trim(self, image: Path) -> int:
        """Give the free blocks of a mounted filesystem back to the host, where image type and host can; bytes given."""

    def check_filesystem(
        self, image: Path, type: ImageType, partition: Partition, fs: FileSystemType, *, secret: bytes
    ) -> list[str]:
        """What is wrong with the filesystem of an image that nobody uses, in its checker's words; changes nothing.

        Raises ``Refused`` where it was not unmounted in order, so that nobody can tell.
        """

    def repair(
        self, image: Path, type: ImageType, partition: Partition, fs: FileSystemType, *, secret: bytes | None = b""
    ) -> list[str]:
        """Clear away stale or dead pieces of an attachment and check image and filesystem; says what was done.

        ``secret``: the password of an encrypted disk; None where it is not known, so that no filesystem is checked.
        """

    def take_snapshot(self, image: Path, rooms: Sequence[Path]) -> Snapshot:
        """Keep the content that a disk mounted for writing has now; the image itself goes on having the newest.

        Programs that write to it wait for a moment. A snapshot that was there before is dropped. ``rooms`` are
        folders of the caller's, of which one takes what gets overwritten: when half of what is free there is full, the
        snapshot breaks and nothing else. Raises ``Refused`` where that is not possible, ``Failed`` where it was
        possible and went wrong.
        """

    def open_snapshot(self, snapshot: Snapshot) -> AbstractContextManager[SnapshotReader]:
        """Open it for reading, once."""

    def drop_snapshot(self, image: Path) -> None:
        """Take the snapshot of an image away, if there is one."""

    # the host -----------------------------------------------------------------------------------------

    def free_space(self, folder: Path) -> int:
        """Bytes that this process may still write below ``folder``."""

    def largest_file(self, folder: Path) -> int | None:
        """Largest file in bytes that the filesystem at ``folder`` can hold, where that is a limit in practice."""

    def is_removable(self, folder: Path) -> bool:
        """Whether ``folder`` lies on a medium that can be taken out."""

    def run_program(
        self,
        program: Path,
        arguments: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        told: Callable[[str], None],
    ) -> None:
        """Run a program that is no tool of the host, such as one that lies on a disk, to its end.

        It runs in ``folder``, finds nothing but ``environment`` in its environment and can read nothing. ``told``
        hears each line that it prints, also as an error, and an empty one at least every 0.2 s in which it prints
        nothing; what that raises ends the program and those that it started. Raises ``ToolFailed`` with its last
        words, ``Failed`` where it cannot be started at all.
        """

    def sandboxed(
        self, command: Sequence[str], root: Path, environment: Mapping[str, str], *, network: bool
    ) -> Sequence[str] | None:
        """The words that run ``command`` so that it can write below ``root`` only; None where that is not to be had."""

    def host_tools(self) -> Sequence[HostTool]:
        """Every tool and privilege that we use, present or not."""

    def install(self, tools: Sequence[HostTool]) -> list[str]:
        """Install tools with the system's package manager; returns the names of what was installed.

        Raises ``Missing`` without the privilege to do so.
        """
