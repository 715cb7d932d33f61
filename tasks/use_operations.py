"""The operations that use what is on a disk."""

from __future__ import annotations

from portunix_vdisk.tasks.parameters import PASSWORD, Kind, Operation, Parameter, disk_parameter

_DISK = disk_parameter(
    "name, image file or mount point (default: the disk you are on, or the only mounted one)", required=False
)
_PYTHON = Parameter(
    "python", Kind.TEXT, "Python that runs if the disk has none (default: your python3)", metavar="VERSION"
)

USE_OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "env",
        "print what a mounted disk sets in the environment, for your shell's eval",
        (
            _DISK,
            Parameter("shell", Kind.TEXT, "sh (default: bash, zsh and others), fish or powershell", metavar="SHELL"),
            _PYTHON,
        ),
        ("portunix vdisk env my-dev", "portunix vdisk env my-dev --shell fish", "portunix vdisk env my-dev --json"),
        graph=False,
    ),
    Operation(
        "exec",
        "run a command with the tools of a disk; mounts the disk for that time if it is not mounted",
        (_DISK, _PYTHON, *PASSWORD),
        ("portunix vdisk exec my-dev -- npm test", "portunix vdisk exec my-dev -- sh -c 'cd projects/app && make'"),
        rest="COMMAND [ARGUMENT …]",
    ),
    Operation(
        "shell",
        "open your shell with the tools of a disk; mounts the disk for that time if it is not mounted",
        (_DISK, _PYTHON, *PASSWORD),
        ("portunix vdisk shell my-dev",),
    ),
)
IN_THE_FOREGROUND = ("exec", "shell")
"""Operations that only prepare: what the person wants then runs in the process that the person started."""
NEED_PYTHON = ("env", "exec", "shell")
"""Operations for which the process that the person started finds out which Python they would run."""
