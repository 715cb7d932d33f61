"""Recipes: how a tool gets onto a disk."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Any, Final

from portunix_vdisk.platform.errors import BadUsage
from portunix_vdisk.templates.document import parse_document, read_document, refusal
from portunix_vdisk.templates.template import LANGUAGES

KINDS: Final = ("pypi", "npm", "debian", "archive", "package")
"""Where a tool can come from: a wheel, a package of npm, Debian packages, a file by its address, or a package of a
language that is installed like any other of it."""


@dataclass(frozen=True, slots=True)
class Source:
    """One place that a tool can be had from.

    Args:
        kind: one of :data:`KINDS`.
        package: the exact name there; names that look right are often somebody else's.
        packages: further packages that are unpacked with it (``debian``).
        without: packages that are not unpacked although one of them depends on it (``debian``).
        closed: only the packages that are named, none that they depend on (``debian``).
        repository: where the packages lie (``debian``); empty means Debian's own.
        suite: the release (``debian``).
        keyring: file of the keys that sign it (``debian``); empty where nobody's key is known.
        language: whose package it is (``package``).
        address: of the file; ``{version}`` in it is the version (``archive``).
        digests: SHA-256 of that file by version (``archive``).
        versions: the beginnings of versions that it serves; empty means all.
        os: systems that it serves; empty means all.
        cpu: processors that it serves; empty means all.
        folder: the folder in it that becomes the tool's folder; what is outside is left out.
        commands: names of commands and their files, where they are others than the recipe's.
    """

    kind: str
    package: str = ""
    packages: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    closed: bool = False
    repository: str = ""
    suite: str = "bookworm"
    keyring: str = "/usr/share/keyrings/debian-archive-keyring.gpg"
    language: str = ""
    address: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)
    versions: tuple[str, ...] = ()
    os: tuple[str, ...] = ()
    cpu: tuple[str, ...] = ()
    folder: str = ""
    commands: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one tool is installed.

    Args:
        name: the tool's name.
        about: what it is, in a line.
        sources: in the order in which they are tried.
        default: the version, or beginning of one, if nobody asks for another; ``latest`` is the newest.
        aliases: other names of it.
        needs: tools without which it is of no use.
        commands: names of commands and their files, seen from the tool's folder.
        environment: variables that it needs; ``{root}`` is the disk's mount point, ``{folder}`` the tool's folder.
        files: what is written into its folder besides.
    """

    name: str
    about: str
    sources: tuple[Source, ...]
    default: str = "latest"
    aliases: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    commands: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


def _inside(place: str, value: str, error: Callable[[str, str], None]) -> None:
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or not path.parts or not value.isprintable():
        error(place, f"{value!r} is no place in the tool's folder")


_TEXT: Final = {"type": "string", "minlength": 1, "maxlength": 300}
_TEXTS: Final = {"type": "list", "schema": _TEXT}
_NAME: Final = {"type": "string", "regex": "[a-z0-9][a-z0-9+._-]*"}
_NAMES: Final = {"type": "list", "schema": _NAME}
_PLACE: Final = {"type": "string", "check_with": _inside}
_COMMANDS: Final = {
    "type": "dict",
    "keysrules": {"type": "string", "regex": "[A-Za-z0-9_][A-Za-z0-9+._-]*"},
    "valuesrules": _PLACE,
}
_SOURCE: Final = {
    "kind": {"type": "string", "allowed": KINDS, "required": True},
    "package": _TEXT,
    "packages": _TEXTS,
    "without": _TEXTS,
    "closed": {"type": "boolean"},
    "repository": {"type": "string", "regex": "https?://[!-~]+"},
    "suite": _TEXT,
    "keyring": {"type": "string", "regex": "(/[!-~]+)?"},
    "language": {"type": "string", "allowed": LANGUAGES},
    "address": {"type": "string", "regex": "https://[!-~]+"},
    "digests": {"type": "dict", "keysrules": _TEXT, "valuesrules": {"type": "string", "regex": "[0-9a-f]{64}"}},
    "versions": _TEXTS,
    "os": {"type": "list", "schema": {"type": "string", "allowed": ("linux", "macos", "windows")}},
    "cpu": {"type": "list", "schema": {"type": "string", "allowed": ("x86_64", "aarch64")}},
    "folder": _PLACE,
    "commands": _COMMANDS,
}
_SCHEMA: Final = {
    "name": {**_NAME, "required": True},
    "about": {**_TEXT, "required": True},
    "default": _TEXT,
    "aliases": _NAMES,
    "needs": _NAMES,
    "commands": _COMMANDS,
    "environment": {
        "type": "dict",
        "keysrules": {"type": "string", "regex": "[A-Za-z_][A-Za-z0-9_]*"},
        "valuesrules": {"type": "string"},
    },
    "files": {"type": "dict", "keysrules": _PLACE, "valuesrules": {"type": "string"}},
    "sources": {"type": "list", "minlength": 1, "required": True, "schema": {"type": "dict", "schema": _SOURCE}},
}
_NEEDED: Final = {"pypi": "package", "npm": "package", "debian": "package", "archive": "address", "package": "language"}


def read_recipe(text: bytes, origin: str) -> Recipe:
    """The recipe in a file. Raises ``BadUsage``: it says which line and key, and what was expected."""
    found = read_document(text, _SCHEMA, origin)
    _, lines = parse_document(text, origin)
    for number, one in enumerate(found["sources"]):
        needed = _NEEDED[one["kind"]]
        if not one.get(needed):
            place = ("sources", number)
            raise refusal(origin, lines[place], (*place, needed), f"required by a source of kind {one['kind']}")
    sources = tuple(Source(**_tuples(one)) for one in found.pop("sources"))
    return Recipe(sources=sources, **_tuples(found))


@cache
def built_in_recipes() -> Mapping[str, Recipe]:
    """The recipes that come with the program, by name and by every other name."""
    folder = files("portunix_vdisk.templates") / "recipes"
    known: dict[str, Recipe] = {}
    for entry in sorted(folder.iterdir(), key=lambda one: one.name):
        if entry.name.endswith(".yaml"):
            recipe = read_recipe(entry.read_bytes(), entry.name)
            known |= dict.fromkeys((recipe.name, *recipe.aliases), recipe)
    return known


def find_recipe(name: str) -> Recipe:
    """The recipe of a tool. Raises ``BadUsage`` that names the nearest one."""
    known = built_in_recipes()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    raise BadUsage(
        f"there is no tool {name!r}" + (f"; did you mean {near[0]}?" if near else ""),
        state="nothing was done",
        hint=f"tools: {', '.join(sorted({one.name for one in known.values()}))}",
    )


def _tuples(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
