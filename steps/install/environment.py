"""The environment of a disk: what is set so that the tools and packages on it are the ones that run.

PATH begins with the disk's ``/bin`` (the shims of all tools), then the commands of its packages. Of a language
(see :data:`LANGUAGES`) everything is set if the disk has a tool or a package of it, or a folder in ``/env`` or
``/cache`` that belongs to it: a disk without Go leaves the host's Go alone, and an empty ``/cache/npm`` is enough to
keep what the host's npm downloads. Nothing here looks at the machine that the disk is on.

The record is somebody else's: variables that lead other programs elsewhere are refused, see
:mod:`portunix_vdisk.steps.install.not_yours`; what this module sets itself cannot be changed by any.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from portunix_vdisk.steps.install.not_yours import is_refused
from portunix_vdisk.steps.install.prefixes import Prefix, find_prefixes
from portunix_vdisk.steps.install.record import Installed, InstalledTool

ROOT: Final = "\0"
"""Stands for the mount point in a value: nothing else has this character."""
DISK_VARIABLE: Final = "PORTUNIX_VDISK"
"""Holds the mount point of the disk whose environment it is."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing to set.

    Args:
        name: the variable.
        value: its value, with :data:`ROOT` for the mount point; of a list, one folder.
        in_front: it is put in front of the list that is there already.
        where: folders, seen from the root, one of which must be on the disk; none: it is set always.
    """

    name: str
    value: str
    in_front: bool = False
    where: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Language:
    """What a disk sets for a language.

    Args:
        tools: names of tools that speak it.
        packages: what its packages are called in a record.
        folders: folders that show that the disk is used for it.
        in_front: folders for lists.
        variables: single folders.
    """

    tools: frozenset[str]
    packages: frozenset[str]
    folders: tuple[str, ...]
    in_front: tuple[tuple[str, str], ...]
    variables: tuple[tuple[str, str], ...]


LANGUAGES: Final = (
    Language(
        frozenset({"nodejs", "node", "npm", "yarn", "pnpm"}),
        frozenset({"npm", "node"}),
        ("env/node", "cache/npm", "cache/yarn"),
        (("PATH", "env/node/node_modules/.bin"), ("NODE_PATH", "env/node/node_modules")),
        (("npm_config_cache", "cache/npm"), ("YARN_CACHE_FOLDER", "cache/yarn")),
    ),
    Language(
        frozenset({"python", "pip", "uv", "jupyter"}),
        frozenset({"pip", "python"}),
        ("env/python", "cache/pip", "cache/uv"),
        (("PATH", "env/python/bin"), ("PYTHONPATH", "env/python")),
        (("PIP_CACHE_DIR", "cache/pip"), ("UV_CACHE_DIR", "cache/uv")),
    ),
    Language(
        frozenset({"go"}),
        frozenset({"go"}),
        ("env/go", "cache/go"),
        (("PATH", "env/go/bin"),),
        (("GOPATH", "env/go"), ("GOMODCACHE", "env/go/pkg/mod"), ("GOCACHE", "cache/go/build")),
    ),
    Language(
        frozenset({"rust", "cargo"}),
        frozenset({"cargo", "rust"}),
        ("env/rust", "cache/cargo"),
        (("PATH", "env/rust/bin"),),
        (("CARGO_HOME", "cache/cargo"), ("CARGO_INSTALL_ROOT", "env/rust")),
    ),
)


_OF_SHIMS: Final = frozenset({"PIP_TARGET", "PIP_DISABLE_PIP_VERSION_CHECK", "npm_config_update_notifier"})
"""What commands of our recipes set for themselves alone; the host's pip would not take --prefix with a target."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a disk sets, wherever it is mounted."""

    settings: tuple[Setting, ...]
    """In front of a list, the first of them is looked into first."""
    refused: tuple[str, ...]
    """A line for each variable that somebody wanted to set and that is not set."""
    python: str = ""
    """Version of the disk's own Python, ``3.11``, if one is active."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What a disk sets, mounted where it is.

    Args:
        root: the mount point.
        in_front: folders that go in front of a list such as PATH, by variable.
        variables: values by name.
        warnings: lines for the person.
    """

    root: Path
    in_front: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def applied(self, environment: Mapping[str, str]) -> dict[str, str]:
        """That environment with the disk's on top."""
        lists = {
            name: ":".join([*folders, *filter(None, [environment.get(name)])])
            for name, folders in self.in_front.items()
        }
        return {**environment, **lists, **self.variables}


def make_plan(installed: Installed, configuration: Mapping[str, str] | None = None) -> Plan:
    """What a disk with that record sets. ``configuration`` are the variables of the template that it was made from."""
    settings = [Setting("PATH", f"{ROOT}/bin", in_front=True), Setting(DISK_VARIABLE, ROOT)]
    for language in LANGUAGES:
        where = () if _is_used(language, installed) else language.folders
        settings += [Setting(name, f"{ROOT}/{folder}", True, where) for name, folder in language.in_front]
        settings += [Setting(name, f"{ROOT}/{folder}", False, where) for name, folder in language.variables]
    ours, refused = {one.name: one.value for one in settings}, list[str]()
    wanted: dict[str, str] = {}
    for who, name, value in _wanted(installed, configuration or {}):
        if ours.get(name) == value or name in _OF_SHIMS:
            continue
        if name in ours or is_refused(name, value):
            refused.append(f"{who} wants to set {name}, which a disk may not; it is left as it is")
        else:
            wanted[name] = value
    settings += [Setting(name, value) for name, value in wanted.items()]
    python = installed.active("python")
    version = re.match(r"\d+\.\d+", python.version) if python else None
    return Plan(tuple(settings), tuple(refused), version[0] if version else "")


def environment(
    root: Path, installed: Installed, configuration: Mapping[str, str] | None = None, python: str = ""
) -> Environment:
    """The environment of the disk that is mounted at ``root``; only looks which folders are there.

    Args:
        root: the mount point.
        installed: what is installed there.
        configuration: variables of its template.
        python: version, ``3.11``, of the Python that runs where the disk has none of its own.
    """
    plan = make_plan(installed, configuration)
    in_front: dict[str, list[str]] = {}
    variables: dict[str, str] = {}
    for one in plan.settings:
        if one.where and not any((root / folder).is_dir() for folder in one.where):
            continue
        value = one.value.replace(ROOT, str(root))
        if one.in_front:
            in_front.setdefault(one.name, []).append(value)
        else:
            variables[one.name] = value
    runs, warnings = plan.python or python, list(plan.refused)
    for prefix in find_prefixes(root):
        if prefix.python == runs:
            if (root / prefix.programs).is_dir():
                in_front.setdefault("PATH", []).append(f"{root}/{prefix.programs}")
            in_front.setdefault("PYTHONPATH", []).append(f"{root}/{prefix.modules}")
        else:
            warnings.append(other_python(prefix, runs))
    return Environment(root, {name: tuple(folders) for name, folders in in_front.items()}, variables, tuple(warnings))


def other_python(prefix: Prefix, runs: str) -> str:
    """The line about a prefix whose modules cannot be used."""
    python = f"Python {runs} runs here" if runs else "there is no Python here"
    return f"{prefix.folder} was installed for Python {prefix.python}, but {python}: its packages are not used"


def _is_used(language: Language, installed: Installed) -> bool:
    return any(tool.name in language.tools for tool in installed.tools) or any(
        package.language in language.packages for package in installed.packages
    )


def _wanted(installed: Installed, configuration: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Who wants to set which variable to what, with :data:`ROOT` for the mount point."""
    found = [
        (tool.name, name, _placed(value, tool))
        for tool in installed.tools
        if tool.active
        for name, value in tool.environment.items()
    ]
    return found + [("the template", name, value) for name, value in configuration.items()]


def _placed(value: str, tool: InstalledTool) -> str:
    places = {"{root}": ROOT, "{folder}": f"{ROOT}/{tool.folder}"}
    return re.sub(r"\{root\}|\{folder\}", lambda found: places[found[0]], value)
