"""Running somebody else's script so that it can change a disk and nothing else, by bubblewrap.

The script sees this machine's programs and libraries, read-only. Homes, temporary folders and sockets of services are
hidden behind empty folders: what is in them (keys, tokens, Docker's socket) is no business of a template.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from portunix_vdisk.platform.commands import Commands

PROGRAM = "bwrap"
_HIDDEN = ("/root", "/home", "/tmp", "/var/tmp", "/run", "/media", "/mnt", "/srv")
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
    home: Path,
) -> list[str]:
    """The words that run ``command`` in a sandbox, with the disk as its working folder.

    Args:
        commands: knows where bubblewrap is.
        command: program and arguments, as they are inside.
        root: mount point of the disk, the only place where it can write.
        variables: its environment; it gets nothing of ours.
        network: whether it may use the network, this machine's own services included.
        home: the person's home, if it is none of the usual places.
    """
    words = [commands.need(PROGRAM), "--die-with-parent", "--new-session", "--unshare-all"]
    words += ["--share-net"] if network else []
    words += ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    for folder in _hidden(home):
        words += ["--tmpfs", folder]
    if network:
        for folder in _OF_NETWORK:
            words += ["--ro-bind-try", folder, folder]
    words += ["--bind", os.fspath(root), os.fspath(root), "--chdir", os.fspath(root), "--clearenv"]
    for name, value in variables.items():
        words += ["--setenv", name, value]
    return [*words, "--", *command]


def _hidden(home: Path) -> Iterator[str]:
    """Each folder once, as it really lies: a link (``/var/tmp``, ``/home``) cannot be covered."""
    seen = set()
    for folder in (*_HIDDEN, os.fspath(home)):
        real = os.path.realpath(folder)
        if real not in seen and real != "/" and os.path.isdir(real):  # noqa: PTH112 - beside realpath
            seen.add(real)
            yield real
