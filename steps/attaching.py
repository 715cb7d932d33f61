"""Attach, mount, unmount, detach, repair: what the platform does to an image, as steps."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from portunix_vdisk.platform.base import AttachRequest, FileSystemType, ImageType, Owner, Partition
from portunix_vdisk.steps.step import Context, Json


@dataclass(frozen=True, slots=True)
class AttachImage:
    """Show the partition of an image as a block device."""

    request: AttachRequest

    def run(self, ctx: Context) -> Json:
        """Result: the device. Raises ``Refused``, ``Missing``, ``WrongPassword``, ``ToolFailed``."""
        held = ctx.platform.attach(self.request)
        return {"device": held.device}


@dataclass(frozen=True, slots=True)
class AttachServed:
    """Show the partition of the disk inside a file as a block device, read-only; ``server`` is what reads it.

    ``label`` tells which state of the disk is shown; ``secret`` is what the server reads from its standard input.
    """

    image: Path
    partition: Partition
    server: tuple[str, ...]
    label: str = ""
    secret: bytes = field(default=b"", compare=False, repr=False)

    def run(self, ctx: Context) -> Json:
        """Result: the device. Raises ``Refused``, ``Missing``, ``ToolFailed``, and what the server reports."""
        held = ctx.platform.attach_served(self.image, self.partition, self.server, label=self.label, secret=self.secret)
        return {"device": held.device}


@dataclass(frozen=True, slots=True)
class MountImage:
    """Mount an attached image."""

    image: Path
    file_system: FileSystemType
    mount_point: Path
    owner: Owner | None = None
    """Whose files on it are shown as the caller's."""

    def run(self, ctx: Context) -> Json:
        """Result: the device. Raises ``Refused``, ``Missing``, ``ToolFailed``."""
        held = ctx.platform.mount(self.image, self.file_system, self.mount_point, owner=self.owner)
        if held.rootless:
            ctx.info(
                "mounted without root: files on it are yours and only you see them; it is slower than with root, "
                "may keep times in full seconds, cannot be exported while mounted, and nothing is trimmed"
            )
        if held.not_yours and self.owner is not None:
            ctx.warn(f"the files on the disk belong to user {self.owner.uid}, and not to you: {held.not_yours}")
        return {"device": held.device}


@dataclass(frozen=True, slots=True)
class GiveFiles:
    """Make the caller the owner of everything that is ``former``'s on a mounted disk. A second run does the rest."""

    image: Path
    former: Owner
    mount_point: Path

    def run(self, ctx: Context) -> Json:
        """Result: how many files. Raises ``Refused``, ``Missing``, ``Failed``."""
        about = os.statvfs(self.mount_point)
        inodes = about.f_files - about.f_ffree  # 0 of Btrfs

        def told(seen: int) -> None:
            ctx.safe_point()
            ctx.update(seen, inodes and max(seen, inodes), "files")

        return {"given": ctx.platform.give_files(self.image, self.former, told)}


@dataclass(frozen=True, slots=True)
class UnmountImage:
    """Unmount an image; busy is refused, nothing is ever torn away."""

    image: Path

    def run(self, ctx: Context) -> Json:
        """Raises ``Refused``, ``Missing``, ``ToolFailed``."""
        ctx.platform.unmount(self.image)
        return {}


@dataclass(frozen=True, slots=True)
class DetachImage:
    """Take the block device away in the safe order."""

    image: Path

    def run(self, ctx: Context) -> Json:
        """Raises ``Refused``, ``Missing``, ``ToolFailed``."""
        ctx.platform.detach(self.image)
        return {}


@dataclass(frozen=True, slots=True)
class TrimImage:
    """Give the free blocks of a mounted image back to the host, as far as image type and host can."""

    image: Path

    def run(self, ctx: Context) -> Json:
        """Result: bytes given back. Raises ``Failed``, ``Missing``."""
        return {"bytes": ctx.platform.trim(self.image)}


@dataclass(frozen=True, slots=True)
class RepairAttachment:
    """Clear away what a crash left of an attachment, and check image and filesystem."""

    image: Path
    type: ImageType
    partition: Partition
    file_system: FileSystemType
    secret: bytes | None = field(default=b"", compare=False, repr=False)
    """The password of an encrypted disk, None if it is not known."""

    def run(self, ctx: Context) -> Json:
        """Tells the person each thing that was done. Raises ``Corrupt``, ``Refused``, ``Missing``."""
        what = (self.image, self.type, self.partition, self.file_system)
        for line in ctx.platform.repair(*what, secret=self.secret):
            ctx.warn(line)
        return {}
