"""The operations about what is installed on a disk."""

from __future__ import annotations

from portunix_vdisk.tasks.parameters import Kind, Operation, Parameter

_WHERE = (
    Parameter("target", Kind.PATH, "folder where the disk is mounted", metavar="DIR"),
    Parameter(
        "disk",
        Kind.DISK,
        "name or image file of the disk (default: the one that the current folder is on, or the only mounted one)",
        metavar="DISK",
    ),
)

INSTALL_OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "install",
        "put tools and packages onto a mounted disk, where they run on every machine",
        (
            Parameter(
                "names",
                Kind.TEXT,
                "tools (nodejs, go@1.22) and packages of languages (react, npm:react@18, pip:pandas)",
                positional=True,
                required=True,
                metavar="NAME",
                many=True,
            ),
            *_WHERE,
            Parameter("offline", Kind.FLAG, "use only what was fetched before"),
            Parameter("allow-missing", Kind.FLAG, "install the rest if a tool cannot be had"),
        ),
        (
            "portunix vdisk install nodejs@18 typescript react --target /mnt/dev",
            "portunix vdisk install go git --disk my-dev",
            "portunix vdisk install python pip:pandas --offline",
        ),
    ),
)
