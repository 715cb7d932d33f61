"""What is installed on a disk, as the disk itself remembers it: ``.vdisk/installed.json``.

    {"version": 1, "tools": [...], "packages": [...]}

Each entry has the fields of :class:`InstalledTool` or :class:`InstalledPackage`. All paths are relative, with slashes:
the disk is mounted elsewhere tomorrow. The file comes with a disk that anybody may have made, so it is not trusted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

from portunix_vdisk.platform.errors import Corrupt, Failed
from portunix_vdisk.steps.durable import fsync_folder, replace_text
from portunix_vdisk.steps.install.tool import Artifact, Form, Plan

STATE: Final = ".vdisk"
"""Folder on the disk of what this program keeps there."""
FILE: Final = "installed.json"
VERSION: Final = 1
_LARGEST: Final = 4 << 20
_NAME: Final = re.compile(r"[A-Za-z0-9@][A-Za-z0-9@/+._~-]{0,199}")
_COMMAND: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9+._-]{0,99}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


@dataclass(frozen=True, slots=True)
class InstalledTool:
    """One version of a tool.

    Args:
        name: the recipe's name.
        version: exact.
        source: where it came from: ``pypi``, ``npm``, ``debian``, ``archive`` …
        folder: what it lies in, seen from the disk's root: ``tools/nodejs/20.20.2``.
        commands: name of each command, and its file, seen from ``folder``.
        environment: variables that the tool needs; in their values ``{root}`` is the disk's mount point, ``{folder}``
            the tool's folder.
        artifacts: every file that was fetched for it, so that exactly these can be fetched again.
        files: what was written into its folder besides.
        active: whether this is the version that the commands mean.
        asked: the version, or the beginning of one, that somebody asked for; empty if none was.
    """

    name: str
    version: str
    source: str
    folder: str
    commands: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    artifacts: tuple[Artifact, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    active: bool = True
    asked: str = ""

    @staticmethod
    def of(plan: Plan, asked: str) -> InstalledTool:
        """What a plan becomes when it is carried out."""
        texts = dict(plan.commands), dict(plan.environment)
        return InstalledTool(
            plan.name, plan.version, plan.source, plan.folder, *texts, plan.artifacts, dict(plan.files), True, asked
        )

    @property
    def plan(self) -> Plan:
        """What has to be done to have the same again."""
        return Plan(self.name, self.version, self.source, self.artifacts, self.commands, self.environment, self.files)


@dataclass(frozen=True, slots=True)
class InstalledPackage:
    """A library of a language that was asked for by name (what it needs itself stands in the language's own files).

    Args:
        language: whose package it is.
        name: its name.
        version: exact.
        asked: the version or range that somebody asked for; empty if none was.
        extra: what of it is wanted besides: ``[excel]``.
    """

    language: str
    name: str
    version: str
    asked: str = ""
    extra: str = ""


@dataclass(frozen=True, slots=True)
class Installed:
    """Everything that is installed on one disk."""

    tools: tuple[InstalledTool, ...] = ()
    packages: tuple[InstalledPackage, ...] = ()

    def active(self, name: str) -> InstalledTool | None:
        """The version of a tool that its commands mean."""
        return next((one for one in self.tools if one.name == name and one.active), None)

    def with_tool(self, tool: InstalledTool) -> Installed:
        """With that version in place of an equal one; if it is active, no other version of it is any more."""
        others = [one for one in self.tools if (one.name, one.version) != (tool.name, tool.version)]
        if tool.active:
            others = [replace(one, active=False) if one.name == tool.name else one for one in others]
        ordered = sorted((*others, tool), key=lambda one: (one.name, one.version))
        return Installed(tuple(ordered), self.packages)

    def without_tool(self, name: str, version: str) -> Installed:
        """Without that version of a tool."""
        kept = (one for one in self.tools if (one.name, one.version) != (name, version))
        return Installed(tuple(kept), self.packages)

    def of(self, language: str) -> tuple[InstalledPackage, ...]:
        """The packages of one language."""
        return tuple(one for one in self.packages if one.language == language)

    def with_packages(self, language: str, packages: Iterable[InstalledPackage]) -> Installed:
        """With these packages of a language in place of all that it had."""
        kept = [*(one for one in self.packages if one.language != language), *packages]
        return Installed(self.tools, tuple(sorted(kept, key=lambda one: (one.language, one.name))))


def read_installed(root: Path) -> Installed:
    """What is installed on the disk that is mounted at ``root``; nothing if the file is not there.

    Raises ``Corrupt``: it is no such file, or names something outside the disk. ``OSError``: it cannot be read.
    """
    path = root / STATE / FILE
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST + 1)
    except FileNotFoundError:
        return Installed()
    try:
        if len(text) > _LARGEST:
            raise ValueError("it is too long")
        content = json.loads(text)
        if content.pop("version") != VERSION:
            raise ValueError("its version is not known")
        return parse_installed(content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Corrupt(
            f"{path} does not say what is installed: {error}",
            state="nothing was changed",
            hint="install the tools again after moving that file away",
        ) from error


def parse_installed(content: Any) -> Installed:
    """What :func:`installed_json` made. Raises ``ValueError``, ``KeyError``, ``TypeError``, ``AttributeError``."""
    return Installed(tuple(map(_tool, content["tools"])), tuple(map(_package, content["packages"])))


def installed_json(installed: Installed) -> dict[str, Any]:
    """What is installed, as JSON has it."""
    return {
        "tools": [asdict(one) for one in installed.tools],
        "packages": [asdict(one) for one in installed.packages],
    }


def is_name(text: str) -> bool:
    """Whether a tool, a package or a version can be called that."""
    return bool(_NAME.fullmatch(text)) and ".." not in PurePosixPath(text).parts


def write_installed(root: Path, installed: Installed) -> None:
    """Make it what the disk remembers, durably. Raises ``OSError``; ``Failed`` for what could not be read again."""
    folder = root / STATE
    folder.mkdir(exist_ok=True)
    text = json.dumps({"version": VERSION, **installed_json(installed)}, indent=1, sort_keys=True) + "\n"
    try:
        parse_installed(json.loads(text))
    except (ValueError, TypeError) as error:
        raise Failed(f"what was installed cannot be remembered: {error}", state="the record was not changed") from error
    replace_text(folder / FILE, text)
    fsync_folder(folder)


def _tool(given: Any) -> InstalledTool:
    artifacts = tuple(_artifact(one) for one in given.pop("artifacts", ()))
    tool = InstalledTool(artifacts=artifacts, **given)
    for text in (tool.name, tool.version, tool.source, *filter(None, [tool.asked])):
        _check(_NAME, text)
    if tool.folder != f"tools/{tool.name}/{tool.version}":
        raise ValueError(f"{tool.folder!r} is no place of a tool")
    _inside(tool.folder)
    for name, value in tool.commands.items():
        _check(_COMMAND, name)
        _inside(value)
    for name, value in tool.environment.items():
        _check(_VARIABLE, name)
        if not isinstance(value, str) or not value.isprintable():
            raise ValueError(f"{value!r} is no value of a variable")
    for name, value in tool.files.items():
        _inside(name)
        if not isinstance(value, str):
            raise ValueError(f"{value!r} is no text")
    if not isinstance(tool.active, bool):
        raise ValueError(f"{tool.active!r} is neither true nor false")
    return tool


def _artifact(given: Any) -> Artifact:
    one = Artifact(**{**given, "form": Form(given["form"])})
    if not re.fullmatch("https?://[!-~]+", one.address):
        raise ValueError(f"{one.address!r} is no address")
    if not re.fullmatch("sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", one.digest):
        raise ValueError(f"{one.digest!r} is no digest")
    if type(one.size) is not int or one.size < 0 or not isinstance(one.helper, bool):
        raise ValueError(f"{one.address} has no right size")
    if one.folder:
        _inside(one.folder)
    return one


def _package(given: Any) -> InstalledPackage:
    package = InstalledPackage(**given)
    for text in (package.language, package.name, package.version):
        _check(_NAME, text)
    if not (isinstance(package.asked, str) and package.asked.isprintable() and package.asked[:1] != "-"):
        raise ValueError(f"{package.asked!r} is no version")
    if not re.fullmatch(r"(\[[A-Za-z0-9_., -]*\])?", package.extra):
        raise ValueError(f"{package.extra!r} is nothing that a package has")
    return package


def _check(pattern: re.Pattern[str], text: str) -> None:
    if not pattern.fullmatch(text) or ".." in PurePosixPath(text).parts:
        raise ValueError(f"{text!r} is not expected there")


def _inside(text: str) -> None:
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or not path.parts or not text.isprintable():
        raise ValueError(f"{text!r} is no place on the disk")
