"""Templates: what is on a new disk, as a person writes it in YAML."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from cerberus import Validator

from portunix_vdisk.platform.errors import BadUsage
from portunix_vdisk.templates.document import parse_document, read_document, refusal

FILE_NAME: Final = "vdisk-templates.yaml"
"""The person's own templates, in the state folder."""
BUILT_IN: Final = "built-in"
"""What stands for the file of the templates that come with the program."""
LANGUAGES: Final = ("npm", "pip", "go", "cargo")
"""Who installs a package that says so: ``pip:pandas``."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A program on the disk. An empty version is the recipe's own choice, an empty source any that can be reached."""

    name: str
    version: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Package:
    """A library of a language. An empty language is found out by name."""

    name: str
    version: str = ""
    language: str = ""


@dataclass(frozen=True, slots=True)
class Script:
    """Shell commands that run once, when everything else is installed."""

    name: str
    run: str
    network: bool = False
    """Whether it may reach the network."""
    timeout: int = 600
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Template:
    """One kind of disk."""

    key: str
    name: str
    description: str
    size: str
    """As it is written; for example 20GB."""
    origin: str
    """The file that it stands in, or :data:`BUILT_IN`."""
    tools: tuple[Tool, ...] = ()
    packages: tuple[Package, ...] = ()
    scripts: tuple[Script, ...] = ()
    configuration: Mapping[str, str] = field(default_factory=dict)
    """Variables of the environment that activation sets."""


_Error = Callable[[str, str], None]
_VERSION = r"[0-9A-Za-z][0-9A-Za-z.+_~-]*"
_NOT_YOURS = frozenset({"PATH", "HOME", "USER", "SHELL", "IFS", "PYTHONHOME", "GOROOT"})


def _fits(pattern: str, what: str) -> dict[str, Any]:
    """A schema of text that matches as a whole; ``what`` says what is expected instead."""
    known = re.compile(pattern)

    def check(place: str, value: str, error: _Error) -> None:
        if not known.fullmatch(value) or len(value) > 200:
            error(place, f"{value!r} is no {what}")

    return {"type": "string", "check_with": check}


def _line(place: str, value: str, error: _Error) -> None:
    if not value.strip() or len(value) > 200 or not value.isprintable():
        error(place, "a line of 1 to 200 printable characters is expected")


def _variable(place: str, value: str, error: _Error) -> None:
    if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", value):
        error(place, f"{value!r} is no name of a variable of the environment")
    elif value.upper() in _NOT_YOURS or value.upper().startswith(("LD_", "DYLD_")):
        error(place, f"{value} is set by activation itself")


def _command(place: str, value: str, error: _Error) -> None:
    if not value.strip() or "\0" in value:
        error(place, "commands of a shell are expected")


def _named(text: object) -> object:
    """``name@version`` as a mapping; a scope of npm keeps its ``@``."""
    if not isinstance(text, str):
        return text
    name, at, version = text[1:].partition("@")
    return {"name": text[:1] + name, **({"version": version} if at else {})}


def _package(text: object) -> object:
    """The same with the language in front: ``npm:react@18``."""
    language, colon, rest = text.partition(":") if isinstance(text, str) else ("", "", "")
    named = _named(rest if colon else text)
    return {**named, "language": language} if colon and isinstance(named, dict) else named


_TEXT = {"type": "string", "check_with": _line}
_TOOL: Final = {
    "name": {**_fits("[a-z0-9][a-z0-9+._-]*", "name of a tool, such as nodejs or nodejs@18"), "required": True},
    "version": _fits(_VERSION, "version, such as 18 or 18.20.1"),
    "source": _fits("[a-z]+|https://[!-~]+", "source: portunix, debian, npm, pypi … or an https address"),
}
_PACKAGE: Final = {
    "name": {
        **_fits("@?[0-9A-Za-z][!#-~]*", "name of a package, such as react, @types/node or pip:pandas"),
        "required": True,
    },
    "version": _fits(f"[v^~=<>]*{_VERSION}", "version, such as 2.1.0"),
    "language": {"type": "string", "allowed": LANGUAGES},
}
_PACKAGES: Final = {"type": "list", "schema": {"type": "dict", "coerce": _package, "schema": _PACKAGE}}
_SCRIPT: Final = {
    "name": {**_TEXT, "required": True},
    "run": {"type": "string", "check_with": _command, "required": True},
    "network": {"type": "boolean"},
    "timeout": {"type": "integer", "min": 1, "max": 86400},
}
_KEY: Final = _fits("[a-z0-9][a-z0-9_-]{0,63}", "key of a template: small letters, digits, _ and -")
_SCHEMA: Final = {
    "templates": {
        "type": "dict",
        "required": True,
        "keysrules": _KEY,
        "valuesrules": {
            "type": "dict",
            "schema": {
                "name": _TEXT,
                "description": _TEXT,
                "extends": _KEY,
                "size": _fits(r"[0-9.]+ ?[KMGT]?i?B?", "size, such as 20GB"),
                "tools": {"type": "list", "schema": {"type": "dict", "coerce": _named, "schema": _TOOL}},
                "preinstalled_packages": _PACKAGES,
                "packages": _PACKAGES,
                "scripts": {"type": "list", "schema": {"type": "dict", "schema": _SCRIPT}},
                "configuration": {
                    "type": "dict",
                    "keysrules": {"type": "string", "check_with": _variable},
                    "valuesrules": {"type": "string"},
                },
            },
        },
    },
}


def read_package(text: str) -> Package:
    """A package, or a tool, as it is written on a command line: ``react``, ``nodejs@18``, ``pip:pandas``.

    Raises ``BadUsage``.
    """
    validator = Validator({"package": {"type": "dict", "coerce": _package, "schema": _PACKAGE}})
    if not validator.validate({"package": text}):
        problems = next(iter(validator.errors["package"][0].values()))
        raise BadUsage(f"{text!r}: {problems[0]}", state="nothing was done")
    return Package(**validator.document["package"])


def built_in_templates() -> dict[str, Template]:
    """The templates that come with the program, by key."""
    text = (files("portunix_vdisk.templates") / "builtin.yaml").read_bytes()
    return read_templates(text, BUILT_IN, {})


def all_templates(own: Path) -> dict[str, Template]:
    """Ours with the person's own on top, which need not exist. Raises ``BadUsage``: their file is not right."""
    ours = built_in_templates()
    try:
        text = own.read_bytes()
    except FileNotFoundError:
        return ours
    except OSError as error:
        raise BadUsage(f"cannot read {own}: {error.strerror}", state="nothing was done") from error
    return {**ours, **read_templates(text, str(own), ours)}


def find_template(known: Mapping[str, Template], key: str) -> Template:
    """The template of that key. Raises ``BadUsage`` that names the nearest one."""
    if key in known:
        return known[key]
    near = difflib.get_close_matches(key, known, n=1)
    raise BadUsage(
        f"there is no template {key!r}" + (f"; did you mean {near[0]}?" if near else ""),
        state="nothing was done",
        hint="portunix vdisk template list shows them",
    )


def read_templates(text: bytes, origin: str, known: Mapping[str, Template]) -> dict[str, Template]:
    """The templates of a file, each with what it extends: one of the same file, or of those that are known.

    One that has the key of a known one and extends it builds on that one.

    Raises ``BadUsage``: it says which line and key, what was expected, and what was probably meant.
    """
    found = read_document(text, _SCHEMA, origin)["templates"]
    _, lines = parse_document(text, origin)
    made: dict[str, Template] = {}

    def make(key: str, below: Sequence[str]) -> Template:
        if key in made:
            return made[key]
        given = found[key]
        parent = given.get("extends")
        base = Template(key, "", "", "", origin)
        if parent is not None:
            place = ("templates", key, "extends")
            if parent in found and parent not in (key, *below):
                base = make(parent, (*below, key))
            elif parent in known:
                base = known[parent]
            elif parent in (key, *below):
                raise refusal(origin, lines[place], place, f"{' -> '.join((*below, key, parent))} is a circle")
            else:
                near = difflib.get_close_matches(parent, [*found, *known], n=1)
                more = f"; did you mean {near[0]}?" if near else ""
                raise refusal(origin, lines[place], place, f"there is no template {parent!r}{more}")
        made[key] = _on_top(base, key, origin, given, lines)
        return made[key]

    for key in found:
        make(key, ())
    return {key: made[key] for key in found}


def _on_top(
    base: Template, key: str, origin: str, given: Mapping[str, Any], lines: Mapping[tuple[str | int, ...], int]
) -> Template:
    """What a template says, on top of the one that it extends."""
    for needed in ("name", "size"):
        if not given.get(needed) and not getattr(base, needed):
            raise refusal(origin, lines["templates", key], ("templates", key, needed), "required")
    names = [one["name"] for one in given.get("tools", ())]
    for number, name in enumerate(names):
        if name in names[:number]:
            place = ("templates", key, "tools", number)
            raise refusal(origin, lines[place], place, f"{name} is here twice; a template has one version of a tool")
    tools = {one.name: one for one in base.tools} | {one["name"]: Tool(**one) for one in given.get("tools", ())}
    packages = {(one.language, one.name): one for one in base.packages}
    for one in (*given.get("preinstalled_packages", ()), *given.get("packages", ())):
        package = Package(**one)
        packages[package.language, package.name] = package
    return Template(
        key,
        given.get("name", base.name),
        given.get("description", base.description),
        given.get("size", base.size),
        origin,
        tuple(tools.values()),
        tuple(packages.values()),
        (*base.scripts, *(Script(**one) for one in given.get("scripts", ()))),
        {**base.configuration, **given.get("configuration", {})},
    )
