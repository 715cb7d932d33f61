"""The rules by which ``export --exclude-cache`` leaves files out: ours, and on top of them the person's own."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from portunix_vdisk.platform.errors import BadUsage
from portunix_vdisk.templates.document import parse_document, read_document, refusal

FILE_NAME: Final = "vdisk-excludes.yaml"
"""The person's own rules, in the state folder."""


@dataclass(frozen=True, slots=True)
class ExcludeRule:
    """One kind of files that can be made again.

    Args:
        name: unique; what reports call it.
        about: what it is, for people.
        patterns: lines of a ``.gitignore`` at the top of the disk.
        beside: names, with wildcards; where there are any, at least one stands in the same folder.
        holds: the same for what stands in the folder that matched.
        lacks: names, with wildcards, of which none stands in it.
    """

    name: str
    about: str
    patterns: tuple[str, ...]
    beside: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Excludes:
    """All rules in order of their names, and patterns of what always stays."""

    rules: tuple[ExcludeRule, ...]
    keep: tuple[str, ...] = ()


def _pattern(field: str, value: str, error: Callable[[str, str], None]) -> None:
    """Refuse patterns that mean nothing, or everything."""
    if not value.strip("/*. ") or any(part in (".", "..") for part in value.split("/")):
        error(field, f"{value!r} would match everything, or nothing")
    elif value.endswith("**/"):
        error(field, f"{value!r}: name the folder that goes, without **/ at the end")
    elif value.startswith(("!", "#")):
        error(field, f"{value!r}: what stays is listed under keep")
    elif not value.isprintable() or value != value.strip():
        error(field, f"{value!r} has blanks at its ends or control characters")


def _name(field: str, value: str, error: Callable[[str, str], None]) -> None:
    if not value or "/" in value or value in (".", "..") or not value.isprintable():
        error(field, f"{value!r} is no name of a file")


_PATTERNS = {"type": "list", "schema": {"type": "string", "check_with": _pattern}}
_NAMES = {"type": "list", "schema": {"type": "string", "check_with": _name}, "minlength": 1}
_SCHEMA: Final = {
    "rules": {
        "type": "dict",
        "keysrules": {"type": "string", "regex": "[a-z0-9][a-z0-9-]{0,39}"},
        "valuesrules": {
            "type": "dict",
            "schema": {
                "about": {"type": "string"},
                "patterns": {**_PATTERNS, "required": True, "minlength": 1},
                "beside": _NAMES,
                "holds": _NAMES,
                "lacks": _NAMES,
            },
        },
    },
    "keep": _PATTERNS,
}


def read_excludes(own: Path) -> Excludes:
    """Our rules with the person's own on top, which need not exist.

    Raises ``BadUsage``: their file can't be read, or is not right; says where.
    """
    shipped = (files("portunix_vdisk.templates") / "excludes.yaml").read_bytes()
    found = dict(read_document(shipped, _SCHEMA, "excludes.yaml")["rules"])
    keep: list[str] = []
    try:
        text = own.read_bytes()
    except FileNotFoundError:
        text = b""
    except OSError as error:
        raise BadUsage(f"cannot read {own}: {error.strerror}", state="nothing was done") from error
    for name, rule in _on_top(text, found.keys(), str(own), keep).items():
        if rule is None:
            del found[name]
        else:
            found[name] = rule
    rules = [
        ExcludeRule(
            name,
            rule.get("about", ""),
            tuple(rule["patterns"]),
            tuple(rule.get("beside", ())),
            tuple(rule.get("holds", ())),
            tuple(rule.get("lacks", ())),
        )
        for name, rule in sorted(found.items())
    ]
    return Excludes(tuple(rules), tuple(keep))


def _on_top(text: bytes, known: Any, name: str, keep: list[str]) -> dict[str, dict[str, Any] | None]:
    """The rules of the person's file; None for those that they switched off."""
    content, lines = parse_document(text, name)
    rules = content.get("rules")
    switched = [key for key, rule in rules.items() if rule is False] if isinstance(rules, dict) else []
    for rule in switched:
        if rule not in known:
            near = difflib.get_close_matches(rule, known, n=1)
            more = f"; did you mean {near[0]}?" if near else ""
            raise refusal(name, lines["rules", rule], ("rules", rule), f"there is no such rule to switch off{more}")
    without = tuple(("rules", rule) for rule in switched)
    found = read_document(text, _SCHEMA, name, without)
    keep += found.get("keep", [])
    return {**dict.fromkeys(switched), **found.get("rules", {})}
