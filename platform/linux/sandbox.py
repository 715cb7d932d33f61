"""Running somebody else's script so that it can change a disk and nothing else, by bubblewrap.

The script sees this machine's programs, libraries and settings, read-only, and the disk. Nothing else is there: no
home, no services' sockets, no other disks. Of the settings, what only root may read is hidden, since the script has
the rights of whoever runs us.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from portunix_vdisk.platform.commands import Commands

PROGRAM = "bwrap"
_SEEN = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/nix", "/gnu")
_HIDDEN = ("/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/sudoers", "/etc/security/opasswd")
_EMPTY = ("/etc/sudoers.d", "/etc/ssh", "/etc/ssl/private", "/etc/NetworkManager", "/etc/wireguard")
_OF_NETWORK = ("/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager")
"""Where ``/etc/resolv.conf`` may lead to."""


def is_there(commands: Commands) -> bool:
    """Whether scripts can be run in a sandbox here: without the right to make namespaces the program is no use."""
    if commands.find(PROGRAM) is None:
        return False
    every = commands.run(PROGRAM, "--ro-bind", "/", "/", "--unshare-all", "--", "/bin/true", accept=range(256))
    return every.status == 0


def sandboxed(
    commands: Commands,
    command: Sequence[str],
    *,
    root: Path,
    variables: Mapping[str, str],
    network: bool,
) -> list[str]:
    """The words that run ``command`` in a sandbox, with the disk as its working folder.

    Args:
        commands: knows where bubblewrap is.
        command: program and arguments, as they are inside.
        root: mount point of the disk, the only place where it can write.
        variables: its environment; it gets nothing of ours.
        network: whether it may use the network, this machine's own services included.
    """
    words = [commands.need(PROGRAM), "--die-with-parent", "--new-session", "--unshare-all"]
    words += ["--share-net"] if network else []
    for folder in _SEEN:
        words += ["--ro-bind-try", folder, folder]
    for file in filter(os.path.exists, _HIDDEN):
        words += ["--ro-bind", "/dev/null", file]
    for folder in filter(os.path.isdir, _EMPTY):
        words += ["--tmpfs", folder]
    words += ["--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]
    if network:
        for folder in _OF_NETWORK:
            words += ["--ro-bind-try", folder, folder]
    words += ["--bind", os.fspath(root), os.fspath(root), "--chdir", os.fspath(root), "--clearenv"]
    for name, value in variables.items():
        words += ["--setenv", name, value]
    return [*words, "--", *command]
