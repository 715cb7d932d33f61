"""The operations about templates."""

from __future__ import annotations

from portunix_vdisk.tasks.parameters import Kind, Operation, Parameter, disk_parameter

TEMPLATE_OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "template list",
        "list the templates: those that come with the program, and your own",
        (),
        ("portunix vdisk template list",),
        graph=False,
    ),
    Operation(
        "template show",
        "show what a template puts on a disk",
        (Parameter("template", Kind.TEXT, "key of the template", positional=True, required=True, metavar="TEMPLATE"),),
        ("portunix vdisk template show web_development",),
        graph=False,
    ),
    Operation(
        "template validate",
        "check a file of templates without using it",
        (Parameter("file", Kind.PATH, "file to check", positional=True, required=True, metavar="FILE"),),
        ("portunix vdisk template validate ~/.portunix/vdisk-templates.yaml",),
        graph=False,
    ),
    Operation(
        "template lock",
        "find out and keep exactly what a template installs, for create --locked",
        (
            Parameter(
                "template",
                Kind.TEXT,
                "key of the template, or a file",
                positional=True,
                required=True,
                metavar="TEMPLATE",
            ),
            Parameter("offline", Kind.FLAG, "use only what was fetched before"),
            Parameter("allow-missing", Kind.FLAG, "be content if a tool cannot be had"),
        ),
        ("portunix vdisk template lock web_development", "portunix vdisk template lock ./team.yaml"),
    ),
    Operation(
        "template from-disk",
        "write what is on a mounted disk as a template, and its lock beside it",
        (
            disk_parameter("name, image file or mount point (default: the only mounted disk)", required=False),
            Parameter("output", Kind.PATH, "file to write (default: ./NAME-OF-THE-DISK.yaml)", metavar="FILE"),
        ),
        ("portunix vdisk template from-disk my-dev --output team.yaml",),
        graph=False,
    ),
)
