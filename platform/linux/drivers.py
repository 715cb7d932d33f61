"""Who shows the files of a filesystem: the kernel, or a FUSE program where it cannot.

ext4, XFS and Btrfs are the kernel's. FAT and exFAT are too, where it has the driver; else fusefat (thirty times slower,
and it knows no letters beyond ASCII) and exfat-fuse. NTFS is ntfs-3g's first: it keeps owners and modes where Windows
keeps its own, which the kernel's ntfs3 does not.

A FUSE program is started on a private folder of root's, and what it shows is bound from there to where the person wants
it: the program looks its folder up by name, and a name in somebody else's folder may lead elsewhere by then.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.platform.base import FileSystemType, Owner
from portunix_vdisk.platform.commands import Commands, display
from portunix_vdisk.platform.errors import Corrupt, Failed, Missing, ToolFailed
from portunix_vdisk.platform.linux import mounts, new_mount
from portunix_vdisk.platform.linux.id_maps import IdMap, namespace

PATIENCE = 60.0
"""Seconds that a FUSE program has to write out what it holds and end."""
_STEP = 0.005
_BRIEFLY = 5.0
"""Seconds in which whoever looks into a folder has looked."""
_MS_BIND = 4096

# noinit_itable: the kernel would write zeros over inode tables that are zeros already, for minutes after a mount.
# nouuid: a copy of a disk is the same filesystem to XFS, and may be mounted beside it.
_KERNEL: Mapping[FileSystemType, tuple[str, str]] = {
    FileSystemType.EXT4: ("ext4", "errors=remount-ro,noinit_itable"),
    FileSystemType.XFS: ("xfs", "nouuid"),
    FileSystemType.BTRFS: ("btrfs", ""),
    FileSystemType.FAT32: ("vfat", "utf8,shortname=mixed,errors=remount-ro"),
    FileSystemType.EXFAT: ("exfat", "errors=remount-ro"),
    FileSystemType.NTFS: ("ntfs3", ""),
}
# What an archive holds can never be written, not even to replay a journal.
_SERVED = {
    FileSystemType.EXT4: "errors=continue,noload",
    FileSystemType.XFS: "nouuid,norecovery",
    FileSystemType.BTRFS: "rescue=nologreplay",
}
_OWNED = (FileSystemType.FAT32, FileSystemType.EXFAT, FileSystemType.NTFS)
"""Filesystems whose kernel drivers are told who owns the files."""


@dataclass(frozen=True, slots=True)
class Program:
    """A FUSE driver: its name, how it is called (``{device}``, ``{point}``), its options."""

    name: str
    words: tuple[str, ...]
    writable: str
    read_only: str
    owned: bool
    """Whether its files belong to whom we say."""


_PROGRAMS: Mapping[FileSystemType, Program] = {
    FileSystemType.NTFS: Program(
        "ntfs-3g",
        ("-o", "{options}", "{device}", "{point}"),
        "permissions,big_writes,windows_names",
        "permissions,ro",
        owned=False,
    ),
    FileSystemType.EXFAT: Program(
        "mount.exfat-fuse", ("-o", "{options}", "{device}", "{point}"), "big_writes", "ro", owned=True
    ),
    FileSystemType.FAT32: Program(
        "fusefat", ("-o", "{options},fsname={device}", "{device}", "{point}"), "rw+", "ro", owned=True
    ),
}


@dataclass(frozen=True, slots=True)
class Showing:
    """What is to be mounted, and how. ``place`` is the open folder where; ``served`` comes from an archive.

    ``owners``: who is shown as whom, where that can be done.
    """

    device: str
    fs: FileSystemType
    place: int
    read_only: bool
    owner: Owner
    served: bool = False
    still: bool = False
    owners: IdMap | None = None


def show(commands: Commands, showing: Showing, private: Path) -> None:
    """Mount it. ``private`` is a folder of root's for the time until it is where it belongs.

    Raises ``OSError`` as the kernel's mount does (``ENODEV``: nobody here knows this filesystem), ``Missing`` naming
    the program that would, ``Corrupt`` where the program cannot make sense of the filesystem.
    """
    program = _PROGRAMS.get(showing.fs)
    if showing.fs is FileSystemType.NTFS and commands.find("ntfs-3g"):
        assert program is not None
        _by_program(commands, program, showing, private)
        return
    try:
        _by_kernel(commands, showing)
    except OSError as error:
        if error.errno != errno.ENODEV or program is None:
            raise
        _by_program(commands, program, showing, private)


def leave(private: Path) -> None:
    """Unmount the private folder. Somebody may look there just now; what stays is unmounted together with the disk."""
    deadline = time.monotonic() + _BRIEFLY
    while True:
        try:
            mounts.unmount(private)
            return
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                return
            time.sleep(_STEP)


def wait_for_driver(device: str) -> None:
    """Wait until no program has this block device open, and everything written to it is where it belongs.

    Raises ``Failed`` if that takes too long, or if something could not be written.
    """
    deadline = time.monotonic() + PATIENCE
    while holders := _holders(device):
        if time.monotonic() > deadline:
            raise Failed(
                f"the filesystem's program (pid {holders[0]}) has not ended within {PATIENCE:.0f} s",
                state="it may still be writing to the image",
                hint="wait, then unmount again; do not move the image file",
            )
        time.sleep(_STEP)
    try:
        descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise Failed(
            f"not everything could be written to the disk: {error.strerror}",
            state="it is not mounted any more; recently written files may be incomplete",
            hint="free space where the image file is, mount the disk and copy what is missing once more",
        ) from error


def _by_kernel(commands: Commands, showing: Showing) -> None:
    kind, options = _KERNEL[showing.fs]
    if showing.served:
        options = _SERVED.get(showing.fs, options)
    if showing.fs in _OWNED:
        options += f",uid={showing.owner.uid},gid={showing.owner.gid},fmask=0022,dmask=0022"
    elif showing.owners is not None and _with_owners(commands, showing, kind, options, showing.owners):
        _give_top(showing)
        return
    flags = mounts.MS_NOSUID | mounts.MS_NODEV | (mounts.MS_RDONLY if showing.read_only else 0)
    # By descriptor: nobody can put a symbolic link in the way after the folder was checked.
    target = f"/proc/self/fd/{showing.place}"
    # Reading an overlay's folders must not make it another disk than the image.
    mounts.mount(showing.device, target, kind, flags | (mounts.MS_NOATIME if showing.still else 0), options)
    _give_top(showing)


def _with_owners(commands: Commands, showing: Showing, kind: str, options: str, owners: IdMap) -> bool:
    """Mount it with a table of owners; False where this machine cannot, and nothing is mounted."""
    how = {"read_only": showing.read_only, "still": showing.still}
    try:
        with namespace(commands, owners) as users:
            new_mount.mount(showing.device, showing.place, kind, options, **how, users=users)
    except (new_mount.CannotMap, Missing):
        return False
    return True


def _by_program(commands: Commands, program: Program, showing: Showing, private: Path) -> None:
    commands.need(program.name)
    options = ["nosuid", "nodev", "allow_other", "default_permissions"]
    options.append(program.read_only if showing.read_only else program.writable)
    if program.owned:
        options += [f"uid={showing.owner.uid}", f"gid={showing.owner.gid}", "umask=022"]
    private.mkdir(mode=0o700, exist_ok=True)
    filled = {"device": showing.device, "point": str(private), "options": ",".join(options)}
    try:
        try:
            commands.launch(program.name, *(word.format_map(filled) for word in program.words))
        except ToolFailed as error:
            words = display(error.output).strip().splitlines()
            raise Corrupt(
                f"{program.name} cannot show the filesystem: {words[-1] if words else 'it does not say why'}",
                state="the disk is attached and not mounted",
                hint=f"check it: {checker_of(showing.fs, showing.device)}",
            ) from error
        if not any(entry.point == private for entry in mounts.mounted()):
            raise Failed(f"{program.name} ended without showing anything", state="the disk is attached, not mounted")
        try:
            mounts.mount(str(private), f"/proc/self/fd/{showing.place}", "", _MS_BIND, "")
        finally:
            leave(private)
    finally:
        with suppress(OSError):
            private.rmdir()
    _give_top(showing)


def _give_top(showing: Showing) -> None:
    """The top folder of a new filesystem is root's, where its mkfs knows no owners: it becomes the person's."""
    if showing.read_only or showing.served:
        return
    if showing.fs not in (FileSystemType.NTFS, FileSystemType.XFS, FileSystemType.BTRFS):
        return
    point = Path(f"/proc/self/fd/{showing.place}").readlink()
    top = os.open(point, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(top).st_uid == 0 and next(os.scandir(top), None) is None:
            os.fchown(top, showing.owner.uid, showing.owner.gid)
            os.fchmod(top, 0o755)
    finally:
        os.close(top)


def _holders(device: str) -> list[int]:
    """Programs that have a block device open. Needs root."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal() or int(folder.name) == os.getpid():
            continue
        with suppress(OSError):
            if any(str(each.readlink()) == device for each in (folder / "fd").iterdir()):
                found.append(int(folder.name))
    return found


_CHECKERS: Mapping[FileSystemType, str] = {
    FileSystemType.EXT4: "e2fsck -f",
    FileSystemType.NTFS: "ntfsfix -n",
    FileSystemType.FAT32: "fsck.vfat -n",
    FileSystemType.EXFAT: "fsck.exfat -n",
    FileSystemType.XFS: "xfs_repair -n",
    FileSystemType.BTRFS: "btrfs check --readonly",
}


def checker_of(fs: FileSystemType, device: str) -> str:
    """The command that checks such a filesystem, for a hint."""
    return f"sudo {_CHECKERS[fs]} {device}"
