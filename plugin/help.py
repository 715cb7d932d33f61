"""What ``--help`` says. Made from the table of operations; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable

from portunix_vdisk.tasks.operations import GROUPS, OPERATIONS, Kind, Operation, Parameter, operation

GLOBAL_FLAGS = {
    "--json": "print one JSON object",
    "--quiet": "no progress, no questions, no summary",
    "--yes": "answer confirmations with yes",
    "--debug": "show tracebacks",
}


def shown(parameter: Parameter) -> str:
    """How a parameter is written: DISK, or --name NAME."""
    metavar = parameter.metavar or parameter.name.upper()
    if parameter.positional:
        return f"{metavar} …" if parameter.many else metavar
    return f"--{parameter.name}" if parameter.kind is Kind.FLAG else f"--{parameter.name} {metavar}"


def usage(known: Operation) -> str:
    """One line: how the whole command is written."""
    parts = [shown(one) if one.required else f"[{shown(one)}]" for one in known.parameters]
    return " ".join([f"portunix vdisk {known.name}", *parts, *(["--", known.rest] if known.rest else [])])


def help_text(subject: str) -> str:
    """Help on everything (``""``), on ``vdisk``, ``plugin``, a group of operations, or an operation."""
    known = operation(subject)
    if known is not None:
        return _operation_help(known)
    if subject in GROUPS:
        return _group_help(subject)
    if subject == "plugin":
        return "\n".join(
            [
                "usage: portunix plugin status vdisk | portunix plugin stop vdisk [--force]",
                "",
                "The plugin starts by itself and ends after ten minutes without work.",
                "--force also stops running operations, at their next safe point.",
            ]
        )
    lines = [
        "usage: portunix vdisk OPERATION [options]",
        "",
        "Virtual development disks: a whole development environment in one file that travels.",
        "",
        "operations:",
        *_table((one.name, one.summary) for one in OPERATIONS if not one.group),
        *_table((f"{name} …", f"{summary}: portunix vdisk {name} --help") for name, summary in _groups()),
        *_table([("doit", "the same operations as doit tasks: portunix vdisk doit list")]),
        "",
        "options of every operation:",
        *_table([*GLOBAL_FLAGS.items(), ("--help", "what an operation does, with examples")]),
        "",
        "examples:",
        *(f"  {one.examples[0]}" for one in OPERATIONS[:4]),
    ]
    if not subject:
        lines += ["", "The plugin behind it: portunix plugin status vdisk, portunix plugin stop vdisk"]
    return "\n".join(lines)


def _groups() -> list[tuple[str, str]]:
    """Groups that have operations already."""
    return [(name, summary) for name, summary in GROUPS.items() if any(one.group == name for one in OPERATIONS)]


def _group_help(group: str) -> str:
    members = [one for one in OPERATIONS if one.group == group]
    return "\n".join(
        [
            f"usage: portunix vdisk {group} OPERATION [options]",
            "",
            GROUPS[group][0].upper() + GROUPS[group][1:] + ".",
            "",
            "operations:",
            *_table((one.verb, one.summary) for one in members),
            "",
            "examples:",
            *(f"  {one.examples[0]}" for one in members),
        ]
    )


def _operation_help(known: Operation) -> str:
    rows = [(shown(one), one.help) for one in known.parameters]
    lines = [f"usage: {usage(known)}", "", known.summary[0].upper() + known.summary[1:] + ".", ""]
    if rows:
        lines += ["parameters:", *_table(rows), ""]
    lines += ["options:", *_table([*GLOBAL_FLAGS.items(), ("--help", "this text")]), "", "examples:"]
    return "\n".join([*lines, *(f"  {example}" for example in known.examples)])


def _table(rows: Iterable[tuple[str, str]]) -> list[str]:
    pairs = list(rows)
    width = max([18, *(len(left) for left, _ in pairs)])
    return [f"  {left:<{width}}  {right}" for left, right in pairs]
