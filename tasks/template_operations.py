"""The operations about templates."""

from __future__ import annotations

from portunix_vdisk.tasks.parameters import Kind, Operation, Parameter

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
)
