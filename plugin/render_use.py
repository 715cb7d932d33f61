"""What is installed on a disk and what that sets, as text for people and shells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from portunix_vdisk.plugin.text import table
from portunix_vdisk.tasks.shell_text import Shell, export_lines

Object = Mapping[str, Any]


def installed(result: Object) -> list[str]:
    """The lines of ``list --tools``."""
    rows = [
        (one["name"], one["version"], "active" if one["active"] else "-", one["source"], ", ".join(one["commands"]))
        for one in result["tools"]
    ]
    rows += [(one["name"], one["version"], "-", one["language"], "-") for one in result["packages"]]
    if not rows:
        return [f"nothing is installed on {result['disk']}"]
    return table(("NAME", "VERSION", "ACTIVE", "FROM", "COMMANDS"), rows)


def _env(result: Object) -> list[str]:
    return list(export_lines(result["in_front"], result["variables"], Shell(result["shell"])))


def _ready(result: Object) -> list[str]:
    return [f"{result['disk']['name']} is ready at {result['environment']['root']}"]


RENDERERS: dict[str, Callable[[Object], list[str]]] = {"env": _env, "exec": _ready, "shell": _ready}
