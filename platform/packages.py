"""Which package of which distribution holds a program, and how it is installed there.

Sources: Debian 12's packages, which every run of the tests installs. The names of QEMU's were read in the build files
of Fedora, Arch and openSUSE, that of fuse2fs in Arch's. The others are how those distributions are known to call them:
nobody has tried them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

OS_RELEASE = Path("/etc/os-release")
"""What this system is: os-release(5)."""


@dataclass(frozen=True, slots=True)
class Manager:
    """A package manager.

    ``systems`` are the IDs of os-release for which it is the one. ``install`` is what a person types, ``quiet`` what
    asks nobody anything, both before the names of packages; ``refresh`` what learns of new versions first, where that
    is a command of its own: on Arch only a whole upgrade does, which is for a person to decide.
    """

    program: str
    systems: tuple[str, ...]
    install: tuple[str, ...]
    quiet: tuple[str, ...]
    refresh: tuple[str, ...] = ()
    stale: str = ""
    """What a person does when it knows of too old versions only."""


_APT = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q")
APT = Manager(
    "apt-get",
    ("debian", "ubuntu"),
    ("apt-get", "install", "-y"),
    (*_APT, "install", "-y", "--no-install-recommends"),
    (*_APT, "update"),
)
DNF = Manager(
    "dnf",
    ("fedora", "rhel", "centos"),
    ("dnf", "install", "-y"),
    ("dnf", "-q", "-y", "install", "--setopt=install_weak_deps=False"),
)
PACMAN = Manager(
    "pacman",
    ("arch",),
    ("pacman", "-S", "--needed"),
    ("pacman", "-S", "--needed", "--noconfirm"),
    stale="sudo pacman -Syu, then run the same command again",
)
_ZYPPER = ("zypper", "--non-interactive")
ZYPPER = Manager(
    "zypper",
    ("suse", "opensuse"),
    ("zypper", "install"),
    (*_ZYPPER, "install", "--no-recommends"),
    (*_ZYPPER, "refresh"),
)
MANAGERS: Sequence[Manager] = (APT, DNF, PACMAN, ZYPPER)


def _all(name: str) -> tuple[str, str, str, str]:
    return name, name, name, name


# program: its package on Debian, Fedora, Arch, openSUSE; empty where there is none, or none is known
_E2FSPROGS = _all("e2fsprogs")
_QEMU = ("qemu-utils", "qemu-img", "qemu-img", "qemu-img")
_MOUNT = ("mount", "util-linux", "util-linux", "util-linux")
_NTFS = ("ntfs-3g", "ntfsprogs", "ntfs-3g", "ntfsprogs")
_BTRFS = ("btrfs-progs", "btrfs-progs", "btrfs-progs", "btrfsprogs")
PACKAGES: Mapping[str, tuple[str, str, str, str]] = {
    "qemu-img": _QEMU,
    "qemu-nbd": _QEMU,
    "qemu-storage-daemon": ("qemu-system-common", "qemu-img", "qemu-img", "qemu-img"),
    "losetup": _MOUNT,
    "mount": _MOUNT,
    "umount": _MOUNT,
    "setpriv": _all("util-linux"),
    "mke2fs": _E2FSPROGS,
    "e2fsck": _E2FSPROGS,
    "resize2fs": _E2FSPROGS,
    "fusermount3": _all("fuse3"),
    "fuse2fs": ("fuse2fs", "e2fsprogs", "fuse2fs", ""),
    "bwrap": _all("bubblewrap"),
    "sudo": _all("sudo"),
    "mkntfs": _NTFS,
    "ntfs-3g": _all("ntfs-3g"),
    "ntfsfix": _NTFS,
    "ntfsresize": _NTFS,
    "mkfs.vfat": _all("dosfstools"),
    "fsck.vfat": _all("dosfstools"),
    "fusefat": ("fusefat", "", "", ""),
    "mkfs.exfat": _all("exfatprogs"),
    "fsck.exfat": _all("exfatprogs"),
    "mount.exfat-fuse": ("exfat-fuse", "", "", ""),
    "mkfs.xfs": _all("xfsprogs"),
    "xfs_growfs": _all("xfsprogs"),
    "xfs_repair": _all("xfsprogs"),
    "mkfs.btrfs": _BTRFS,
    "btrfs": _BTRFS,
    "cryptsetup": ("cryptsetup-bin", "cryptsetup", "cryptsetup", "cryptsetup"),
}


def manager_here(find: Callable[[str], str | None]) -> Manager | None:
    """The package manager of this system: what os-release says, else the first that ``find`` finds; None without."""
    for system in _systems():
        for manager in MANAGERS:
            if system in manager.systems:
                return manager
    return next((manager for manager in MANAGERS if find(manager.program)), None)


def install_command(program: str, manager: Manager | None) -> tuple[str, ...]:
    """The command that installs ``program``, its last word being the package; empty if we know none."""
    if manager is None or program not in PACKAGES:
        return ()
    package = PACKAGES[program][MANAGERS.index(manager)]
    return (*manager.install, package) if package else ()


def _systems() -> Iterator[str]:
    """What this system calls itself, then what it says to be like, the nearest first."""
    said = {}
    try:
        for line in OS_RELEASE.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition("=")
            said[key] = value.strip().strip("\"'")
    except OSError:
        return
    yield from said.get("ID", "").split()
    yield from said.get("ID_LIKE", "").split()
