"""The operations that change, copy and check the image of a disk."""

from __future__ import annotations

from portunix_vdisk.tasks.parameters import PASSWORD, Kind, Operation, Parameter, disk_parameter

IMAGE_OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "convert",
        "make a disk's image one of another type; the disk in it stays as it is",
        (
            disk_parameter("name or image file of the disk"),
            Parameter("to", Kind.TEXT, "vhd, vhd-fixed, vhdx, qcow2, img or dmg", required=True, metavar="TYPE"),
            Parameter("compressed", Kind.FLAG, "a compressed, read-only copy; the disk stays as it is (only dmg)"),
            Parameter("output", Kind.PATH, "file for the copy, or a folder with a trailing slash", metavar="FILE"),
        ),
        (
            "portunix vdisk convert my-dev --to qcow2",
            "portunix vdisk convert my-dev.qcow2 --to vhd-fixed",
            "portunix vdisk convert my-dev --to dmg --compressed --output my-dev.dmg",
        ),
    ),
    Operation(
        "resize",
        "make a disk larger or smaller: image, partition and filesystem; asks before it makes one smaller",
        (
            disk_parameter("name or image file of the disk"),
            Parameter("size", Kind.SIZE, "what it becomes, for example 40GB", required=True, metavar="SIZE"),
            *PASSWORD,
        ),
        ("portunix vdisk resize my-dev --size 40GB", "portunix vdisk resize my-dev --size 10GB --yes"),
    ),
    Operation(
        "clone",
        "make another disk with the same content; at once where the host's filesystem can share blocks",
        (
            disk_parameter("name or image file of the disk"),
            Parameter("name", Kind.TEXT, "name of the new disk", required=True, metavar="NAME"),
            Parameter("path", Kind.PATH, "folder or file for the new image", metavar="PATH"),
            Parameter("abort", Kind.FLAG, "undo an interrupted clone"),
        ),
        ("portunix vdisk clone my-dev --name my-dev-2",),
    ),
    Operation(
        "check",
        "look for damage in a disk's image, partition table and filesystem; changes nothing unless told to",
        (
            disk_parameter("name or image file of the disk"),
            Parameter("repair", Kind.FLAG, "repair what can be without loss; asks first"),
            *PASSWORD,
        ),
        ("portunix vdisk check my-dev", "portunix vdisk check my-dev --repair"),
    ),
)
