"""The cells of the table of formats: how a disk of each is made here, and how a guest is shown it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from machine import Machine
from trees import grow

from portunix_vdisk.platform import formats
from portunix_vdisk.platform.base import ImageType
from portunix_vdisk.platform.linux.containers import driver_of
from portunix_vdisk.tests.guest.boot import Drive
from portunix_vdisk.tests.guest.seen import Facts, seen_here

_MOUNT = {
    "ext4": "mount -t ext4",
    "ntfs": "ntfs-3g -o permissions",
    "fat32": "mount -t vfat -o utf8",
    "exfat": "mount -t exfat",
    "xfs": "mount -t xfs",
    "btrfs": "mount -t btrfs",
}
"""How the guest mounts: by its kernel's own drivers, except for NTFS, which Debian's kernels don't know."""
_MODULES = {"ntfs": ("fuse",), "fat32": ("vfat", "nls_cp437", "nls_ascii", "nls_iso8859-1"), "exfat": ("exfat",)} | {
    fs: (fs,) for fs in ("ext4", "xfs", "btrfs")
}
_PROGRAMS = {"ntfs": ("ntfs-3g",)}
_CRYPT_MODULES = ("dm_crypt", "ecb", "cbc", "xts", "algif_skcipher")
PASSWORD = b"correct horse battery staple"
"""Of encrypted disks."""
_POSIX = {"ext4", "xfs", "btrfs"}
"""Filesystems that keep owners, modes and links as they are here."""

_SIZE = {"xfs": "400MB", "btrfs": "200MB"}
"""What they want at least; the others can be small."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A kind of disk."""

    type: ImageType
    fs: str
    encrypted: bool = False

    @property
    def name(self) -> str:
        return f"{self.type}-{self.fs}" + "-luks" * self.encrypted

    @property
    def modules(self) -> tuple[str, ...]:
        return _MODULES[self.fs] + (_CRYPT_MODULES if self.encrypted else ())

    @property
    def programs(self) -> tuple[str, ...]:
        return _PROGRAMS.get(self.fs, ()) + ("cryptsetup",) * self.encrypted

    def make(self, machine: Machine) -> Facts:
        """A disk of this kind with a tree of files on it, unmounted; what is on it."""
        source = machine.folder / f"src-{self.name}"
        grow(source, files=60, seed=len(self.name), size=30000)
        if self.fs not in _POSIX:
            for path in [*source.glob("* link"), *source.glob("caf*")]:
                path.unlink()
        (machine.folder / "password").write_bytes(PASSWORD + b"\n")
        options = ["--size", _SIZE.get(self.fs, "64MB"), "--type", self.type.extension]
        options += ["--fixed"] if self.type is ImageType.VHD_FIXED else []
        options += [] if self.fs == "ext4" else ["--fs", self.fs]
        options += ["--encrypted", *self._password] if self.encrypted else []
        machine.vdisk("create", "--name", self.name, *options)
        machine.vdisk("mount", self.name, self._mount_point, *self._password)
        machine.vdisk("sync", "--source", source, "--target", f"{self._mount_point}/app")
        return self._leave(machine)

    def look(self, machine: Machine) -> Facts:
        """What is on the disk now."""
        machine.vdisk("mount", self.name, self._mount_point, *self._password)
        return self._leave(machine)

    def drive(self, machine: Machine) -> Drive:
        """The image, for a guest."""
        return Drive(self.name, machine.disk(self.name), driver_of(self.type))

    def visit(self) -> str:
        """The line of a job that makes the guest look at all of it, and leave a file there."""
        place = ("1" if self.type.partitioned else "disk") + ":password" * self.encrypted
        return f"visit {self.name} {place} {_MOUNT[self.fs]}\n"

    def comparable(self, facts: Facts) -> Facts:
        """What of the facts this filesystem keeps."""
        if self.fs in _POSIX:
            return facts
        kept = {name: fact.without_owner_and_time() for name, fact in facts.items()}
        if self.fs == "fat32":
            # fusefat shows the label as an empty file, its last three letters behind a point.
            label = self.name[:11].upper()
            kept.pop(f"{label[:8]}.{label[8:]}".rstrip(".").encode(), None)
        return kept

    @property
    def _password(self) -> list[str]:
        return ["--password-file", "password"] if self.encrypted else []

    @property
    def _mount_point(self) -> str:
        return f"mnt-{self.name}"

    def _leave(self, machine: Machine) -> Facts:
        found = self.comparable(seen_here(Path(machine.folder, self._mount_point)))
        machine.vdisk("unmount", self.name)
        return found


def cells() -> Iterator[Cell]:
    """Every kind of disk that can be made here."""
    for cell in formats.cells():
        if not cell.refused:
            yield Cell(cell.type, str(cell.file_system))
        if cell.encryption:
            yield Cell(cell.type, str(cell.file_system), encrypted=True)
