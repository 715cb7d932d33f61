"""Every operation and its parameters, declared once.

The command line, the doit variables, the checks of the plugin and the manifest are all made from this table. It
imports nothing heavy, so that ``portunix vdisk --help`` stays fast.
"""

from __future__ import annotations

from portunix_vdisk.tasks.archive_operations import ARCHIVE_OPERATIONS
from portunix_vdisk.tasks.image_operations import IMAGE_OPERATIONS
from portunix_vdisk.tasks.install_operations import INSTALL_OPERATIONS
from portunix_vdisk.tasks.parameters import (
    NEW_PASSWORD,
    PASSWORD,
    SECRET_KINDS,
    Kind,
    Operation,
    Parameter,
    disk_parameter,
    slug,
)
from portunix_vdisk.tasks.template_operations import TEMPLATE_OPERATIONS
from portunix_vdisk.tasks.use_operations import USE_OPERATIONS

__all__ = [
    "GROUPS",
    "LATER_OPERATIONS",
    "OPERATIONS",
    "SECRET_KINDS",
    "Kind",
    "Operation",
    "Parameter",
    "operation",
    "slug",
]

GROUPS: dict[str, str] = {
    "archive": "look into archives made by export, and look after them",
    "template": "look at what new disks can be made of",
}
"""First words of operations whose names have two, and what the group is for."""

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "create",
        "make a new virtual disk: image, partition, filesystem",
        (
            Parameter("name", Kind.TEXT, "name of the disk", required=True, metavar="NAME"),
            Parameter("size", Kind.SIZE, "size of the disk, for example 20GB", metavar="SIZE"),
            Parameter("type", Kind.TEXT, "vhd (default), vhdx, qcow2, img, loop or dmg", default="vhd", metavar="TYPE"),
            Parameter("fixed", Kind.FLAG, "a fixed VHD: as large as the disk, and faster"),
            Parameter("path", Kind.PATH, "folder or file for the image", metavar="PATH"),
            Parameter("abort", Kind.FLAG, "undo an interrupted create"),
            Parameter(
                "template",
                Kind.TEXT,
                "what to fill it with: a key of portunix vdisk template list, or a file",
                metavar="TEMPLATE",
            ),
            Parameter("fs", Kind.TEXT, "ext4 (default), ntfs, fat32, exfat, xfs or btrfs", metavar="FS"),
            Parameter("portable", Kind.FLAG, "NTFS: for Windows, too"),
            Parameter("allow-missing", Kind.FLAG, "be content if a tool of the template cannot be had"),
            Parameter("offline", Kind.FLAG, "install only what was fetched before"),
            Parameter("locked", Kind.FLAG, "exactly what the template's lock has: portunix vdisk template lock"),
            Parameter("encrypted", Kind.FLAG, "encrypt the disk (LUKS1); asks for a password"),
            *PASSWORD,
        ),
        (
            "portunix vdisk create --name my-dev --size 20GB",
            "portunix vdisk create --name web --template web_development",
            "portunix vdisk create --name web --template ./team.yaml --locked",
            "portunix vdisk create --name raw-dev --size 8GiB --type img --path /data/disks",
            "portunix vdisk create --name safe --size 20GB --encrypted",
            "portunix vdisk create --name my-dev --size 20GB --type vhdx --fs ntfs",
            "portunix vdisk create --name my-dev --abort",
        ),
    ),
    Operation(
        "list",
        "list all virtual disks; or what is installed on one",
        (
            Parameter("tools", Kind.FLAG, "what is installed on a mounted disk, and which versions are active"),
            disk_parameter("with --tools: the disk (default: the only mounted one)", required=False),
        ),
        ("portunix vdisk list", "portunix vdisk list --json", "portunix vdisk list --tools my-dev"),
        graph=False,
    ),
    Operation(
        "info",
        "show everything known about one disk",
        (disk_parameter("name, image file or mount point of the disk"),),
        ("portunix vdisk info my-dev", "portunix vdisk info my-dev.vhd --json"),
        graph=False,
    ),
    Operation(
        "mount",
        "make a disk's files visible at a folder",
        (
            disk_parameter("name or image file of the disk"),
            Parameter(
                "mountpoint",
                Kind.PATH,
                "folder; made if missing (default: ~/.portunix/vdisk/mnt/NAME)",
                positional=True,
                metavar="MOUNTPOINT",
                also_option=True,
            ),
            Parameter("read-only", Kind.FLAG, "allow no writes"),
            Parameter(
                "live",
                Kind.FLAG,
                "so that it can be exported while mounted (vhd, vhdx and qcow2 always can); a little slower",
            ),
            Parameter("rootless", Kind.FLAG, "by programs of yours, not by root (by itself where root cannot be had)"),
            Parameter("chown", Kind.FLAG, "give you the files of the disk's owner, on the disk itself"),
            Parameter("partition", Kind.TEXT, "which partition of an image that others made", metavar="N"),
            Parameter("image-type", Kind.TEXT, "what such an image is: img (raw bytes), vhd, vmdk …", metavar="TYPE"),
            *PASSWORD,
        ),
        (
            "portunix vdisk mount my-dev.vhd /mnt/dev",
            "portunix vdisk mount my-dev",
            "portunix vdisk mount my-dev --read-only",
            "portunix vdisk mount my-dev --rootless",
            "portunix vdisk mount ./server.vmdk /mnt/look --partition 2",
        ),
    ),
    Operation(
        "unmount",
        "take a mounted disk away, with everything written safely",
        (disk_parameter("name, image file or mount point (default: the only mounted disk)", required=False),),
        ("portunix vdisk unmount /mnt/dev", "portunix vdisk unmount my-dev"),
    ),
    Operation(
        "repair",
        "check image and filesystem; a disk that lost its storage daemon is mounted again where it was",
        (disk_parameter("name, image file or mount point of the disk"), *PASSWORD),
        ("portunix vdisk repair my-dev", "portunix vdisk repair my-dev --json"),
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
        "compact",
        "make a disk's image as small as what is on it; unmounts and mounts it again",
        (
            Parameter(
                "disk", Kind.DISK, "name or image file of the disk (default: the only mounted disk)", metavar="DISK"
            ),
            *PASSWORD,
        ),
        ("portunix vdisk compact my-dev.vhd", "portunix vdisk compact --disk my-dev"),
    ),
    *IMAGE_OPERATIONS,
    Operation(
        "export",
        "pack a disk into one compressed, verified archive file",
        (
            Parameter("disk", Kind.DISK, "name or image file of the disk", metavar="DISK"),
            Parameter("output", Kind.PATH, "archive file, or a folder with a trailing slash", metavar="FILE"),
            Parameter("move-to", Kind.PATH, "move an unfinished export to this folder and go on there", metavar="DIR"),
            Parameter("keep", Kind.TEXT, "generations that the archive keeps (default: 2)", metavar="N"),
            Parameter("base", Kind.PATH, "write only what this earlier archive does not hold", metavar="FILE"),
            Parameter("split", Kind.SIZE, "write volumes of this size, for example 4000M", metavar="SIZE"),
            Parameter("level", Kind.TEXT, "auto (default: lower for fast outputs), store, or 1 to 19", metavar="LEVEL"),
            Parameter("verify", Kind.FLAG, "read back what was written (always done on removable media)"),
            Parameter("encrypted", Kind.FLAG, "encrypt the archive; asks for a password"),
            Parameter("exclude-cache", Kind.FLAG, "leave out caches and build outputs; the disk stays as it is"),
            *PASSWORD,
        ),
        (
            "portunix vdisk export --disk my-dev.vhd --output portable-dev.zip",
            "portunix vdisk export --disk my-dev --output /media/usb/",
            "portunix vdisk export --disk my-dev --encrypted --output client-delivery/",
            "portunix vdisk export --disk my-dev --base monday.zip --output tuesday.zip",
            "portunix vdisk export --disk my-dev --move-to /media/larger",
            "portunix vdisk export --disk my-dev --exclude-cache --output small.zip",
        ),
    ),
    Operation(
        "import",
        "make a disk from an archive, verified chunk by chunk; or from an image that others made",
        (
            Parameter(
                "archive",
                Kind.PATH,
                "archive file made by export, or a disk image",
                positional=True,
                required=True,
                metavar="FILE",
            ),
            Parameter("name", Kind.TEXT, "name of the disk (default: the name in the archive)", metavar="NAME"),
            Parameter("path", Kind.PATH, "folder or file for the image", metavar="PATH"),
            Parameter("abort", Kind.FLAG, "undo an interrupted import"),
            Parameter("type", Kind.TEXT, "vhd, vhdx, qcow2, img … (default: as it was)", metavar="TYPE"),
            Parameter("generation", Kind.TEXT, "an older state of the archive (default: the newest)", metavar="N"),
            Parameter("base", Kind.TEXT, "archives that this one is a delta against, if not beside it", metavar="FILE"),
            Parameter("salvage", Kind.FLAG, "import what is whole of a damaged archive, and name the damaged files"),
            Parameter("in-place", Kind.FLAG, "enter a disk image into the catalog as it is and where it is"),
            Parameter("partition", Kind.TEXT, "which partition of a disk image (default: the only one)", metavar="N"),
            Parameter("allow-backing", Kind.FLAG, "also read the files that a QCOW2 image stands on; they are named"),
            Parameter("image-type", Kind.TEXT, "what a disk image is: img (raw bytes), vhd, qcow2 …", metavar="TYPE"),
            *PASSWORD,
        ),
        (
            "portunix vdisk import portable-dev.zip",
            "portunix vdisk import portable-dev.zip --name my-dev-copy --path /data/disks",
            "portunix vdisk import portable-dev.zip --generation 3 --type img",
            "portunix vdisk import damaged.zip --salvage",
            "portunix vdisk import server.vmdk --type qcow2",
            "portunix vdisk import server.img --in-place --partition 2 --name server",
        ),
    ),
    Operation(
        "delete",
        "delete a disk and its image file; asks first",
        (disk_parameter("name or image file of the disk"),),
        ("portunix vdisk delete my-dev", "portunix vdisk delete my-dev --yes"),
    ),
    Operation(
        "passwd",
        "change the password of an encrypted disk, add one or remove one; its content is not written again",
        (
            disk_parameter("name or image file of the disk"),
            Parameter("add", Kind.FLAG, "let the new password open the disk as well (eight at most)"),
            Parameter("remove", Kind.FLAG, "let the password no longer open the disk; never the last one"),
            *PASSWORD,
            *NEW_PASSWORD,
        ),
        (
            "portunix vdisk passwd my-dev",
            "portunix vdisk passwd my-dev --add",
            "portunix vdisk passwd my-dev --password-file old --new-password-file new",
            "portunix vdisk passwd my-dev --remove --password-file old",
        ),
    ),
    Operation(
        "luks-backup",
        "copy the header of an encrypted disk: without it, nobody can open the disk",
        (
            disk_parameter("name or image file of the disk"),
            Parameter("output", Kind.PATH, "file to make", positional=True, required=True, metavar="FILE"),
        ),
        ("portunix vdisk luks-backup my-dev /media/usb/my-dev.luks",),
    ),
    Operation(
        "formats",
        "list image types and filesystems: how large, where they open, what they can",
        (),
        ("portunix vdisk formats", "portunix vdisk formats --json"),
        graph=False,
    ),
    Operation(
        "doctor",
        "report which host tools and privileges are there, and what works without them",
        (Parameter("fix", Kind.FLAG, "install what is missing"),),
        ("portunix vdisk doctor", "portunix vdisk doctor --fix"),
        graph=False,
    ),
    *USE_OPERATIONS,
    *ARCHIVE_OPERATIONS,
    *TEMPLATE_OPERATIONS,
    *INSTALL_OPERATIONS,
)

LATER_OPERATIONS: dict[str, str] = {
    "snapshot": "snapshots",
    "restore": "snapshots",
}
"""Operations that are specified but not built yet, and the feature that brings each."""


def operation(name: str) -> Operation | None:
    """The operation of that name."""
    return next((known for known in OPERATIONS if known.name == name), None)
