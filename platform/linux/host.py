"""What this machine offers: programs, privileges, space."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from portunix_vdisk.platform.base import HostTool
from portunix_vdisk.platform.commands import Commands, display
from portunix_vdisk.platform.errors import Failed, ToolFailed
from portunix_vdisk.platform.linux.privilege import Privilege
from portunix_vdisk.platform.packages import MANAGERS, Manager, install_command, manager_here

_MOUNTING = "disks of any type can be created, exported and imported, but not mounted"
_VHD_MOUNTING = "disks of type vhd and archives cannot be mounted; img can; no export with --exclude-cache"
_VHD = "disks of type vhd cannot be created, exported or imported; img can"

_PROGRAMS = (
    ("qemu-img", "create and map vhd images", _VHD),
    ("qemu-nbd", "read and write inside vhd images", _VHD),
    ("setpriv", "end qemu-nbd together with us", _VHD),
    ("qemu-storage-daemon", "attach vhd images, archives and overlays", _VHD_MOUNTING),
    ("fusermount3", "attach vhd images, archives and overlays through FUSE", _VHD_MOUNTING),
    ("mke2fs", "make ext4 filesystems", "no disk can be created; existing ones work"),
    ("cryptsetup", "encrypt disks and change their passwords", "no encrypted disk can be created; existing ones work"),
    ("mkntfs", "make ntfs filesystems", "no disk can be created with ntfs"),
    ("ntfs-3g", "mount ntfs filesystems", "disks with ntfs cannot be mounted, unless the kernel can"),
    ("mkfs.vfat", "make fat32 filesystems", "no disk can be created with fat32"),
    ("fusefat", "mount fat32 where the kernel cannot", "disks with fat32 cannot be mounted, unless the kernel can"),
    ("mkfs.exfat", "make exfat filesystems", "no disk can be created with exfat"),
    ("mount.exfat-fuse", "mount exfat where the kernel cannot", "exfat cannot be mounted, unless the kernel can"),
    ("fuse2fs", "mount ext4 filesystems without root", "disks with ext4 can only be mounted by root"),
    (
        "bwrap",
        "run the scripts of templates in a sandbox",
        "scripts of templates cannot be run",
    ),
    ("e2fsck", "check and repair ext4 filesystems", "damaged disks cannot be repaired"),
)

_PURPOSE = "installing host tools needs root"
_DEVICES = (
    ("/dev/loop-control", "loop devices: attach images", _MOUNTING, ("modprobe", "loop")),
    ("/dev/fuse", "FUSE: attach vhd images and archives", _VHD_MOUNTING, ("modprobe", "fuse")),
)


def host_tools(commands: Commands) -> Sequence[HostTool]:
    """Every program, device and privilege; see :meth:`Platform.host_tools`."""
    return [*_programs(commands), *_devices(), _ext4(), _root(commands)]


def install(privilege: Privilege, tools: Sequence[HostTool]) -> list[str]:
    """Install tools by their own commands; see :meth:`Platform.install`. Packages go into one call of their manager.

    Raises ``Missing`` without root or without that manager, ``ToolFailed`` when it fails.
    """
    wanted = [tool for tool in tools if tool.install]
    others = [tool.install for tool in wanted]
    for manager in MANAGERS:
        packages = sorted({tool.install[-1] for tool in wanted if tool.install[0] == manager.program})
        others = [command for command in others if command[0] != manager.program]
        if packages:
            _install_packages(privilege, manager, packages)
    for command in others:
        output = privilege.run([*command], _PURPOSE)
        if output.status:
            raise ToolFailed(command, output.status, display(output.stderr or output.stdout))
    return [tool.name for tool in wanted]


def _install_packages(privilege: Privilege, manager: Manager, packages: list[str]) -> None:
    """Install all packages; where the manager refuses them together, because one is unknown, all that it can."""
    if manager.refresh:
        # Lists that could not be refreshed are no reason to stop: the packages may be known already.
        privilege.run([*manager.refresh], _PURPOSE)
    output = privilege.run([*manager.quiet, *packages], _PURPOSE)
    if not output.status:
        return
    failed = packages
    if len(packages) > 1:
        failed = [package for package in packages if privilege.run([*manager.quiet, package], _PURPOSE).status]
    if failed:
        error = ToolFailed([*manager.quiet, *failed], output.status, display(output.stderr or output.stdout))
        error.state = "all others were installed" if failed != packages else "nothing was installed"
        error.hint = manager.stale or error.hint
        raise error


def free_space(folder: Path) -> int:
    """Bytes that may still be written below ``folder``, which need not exist yet; see :meth:`Platform.free_space`."""
    place = folder.absolute()
    while True:
        try:
            found = os.statvfs(place)
            return found.f_bavail * found.f_frsize
        except FileNotFoundError:
            if place == place.parent:
                raise Failed(f"cannot tell the free space of {display(str(folder))}") from None
            place = place.parent
        except OSError as error:
            raise Failed(f"cannot tell the free space of {display(str(folder))}: {error.strerror}") from error


def _programs(commands: Commands) -> Iterator[HostTool]:
    manager = manager_here(commands.find)
    for name, purpose, without in _PROGRAMS:
        yield HostTool(name, purpose, without, commands.find(name), install_command(name, manager))


def _devices() -> Iterator[HostTool]:
    for name, purpose, without, install in _DEVICES:
        yield HostTool(name, purpose, without, name if Path(name).exists() else None, install)


def _ext4() -> HostTool:
    known = {line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines() if line.strip()}
    # The kernel loads the module on demand; its folder says whether it could.
    modules = list(Path("/lib/modules").glob(f"{os.uname().release}/kernel/fs/ext4/ext4.ko*"))
    found = "kernel" if "ext4" in known else str(modules[0]) if modules else None
    return HostTool("ext4", "the kernel's ext4 filesystem", _MOUNTING, found, ("modprobe", "ext4"))


def _root(commands: Commands) -> HostTool:
    found = "we are root" if os.getuid() == 0 else commands.find("sudo")
    install = install_command("sudo", manager_here(commands.find))
    return HostTool("root", "root or sudo: attach and mount", _MOUNTING, found, install)
