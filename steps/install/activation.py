"""Activation files in a disk's root: ``activate``, ``activate.fish``, ``activate.ps1``.

They are made whenever the record changes, because shells cannot read it (JSON) without a program, and none needs to be
on the machine that the disk comes to. What does not stand in the record, which folders there are and which Python
would run, the shell looks at when it activates. No path in them is absolute: the disk is where the file is.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Final

from portunix_vdisk.steps.durable import fsync_folder, replace_text
from portunix_vdisk.steps.install.environment import ROOT, Plan, Setting, make_plan
from portunix_vdisk.steps.install.prefixes import OURS
from portunix_vdisk.steps.install.quoting import Shell, quote
from portunix_vdisk.steps.install.record import Installed


def write_activation(root: Path, installed: Installed, configuration: Mapping[str, str] | None = None) -> None:
    """Make the activation files of the disk at ``root`` anew, durably; each is whole at every moment.

    ``configuration`` are the variables of the template that the disk was made from.

    What happens to lie under such a name is replaced, a symbolic link itself and not what it leads to.
    Raises ``OSError``.
    """
    plan = make_plan(installed, configuration)
    for name, text in activation_texts(plan).items():
        replace_text(root / name, text)
    fsync_folder(root)


def activation_texts(plan: Plan) -> dict[str, str]:
    """The files by name."""
    return {name: _filled(template, plan, shell) for name, (template, shell) in _FILES.items()}


_FILES: Final = {
    "activate": ("activate.sh", Shell.SH),
    "activate.fish": ("activate.fish", Shell.FISH),
    "activate.ps1": ("activate.ps1", Shell.POWERSHELL),
}


def _filled(template: str, plan: Plan, shell: Shell) -> str:
    text = (files("portunix_vdisk.steps.install") / template).read_text(encoding="utf-8")
    names = sorted(OURS)
    ours = {
        Shell.SH: " | ".join([*names, ".*", "''"]),
        Shell.FISH: " ".join(names),
        Shell.POWERSHELL: ", ".join(quote(name, shell) for name in names),
    }
    text = text.replace("@PYTHON@", plan.python or ("" if shell is not Shell.FISH else "''"))
    return text.replace("@OURS@", ours[shell]).replace("@SETTINGS@", "\n".join(_lines(plan, shell)))


def _lines(plan: Plan, shell: Shell) -> Iterator[str]:
    """What is set, in the order in which a shell has to do it: the last folder of a list goes in front of it first."""
    fronts = [one for one in reversed(plan.settings) if one.in_front]
    others = [one for one in plan.settings if not one.in_front]
    write = _WRITERS[shell]
    for where, group in groupby([*fronts, *others], key=lambda one: one.where):
        inner = [write(one) for one in group]
        if not where:
            yield from (f"    {line}" for line in inner)
        else:
            yield f"    {_condition(where, shell)}"
            yield from (f"        {line}" for line in inner)
            yield {Shell.SH: "    fi", Shell.FISH: "    end", Shell.POWERSHELL: "    }"}[shell]


def _condition(where: tuple[str, ...], shell: Shell) -> str:
    places = [f"{ROOT}/{each}" for each in where]
    if shell is Shell.SH:
        return "if " + " || ".join(f"[ -d {_sh(each)} ]" for each in places) + "; then"
    if shell is Shell.FISH:
        return "if " + "; or ".join(f"test -d {_fish(each)}" for each in places)
    return "if (" + " -or ".join(f"(Test-Path -LiteralPath {_powershell(each)})" for each in places) + ") {"


def _sh(value: str) -> str:
    return '"$_portunix_root"'.join(shlex.quote(part) if part else "" for part in value.split(ROOT)) or "''"


def _fish(value: str) -> str:
    return "$root".join(quote(part, Shell.FISH) if part else "" for part in value.split(ROOT)) or "''"


def _powershell(value: str) -> str:
    parts = [quote(part, Shell.POWERSHELL) for part in value.split(ROOT)]
    return f"({' + $root + '.join(parts)})"


def _sh_line(one: Setting) -> str:
    return f"{'_portunix_front' if one.in_front else '_portunix_set'} {one.name} {_sh(one.value)}"


def _fish_line(one: Setting) -> str:
    return f"{'_portunix_front' if one.in_front else '_portunix_set'} {one.name} {_fish(one.value)}"


def _powershell_line(one: Setting) -> str:
    return (
        f"{'Add-InFront' if one.in_front else 'Set-One'} {quote(one.name, Shell.POWERSHELL)} {_powershell(one.value)}"
    )


_WRITERS: Final[dict[Shell, Callable[[Setting], str]]] = {
    Shell.SH: _sh_line,
    Shell.FISH: _fish_line,
    Shell.POWERSHELL: _powershell_line,
}
