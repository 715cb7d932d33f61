"""Where this program keeps its state, and whose it is."""

from __future__ import annotations

import os
import pwd
import sys
from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.platform.base import Owner


def calling_owner() -> Owner:
    """The person who called us: under sudo the one who typed the command, otherwise this process's user."""
    if os.getuid() == 0 and os.environ.get("SUDO_UID", "").isdigit():
        return Owner(int(os.environ["SUDO_UID"]), int(os.environ.get("SUDO_GID") or os.environ["SUDO_UID"]))
    return Owner(os.geteuid(), os.getegid())


def act_as_caller() -> None:
    """Under sudo, create every file as the person who called sudo; root comes back only in ``as_root`` children.

    The real user id stays 0, so a child that asks for it (``subprocess`` with ``user=0``) is root again.
    """
    owner = calling_owner()
    if os.getuid() == 0 and owner.uid != 0 and os.geteuid() == 0:
        os.setgroups(os.getgrouplist(pwd.getpwuid(owner.uid).pw_name, owner.gid))
        os.setegid(owner.gid)
        os.seteuid(owner.uid)


def leave_disk() -> None:
    """Forget, in this process, the programs and modules of a disk that is activated in the person's shell.

    They are for the person's own commands. Ours must not load a disk's gRPC, or run its ``mount`` as root.
    """
    disk = os.environ.get("PORTUNIX_VDISK")
    if not disk:
        return
    root = Path(disk)

    def elsewhere(folder: str) -> bool:
        return not Path(folder).is_relative_to(root)

    for name in ("PATH", "PYTHONPATH"):
        if name in os.environ:
            os.environ[name] = os.pathsep.join(filter(elsewhere, os.environ[name].split(os.pathsep)))
    sys.path[:] = filter(elsewhere, sys.path)


@dataclass(frozen=True, slots=True)
class Home:
    """The state folder: ``~/.portunix``, or what ``PORTUNIX_HOME`` says."""

    root: Path

    @classmethod
    def of_caller(cls) -> Home:
        """The state folder of the calling person, also under sudo. Nothing is created."""
        override = os.environ.get("PORTUNIX_HOME")
        if override:
            return cls(Path(override).absolute())
        try:
            person = pwd.getpwuid(calling_owner().uid).pw_dir
        except KeyError:  # a container may run as a user that nobody has told it about
            person = os.environ.get("HOME") or "/"
        return cls(Path(person) / ".portunix")

    @property
    def logs(self) -> Path:
        """Log files of all components."""
        return self.root / "logs"

    @property
    def vdisk(self) -> Path:
        """Everything about virtual disks."""
        return self.root / "vdisk"

    @property
    def catalog(self) -> Path:
        """Database: which disks exist."""
        return self.vdisk / "catalog.db"

    @property
    def journal(self) -> Path:
        """Database: which tasks are done."""
        return self.vdisk / "journal.db"

    @property
    def disks(self) -> Path:
        """Default folder of images."""
        return self.vdisk / "disks"

    @property
    def blocks(self) -> Path:
        """Folder of what is remembered of the blocks of exported disks: a file for each, called like its UUID."""
        return self.vdisk / "blocks"

    @property
    def mounts(self) -> Path:
        """Default folder of mount points."""
        return self.vdisk / "mnt"

    @property
    def run(self) -> Path:
        """Sockets, locks and process ids; mode 0700, empty when nothing runs."""
        return self.vdisk / "run"

    def make(self) -> None:
        """Create the folders that are missing. Raises ``OSError``."""
        for folder in (self.root, self.vdisk, self.disks, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        self.run.mkdir(mode=0o700, exist_ok=True)
