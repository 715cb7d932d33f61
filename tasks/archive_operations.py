"""The operations that look after archives."""

from __future__ import annotations

from portunix_vdisk.tasks.parameters import NEW_PASSWORD, PASSWORD, Kind, Operation, Parameter

_ARCHIVE = Parameter(
    "archive", Kind.PATH, "archive file made by export", positional=True, required=True, metavar="FILE"
)
_BASE = Parameter("base", Kind.TEXT, "archives that this one is a delta against, if not beside it", metavar="FILE")

ARCHIVE_OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "verify",
        "check an archive: read every chunk and compare it with its digest",
        (_ARCHIVE, Parameter("quick", Kind.FLAG, "only directory, index and headers"), _BASE, *PASSWORD),
        ("portunix vdisk verify portable-dev.zip", "portunix vdisk verify portable-dev.zip --quick"),
    ),
    Operation(
        "archive list",
        "show the generations of an archive",
        (_ARCHIVE, *PASSWORD),
        ("portunix vdisk archive list portable-dev.zip",),
        graph=False,
    ),
    Operation(
        "archive prune",
        "write an archive anew with its newest generations only",
        (_ARCHIVE, Parameter("keep", Kind.TEXT, "generations that stay (default: 1)", metavar="N"), *PASSWORD),
        ("portunix vdisk archive prune portable-dev.zip --keep 1",),
    ),
    Operation(
        "archive rekey",
        "change the password of an archive; its content is not written again",
        (_ARCHIVE, *PASSWORD, *NEW_PASSWORD),
        (
            "portunix vdisk archive rekey client.zip",
            "portunix vdisk archive rekey client.zip --password-file old --new-password-file new",
        ),
    ),
    Operation(
        "archive repair",
        "mend a damaged archive: write only what is damaged again, from where its content is found",
        (
            _ARCHIVE,
            Parameter("from", Kind.TEXT, "disks, copies or other archives that may hold it", metavar="DISK|FILE"),
            _BASE,
            *PASSWORD,
        ),
        (
            "portunix vdisk archive repair /media/usb/portable-dev.zip --from my-dev",
            "portunix vdisk archive repair portable-dev.zip --from older.zip,my-dev",
        ),
    ),
    Operation(
        "archive merge",
        "make one full archive of a delta and everything that it is based on, without importing them",
        (
            Parameter(
                "archive",
                Kind.PATH,
                "delta made by export --base",
                positional=True,
                required=True,
                metavar="DELTA",
            ),
            Parameter("output", Kind.PATH, "archive file to make", required=True, metavar="FILE"),
            _BASE,
            Parameter("split", Kind.SIZE, "write volumes of this size, for example 4000M", metavar="SIZE"),
            *PASSWORD,
        ),
        (
            "portunix vdisk archive merge tuesday.zip --output full.zip",
            "portunix vdisk archive merge tuesday.zip --base old/monday.zip --output full.zip",
        ),
    ),
    Operation(
        "archive mount",
        "look into an archive without importing it: its files, for reading only",
        (
            _ARCHIVE,
            Parameter(
                "mountpoint",
                Kind.PATH,
                "folder; made if missing (default: ~/.portunix/vdisk/mnt/FILE)",
                positional=True,
                metavar="MOUNTPOINT",
                also_option=True,
            ),
            Parameter("generation", Kind.TEXT, "an older state of the archive (default: the newest)", metavar="N"),
            _BASE,
            *PASSWORD,
        ),
        (
            "portunix vdisk archive mount portable-dev.zip /mnt/look",
            "portunix vdisk archive mount portable-dev.zip /mnt/look --generation 3",
            "portunix vdisk archive mount portable-dev.zip",
        ),
    ),
    Operation(
        "archive unmount",
        "take a mounted archive away",
        (
            Parameter(
                "archive",
                Kind.PATH,
                "archive file or mount point (default: the only mounted archive)",
                positional=True,
                metavar="FILE|MOUNTPOINT",
            ),
        ),
        ("portunix vdisk archive unmount /mnt/look", "portunix vdisk archive unmount portable-dev.zip"),
    ),
)
