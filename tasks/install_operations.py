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
    Operation(
        "uninstall",
        "remove tools and packages from a mounted disk",
        (
            Parameter(
                "names",
                Kind.TEXT,
                "what to remove: nodejs (every version), nodejs@18, npm:react",
                positional=True,
                required=True,
                metavar="NAME",
                many=True,
            ),
            *_WHERE,
        ),
        ("portunix vdisk uninstall nodejs@18 react --disk my-dev",),
    ),
    Operation(
        "outdated",
        "show what on a mounted disk has a newer version, within what was asked for",
        (*_WHERE, Parameter("offline", Kind.FLAG, "ask nobody: by what was heard last")),
        ("portunix vdisk outdated --disk my-dev", "portunix vdisk outdated --json"),
        graph=False,
    ),
    Operation(
        "upgrade",
        "take the newest versions of what is on a mounted disk, within what was asked for",
        (
            Parameter(
                "names",
                Kind.TEXT,
                "what to upgrade: nodejs, npm:react (default: everything)",
                positional=True,
                metavar="NAME",
                many=True,
            ),
            *_WHERE,
            Parameter("offline", Kind.FLAG, "use only what was fetched before"),
            Parameter("allow-missing", Kind.FLAG, "upgrade the rest if something cannot be had"),
        ),
        ("portunix vdisk upgrade --disk my-dev", "portunix vdisk upgrade nodejs npm:react --disk my-dev"),
    ),
    Operation(
        "use",
        "choose the version of a tool that its commands mean, of those on the disk",
        (
            Parameter("tool", Kind.TEXT, "tool and version", positional=True, required=True, metavar="NAME@VERSION"),
            *_WHERE,
        ),
        ("portunix vdisk use nodejs@20 --disk my-dev",),
    ),
)
