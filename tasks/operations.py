"""Every operation and its parameters, declared once.

The command line, the doit variables, the checks of the plugin and the manifest are all made from this table. It
imports nothing heavy, so that ``portunix vdisk --help`` stays fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What the text of a parameter means."""

    TEXT = "text"
    PATH = "path"
    """A path, relative to the caller's folder."""
    SIZE = "size"
    """``20GB``, ``20G``, ``512MiB``; see :mod:`portunix_vdisk.steps.sizes`."""
    DISK = "disk"
    """A disk as a person names it; see :mod:`portunix_vdisk.tasks.which`."""
    FLAG = "flag"
    """Present or not; the text is ``true``."""
    SECRET_FILE = "secret-file"
    """``X-file``: a file whose first line is the secret ``X``; read by the process that the person started."""
    SECRET_FD = "secret-fd"
    """``X-fd``: the same for an open file descriptor of that process."""


SECRET_KINDS = (Kind.SECRET_FILE, Kind.SECRET_FD)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of an operation.

    A ``positional`` one that is ``also_option`` may be written both ways: ``DIR`` or ``--mountpoint DIR``. ``later``
    names the feature that will bring it: such a parameter is recognised and refused with "not yet".
    """

    name: str
    kind: Kind
    help: str
    positional: bool = False
    required: bool = False
    default: str | None = None
    metavar: str = ""
    later: str = ""
    also_option: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: a doit graph where ``graph`` is true, otherwise a question about the state of things.

    A name of two words (``archive mount``) is a group of :data:`GROUPS` and a verb. Such an operation needs nothing
    more than any other: an entry here, one in the engine, a renderer and a schema.
    """

    name: str
    summary: str
    parameters: tuple[Parameter, ...]
    examples: tuple[str, ...]
    graph: bool = True

    @property
    def group(self) -> str:
        """The first word of a name of two; otherwise empty."""
        return self.name.rpartition(" ")[0]

    @property
    def verb(self) -> str:
        """The last word of the name."""
        return self.name.rpartition(" ")[2]


def slug(name: str) -> str:
    """An operation's name where no blanks may be: ``archive-mount``, in doit's tasks and in names of schemas."""
    return name.replace(" ", "-")


def _disk(help: str, *, required: bool = True) -> Parameter:
    return Parameter("disk", Kind.DISK, help, positional=True, required=required, metavar="DISK")


def _later(name: str, feature: str, kind: Kind = Kind.TEXT) -> Parameter:
    return Parameter(name, kind, f"not yet: comes with {feature}", later=feature)


def _secret(name: str, what: str) -> tuple[Parameter, ...]:
    """The three ways to a secret; see :mod:`portunix_vdisk.tasks.passwords`."""
    return (
        Parameter(name, Kind.FLAG, f"ask for {what} (it is asked for whenever it is needed)"),
        Parameter(f"{name}-file", Kind.SECRET_FILE, f"file whose first line is {what}", metavar="FILE"),
        Parameter(f"{name}-fd", Kind.SECRET_FD, f"open descriptor whose first line is {what}", metavar="N"),
    )


PASSWORD = _secret("password", "the password")
"""Of operations that open or make something encrypted."""
NEW_PASSWORD = _secret("new-password", "the new password")
"""Of operations that change a password."""

_ENCRYPTION = (
    _later("encrypted", "encryption", Kind.FLAG),
    _later("password", "encryption", Kind.FLAG),
    _later("password-file", "encryption", Kind.PATH),
    _later("password-fd", "encryption"),
)
"""Of disks."""

GROUPS: dict[str, str] = {"archive": "look into archives made by export, and look after them"}
"""First words of operations whose names have two, and what the group is for."""

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "create",
        "make a new virtual disk: image, partition, filesystem",
        (
            Parameter("name", Kind.TEXT, "name of the disk", required=True, metavar="NAME"),
            Parameter("size", Kind.SIZE, "size of the disk, for example 20GB", metavar="SIZE"),
            Parameter("type", Kind.TEXT, "vhd (default) or img", default="vhd", metavar="TYPE"),
            Parameter("path", Kind.PATH, "folder or file for the image", metavar="PATH"),
            Parameter("abort", Kind.FLAG, "undo an interrupted create"),
            _later("template", "templates"),
            _later("fs", "other filesystems"),
            _later("portable", "other filesystems", Kind.FLAG),
            _later("fixed", "other image types", Kind.FLAG),
            _later("allow-missing", "templates", Kind.FLAG),
            _later("locked", "templates", Kind.FLAG),
            *_ENCRYPTION,
        ),
        (
            "portunix vdisk create --name my-dev --size 20GB",
            "portunix vdisk create --name raw-dev --size 8GiB --type img --path /data/disks",
            "portunix vdisk create --name my-dev --abort",
        ),
    ),
    Operation(
        "list",
        "list all virtual disks",
        (),
        ("portunix vdisk list", "portunix vdisk list --json"),
        graph=False,
    ),
    Operation(
        "info",
        "show everything known about one disk",
        (_disk("name, image file or mount point of the disk"),),
        ("portunix vdisk info my-dev", "portunix vdisk info my-dev.vhd --json"),
        graph=False,
    ),
    Operation(
        "mount",
        "make a disk's files visible at a folder",
        (
            _disk("name or image file of the disk"),
            Parameter(
                "mountpoint",
                Kind.PATH,
                "folder; made if missing (default: ~/.portunix/vdisk/mnt/NAME)",
                positional=True,
                metavar="MOUNTPOINT",
            ),
            Parameter("read-only", Kind.FLAG, "allow no writes"),
            _later("live", "live export", Kind.FLAG),
            _later("rootless", "mounting without root", Kind.FLAG),
            _later("partition", "foreign images"),
            *_ENCRYPTION[1:],
        ),
        (
            "portunix vdisk mount my-dev.vhd /mnt/dev",
            "portunix vdisk mount my-dev",
            "portunix vdisk mount my-dev --read-only",
        ),
    ),
    Operation(
        "unmount",
        "take a mounted disk away, with everything written safely",
        (_disk("name, image file or mount point (default: the only mounted disk)", required=False),),
        ("portunix vdisk unmount /mnt/dev", "portunix vdisk unmount my-dev"),
    ),
    Operation(
        "sync",
        "mirror a folder onto a mounted disk; a second run copies only what changed",
        (
            Parameter("source", Kind.PATH, "folder whose contents are copied", required=True, metavar="DIR"),
            Parameter("target", Kind.PATH, "folder on a mounted disk; made if missing", required=True, metavar="DIR"),
            Parameter("delete", Kind.FLAG, "also delete what is gone from the source"),
            Parameter("dry-run", Kind.FLAG, "only show what would be done"),
            Parameter("force", Kind.FLAG, "overwrite files that were changed in the target"),
        ),
        (
            "portunix vdisk sync --source . --target /mnt/dev/projects/myapp",
            "portunix vdisk sync --source ~/work --target /mnt/dev/work --delete --dry-run",
        ),
    ),
    Operation(
        "export",
        "pack a disk into one compressed, verified archive file",
        (
            Parameter("disk", Kind.DISK, "name or image file of the disk", metavar="DISK"),
            Parameter("output", Kind.PATH, "archive file, or a folder with a trailing slash", metavar="FILE"),
            _later("base", "delta archives", Kind.PATH),
            _later("split", "volumes"),
            _later("level", "adaptive compression"),
            _later("verify", "reading back", Kind.FLAG),
            _later("exclude-cache", "smart export", Kind.FLAG),
            _later("encrypted", "encryption", Kind.FLAG),
            *PASSWORD,
        ),
        (
            "portunix vdisk export --disk my-dev.vhd --output portable-dev.zip",
            "portunix vdisk export --disk my-dev --output /media/usb/",
        ),
    ),
    Operation(
        "import",
        "make a disk from an archive, verified chunk by chunk",
        (
            Parameter(
                "archive",
                Kind.PATH,
                "archive file made by export",
                positional=True,
                required=True,
                metavar="FILE",
            ),
            Parameter("name", Kind.TEXT, "name of the disk (default: the name in the archive)", metavar="NAME"),
            Parameter("path", Kind.PATH, "folder or file for the image", metavar="PATH"),
            Parameter("abort", Kind.FLAG, "undo an interrupted import"),
            _later("type", "importing as another type"),
            _later("generation", "generations"),
            _later("salvage", "repair", Kind.FLAG),
            _later("in-place", "foreign images", Kind.FLAG),
            *PASSWORD,
        ),
        (
            "portunix vdisk import portable-dev.zip",
            "portunix vdisk import portable-dev.zip --name my-dev-copy --path /data/disks",
        ),
    ),
    Operation(
        "delete",
        "delete a disk and its image file; asks first",
        (_disk("name or image file of the disk"),),
        ("portunix vdisk delete my-dev", "portunix vdisk delete my-dev --yes"),
    ),
    Operation(
        "doctor",
        "report which host tools and privileges are there, and what works without them",
        (Parameter("fix", Kind.FLAG, "install what is missing"),),
        ("portunix vdisk doctor", "portunix vdisk doctor --fix"),
        graph=False,
    ),
)

LATER_OPERATIONS: dict[str, str] = {
    "install": "templates and tools",
    "uninstall": "templates and tools",
    "template": "templates and tools",
    "shell": "templates and tools",
    "exec": "templates and tools",
    "snapshot": "snapshots",
    "restore": "snapshots",
    "compact": "the archive's full version",
    **dict.fromkeys(
        (f"archive {verb}" for verb in ("list", "verify", "mount", "unmount", "prune", "merge", "rekey", "repair")),
        "the archive's full version",
    ),
    "verify": "the archive's full version",
    "convert": "more image types",
    "resize": "more image types",
    "check": "more image types",
    "clone": "more image types",
    "formats": "more image types",
    "passwd": "encryption",
    "repair": "robust mounts",
}
"""Operations that are specified but not built yet, and the feature that brings each."""


def operation(name: str) -> Operation | None:
    """The operation of that name."""
    return next((known for known in OPERATIONS if known.name == name), None)
